"""What was published about the service, as data with dates: limits, models, regions, quotas, what an api-version has.

The package's own table is `facts.toml`. It ages, so nothing is refused on its word alone, whoever quotes it says its
date, and a file of the user's (`facts.toml` beside the targets file, or `--facts FILE`) overrides it entry by entry. It
is read when it is first asked for, since few commands do.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from batchkit.config.target import Dialect, config_file
from batchkit.disk import reading
from batchkit.errors import ConfigError

TIERS = ("enterprise", "default", "credit_card", "msdn", "free")
"""The kinds of subscription that quotas are given for."""


@dataclass(frozen=True, slots=True)
class Source:
    """The page that a fact stands on, as it was at a date."""

    date: date
    url: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of the service, in a unit."""

    value: int | str
    unit: str
    about: str
    source: str


@dataclass(frozen=True, slots=True)
class Feature:
    """What an API has: dated versions from `since` on, only previews of them where `previews`, and `v1`."""

    since: str
    previews: bool
    v1: bool
    about: str
    source: str

    def known(self, dialect: Dialect, api_version: str | None) -> bool:
        """Whether it is to be had through this dialect and version."""
        if dialect != "dated":
            return self.v1
        version = api_version or ""
        return version >= self.since and (version.endswith("-preview") or not self.previews)


@dataclass(frozen=True, slots=True)
class Model:
    """A model by its name. `newer` ones may need `features.newer_models`; `urls` are all it takes, where not both."""

    source: str
    versions: list[str] = field(default_factory=list)
    family: str = ""
    newer: bool = False
    urls: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Parameters that the models of a family refuse, and what stands `instead` of some."""

    source: str
    refuses: list[str]
    instead: dict[str, str]


@dataclass(frozen=True, slots=True)
class Offer:
    """Models that deployments of a `type` may have in some regions."""

    type: str
    models: list[str]
    regions: list[str]
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions that have something in common."""

    names: list[str]
    source: str


@dataclass(frozen=True, slots=True)
class Quota:
    """The enqueued tokens that a subscription may have for a model; None where it has none."""

    type: str
    models: list[str]
    source: str
    enterprise: int | None = None
    default: int | None = None
    credit_card: int | None = None
    msdn: int | None = None
    free: int | None = None


@dataclass(frozen=True)
class Facts:
    """All facts, by name."""

    sources: Mapping[str, Source]
    limits: Mapping[str, Limit]
    features: Mapping[str, Feature]
    models: Mapping[str, Model]
    families: Mapping[str, Family]
    offers: Mapping[str, Offer]
    regions: Mapping[str, Regions]
    quotas: Mapping[str, Quota]

    def number(self, limit: str) -> int:
        """A limit as a number."""
        value = self.limits[limit].value
        assert isinstance(value, int), limit
        return value

    def model_of(self, name: str) -> str | None:
        """The model that a deployment's name speaks of: the longest that stands in it as a word, or None."""
        found = self._words.search(name.lower())
        return found.group() if found else None

    def refusals(self, model: str) -> Family | None:
        """What the model's family refuses, where it has one."""
        known = self.models.get(model)
        return self.families.get(known.family) if known else None

    def offered(self, model: str, region: str | None = None) -> list[Offer]:
        """Where a model may be deployed for batches, or how in one region."""
        return [
            offer
            for offer in self.offers.values()
            if model in offer.models and (region is None or region in offer.regions)
        ]

    @property
    def all_regions(self) -> set[str]:
        """Every region named anywhere."""
        return {name for offer in self.offers.values() for name in offer.regions} | {
            name for group in self.regions.values() for name in group.names
        }

    def dated(self, *entries: Any) -> str:
        """The date of the newest page that these facts stand on."""
        return max(self.sources[entry.source].date for entry in entries).isoformat()

    @cached_property
    def _words(self) -> re.Pattern[str]:
        names = sorted(map(re.escape, self.models), key=len, reverse=True)
        return re.compile(rf"(?<![a-z0-9.])(?:{'|'.join(names)})(?![a-z0-9]|\.\d)")


