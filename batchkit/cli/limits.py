"""The command about what is published: limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchkit.cli.printer import Face, fold, table
from batchkit.text import plural

if TYPE_CHECKING:
    from batchkit.config.facts import Facts, Feature, Limit, Quota

TYPES = ("GlobalBatch", "DataZoneBatch")
FactsFile = Annotated[
    Path | None,
    typer.Option("--facts", help="A file of facts that overrides ours. [default: facts.toml beside the targets file]"),
]


def limits(
    face: Face,
    model: Annotated[
        str | None, typer.Argument(help="A model, or a deployment whose name speaks of one.", metavar="MODEL")
    ] = None,
    region: Annotated[str | None, typer.Option("--region", help="Only what this region has: swedencentral, …")] = None,
    facts: FactsFile = None,
) -> None:
    """What is published of limits, quotas, models, regions and api-versions, with dates; asks nothing of the service.

    Example: batchkit limits gpt-4.1 --region swedencentral
    """
    from batchkit.config.facts import load_facts

    found = load_facts(facts)
    name = _named(found, model)
    place = region.lower().replace(" ", "") if region else None
    warnings = _warnings(found, name, place)
    document = _document(found, name, place, warnings)
    face.data(document, _model(found, name, place) if name else _all(found, place))
    face.say(*(f"warning: {words}" for words in warnings))
    if warnings:
        face.next("batchkit limits  # all models and types there are in the table")


def _named(facts: Facts, model: str | None) -> str | None:
    if model is None:
        return None
    return model if model in facts.models else facts.model_of(model) or model


def _warnings(facts: Facts, model: str | None, region: str | None) -> list[str]:
    """What the table does not know, or says is not to be had: never a reason to refuse."""
    seen = f"the table is of {facts.dated(*facts.offers.values())} and may have aged"
    if model and model not in facts.models:
        return [f"{model} is not in the table; {seen}"]
    words = []
    if region and region not in facts.all_regions:
        words.append(f"the region {region} is not in the table; {seen}")
    elif model and not facts.offered(model, region):
        where = f" in {region}" if region else ""
        words.append(f"{model} is not offered for batches{where}, as far as is published; {seen}")
    return words


def _document(facts: Facts, model: str | None, region: str | None, warnings: list[str]) -> dict[str, Any]:
    """The document of `--json`: the facts about a model and a region, or all."""
    offers = {
        name: offer
        for name, offer in facts.offers.items()
        if (model is None or model in offer.models) and (region is None or region in offer.regions)
    }
    quotas = {name: quota for name, quota in facts.quotas.items() if model is None or model in quota.models}
    models = {name: entry for name, entry in facts.models.items() if model in (None, name)}
    families = {name: entry for name, entry in facts.families.items() if name in {m.family for m in models.values()}}
    kinds: dict[str, Mapping[str, Any]] = {
        "limits": facts.limits,
        "features": facts.features,
        "models": models,
        "families": families,
        "offers": offers,
        "regions": facts.regions,
        "quotas": quotas,
        "sources": facts.sources,
    }
    shown = {kind: {name: asdict(entry) for name, entry in entries.items()} for kind, entries in kinds.items()}
    return {"schema": "batchkit/limits@1", "model": model, "region": region, "warnings": warnings, **shown}


def _all(facts: Facts, region: str | None) -> list[str]:
    names = [name for name in facts.models if facts.offered(name, region)]
    return [
        *table(("LIMIT", "UNIT", "", "AS OF"), [_limit(facts, limit) for limit in facts.limits.values()], folds=[2]),
        "",
        *table(
            ("API", "FROM", "V1", "", "AS OF"),
            [_feature(facts, feature) for feature in facts.features.values()],
            folds=[1, 3],
        ),
        "",
        *table(("MODEL", "VERSIONS", *TYPES), [_offers(facts, name, region) for name in names]),
        "",
        *_quotas(facts, list(facts.quotas.values())),
        "",
        *_sources(facts),
    ]


def _sources(facts: Facts) -> list[str]:
    """Where the facts are from, each address on a line of its own, since none fits beside anything."""
    found = facts.sources
    head, *lines = table(("SOURCE", "DATE", ""), [(name, str(item.date), item.note) for name, item in found.items()])
    addresses = [f"  {item.url}" for item in found.values()]
    return [head, *(line for pair in zip(lines, addresses, strict=True) for line in pair)]


def _model(facts: Facts, model: str, region: str | None) -> list[str]:
    known = facts.models.get(model)
    if known is None:
        return []
    words = [
        f"{model}: {', '.join(known.versions) or 'versions are not published here'}{known.note and '; '}{known.note}"
    ]
    for offer in facts.offered(model, region):
        where = region or ", ".join(offer.regions)
        note = f" ({offer.note})" if offer.note else ""
        words.append(f"  {offer.type} in {where}{note}, as of {facts.dated(offer)}")
    if region in facts.all_regions:
        fast = [name for name, group in facts.regions.items() if region in group.names]
        words.append(
            f"  over quota a batch is refused {'at once' if 'fail_fast' in fast else 'after validation'} there"
        )
    if family := facts.refusals(model):
        if family.refuses:
            words.append(f"  refuses {', '.join(family.refuses)}, as of {facts.dated(family)}")
        words += [f"  instead of {key}: {other}" for key, other in family.instead.items()]
    if known.urls:
        words.append(f"  takes {', '.join(known.urls)} only, as of {facts.dated(known)}")
    if known.newer:
        feature = facts.features["newer_models"]
        words.append(
            f"  an api-version before {feature.since} may not serve it; v1 is advised, as of {facts.dated(feature)}"
        )
    folded = [line for line in words for line in fold(line)]
    quotas = [quota for quota in facts.quotas.values() if model in quota.models]
    return [*folded, "", *_quotas(facts, quotas)] if quotas else folded


def _limit(facts: Facts, limit: Limit) -> tuple[str, ...]:
    value = f"{limit.value:,}" if isinstance(limit.value, int) else limit.value
    return value, limit.unit, limit.about, facts.dated(limit)


def _feature(facts: Facts, feature: Feature) -> tuple[str, ...]:
    since = feature.since + ("-preview and later previews" if feature.previews else "")
    name = next(name for name, known in facts.features.items() if known is feature)
    return name, since, "yes" if feature.v1 else "no", feature.about, facts.dated(feature)


def _offers(facts: Facts, model: str, region: str | None) -> tuple[str, ...]:
    """A model's row: in how many regions it is to be had by each type, or whether in the one that is asked about."""
    counts = [sum(len(o.regions) for o in facts.offered(model, region) if o.type == kind) for kind in TYPES]
    there = [plural(count, "region") if region is None and count else "yes" if count else "no" for count in counts]
    return model, ", ".join(facts.models[model].versions), *there


def _quotas(facts: Facts, quotas: list[Quota]) -> list[str]:
    """Enqueued tokens by tier."""
    from batchkit.config.facts import TIERS

    dates = sorted({facts.dated(quota) for quota in quotas})
    rows = [
        (", ".join(quota.models), quota.type, *(_tokens(getattr(quota, tier)) for tier in TIERS), facts.dated(quota))
        for quota in quotas
    ]
    header = ("ENQUEUED TOKENS", "TYPE", *(tier.upper().replace("_", " ") for tier in TIERS), "AS OF")
    if len(dates) == 1:  # they need no column
        header, rows = (f"{header[0]}, AS OF {dates[0]}", *header[1:-1]), [row[:-1] for row in rows]
    return table(header, rows, folds=[header.index("CREDIT CARD"), 0])


def _tokens(count: int | None) -> str:
    """Tokens as the pages write them: 5B, 200M, 90K; none."""
    if count is None:
        return "none"
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return str(count)