_KINDS: dict[str, type] = {
    "sources": Source,
    "limits": Limit,
    "features": Feature,
    "models": Model,
    "families": Family,
    "offers": Offer,
    "regions": Regions,
    "quotas": Quota,
}
_OWN = "facts-file"


def load_facts(file: Path | None = None, *, env: Mapping[str, str] | None = None) -> Facts:
    """The package's facts with the user's over them: those of `file`, of BATCHKIT_FACTS, or of `facts.toml` in the
    config directory. Raises ConfigError that says what is wrong with the user's file."""
    env = os.environ if env is None else env
    tables = tomllib.loads(resources.files("batchkit.config").joinpath("facts.toml").read_text("utf-8"))
    if file is None and env.get("BATCHKIT_FACTS"):
        file = Path(env["BATCHKIT_FACTS"])
    beside = config_file(env).with_name("facts.toml")
    if file is None and beside.is_file():
        file = beside
    if file is not None:
        _override(tables, file)
    made = {
        kind: {name: _made(form, entry, f"[{kind}.{name}]", file) for name, entry in tables[kind].items()}
        for kind, form in _KINDS.items()
    }
    return Facts(**made)


def _override(tables: dict[str, Any], file: Path) -> None:
    """Lay the user's entries over ours, key by key. One without a source of its own stands on the file itself."""
    with reading(file):
        data = file.read_bytes()
    try:
        own = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    dated = own.pop("date", None)
    if type(dated) is not date:
        raise ConfigError(f"{file} has no date of its facts", hint="date = 2026-11-01, without quotes")
    tables["sources"][_OWN] = {"date": dated, "url": str(file)}
    for kind, entries in own.items():
        if kind not in _KINDS or not isinstance(entries, dict):
            raise ConfigError(f"{file}: {kind!r} is no table of facts", hint=f"known: {', '.join(_KINDS)}")
        for name, entry in entries.items():
            if not isinstance(entry, dict):
                raise ConfigError(
                    f"{file}: [{kind}.{name}] is not a table", hint="batchkit limits --json shows the shape"
                )
            entry = entry if kind == "sources" else {"source": _OWN} | entry
            tables[kind][name] = _laid_over(tables[kind].get(name, {}), entry, f"{file}: [{kind}.{name}]")
    sources = tables["sources"]
    for kind in _KINDS.keys() - {"sources"}:
        for name, entry in tables[kind].items():
            if entry.get("source") not in sources:
                raise ConfigError(f"{file}: [{kind}.{name}] names a source that is not there")


def _laid_over(ours: dict[str, Any], entry: dict[str, Any], where: str) -> dict[str, Any]:
    """One entry of the user's over ours. What we reckon with stays a number."""
    if isinstance(ours.get("value"), int) and not isinstance(entry.get("value", 0), int):
        raise ConfigError(f"{where} value must be a whole number")
    return ours | entry


_TYPES: dict[str, tuple[type, ...]] = {
    "int | None": (int, type(None)),
    "int | str": (int, str),
    "str": (str,),
    "bool": (bool,),
    "date": (date,),
    "list[str]": (list,),
    "dict[str, str]": (dict,),
}


def _made(form: type, entry: Mapping[str, Any], where: str, file: Path | None) -> Any:
    """One entry, held against its form."""
    known = {item.name: _TYPES[str(item.type)] for item in fields(form)}
    for key, value in entry.items():
        parts: Iterable[Any] = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        if key not in known or type(value) not in known[key] or not all(isinstance(part, str) for part in parts):
            raise ConfigError(f"{file}: {where} has a key it cannot have, or of the wrong type: {key!r}")
    try:
        return form(**entry)
    except TypeError:
        missing = ", ".join(sorted(known.keys() - entry.keys()))
        raise ConfigError(f"{file}: {where} is not whole", hint=f"it may lack: {missing}") from None
