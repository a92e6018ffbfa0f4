"""The numbers of a job as one HTML page: no script, nothing from elsewhere, light and dark, fit for paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

from batchkit.collector.drawing import histogram, shares, timeline
from batchkit.collector.unusable import in_words
from batchkit.text import duration, plural, visible

Document = dict[str, Any]
SHOWN = 200
"""How many parts, batches and waits a table lists; `--json` has all."""

AHEAD_S = 60.0
"""A service that made a batch so much later than it was last seen has another clock than we."""


def page(report: Document, *, version: str, now: float) -> str:
    """The page for a document of `Statistics`."""
    job, rows = report["job"], report["rows"]
    style = files("batchkit.collector").joinpath("page.css").read_text("utf-8")
    body = "\n".join(
        [
            _header(job, rows, _clock(report)),
            _tiles(report, now),
            _outcome(rows),
            _section("Timeline", timeline(report["parts"], job["settled_at"] or now), "Times are UTC."),
            _failures(report["failures"]),
            _distributions(report),
            _cost(report["cost"]),
            _waits(report["waits"]),
            _ids(report["parts"]),
        ]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_text(job["name"])} – batchkit report</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
<footer>Made {_when(now)} by batchkit {_text(version)}. The same numbers: <code>batchkit report --json</code></footer>
</main>
</body>
</html>
"""


def _clock(report: Document) -> str:
    """What is to be known of the clock behind the times, where it is not everybody's."""
    if report["job"]["service"] == "emulator":
        return "Rehearsed on the built-in emulator: the times are its own, which pass faster than ours."
    batches = [batch for part in report["parts"] for batch in part["batches"]]
    seen = [(batch["created_at"], batch["looked_at"]) for batch in batches]
    ahead_s = max((made - looked for made, looked in seen if made and looked), default=0.0)
    if ahead_s < AHEAD_S:
        return ""
    return (
        f"The service’s clock is {duration(ahead_s)} ahead of this machine’s, as that of an emulator whose days are "
        "short: what is counted by both of them means little."
    )


def _header(job: Document, rows: Document, clock: str) -> str:
    if rows["pending"]:
        word, kind = job["status"] or job["state"], "running"
    elif not rows["balanced"]:
        word, kind = "does not add up", "bad"
    elif rows["failed"]:
        word, kind = f"{rows['failed']} of {plural(rows['total'], 'row')} failed", "warn"
    elif rows["unusable"]:
        word, kind = f"all rows answered, {in_words(rows['unusable'])}", "warn"
    else:
        word, kind = "all rows answered", "good"
    end = job["settled_at"]
    note = f'<p class="note">{clock}</p>' if clock else ""
    span = f"{_when(job['created_at'])} – {_when(end)}" if end else f"since {_when(job['created_at'])}"
    return (
        f'<header><h1>{_text(job["name"])} <span class="badge {kind}">{_text(word)}</span></h1>'
        f"<p>{_text(job['deployment'])} · {_text(job['url'])} · {_text(job['service'])}<br>{span}</p>{note}</header>"
    )


def _tiles(report: Document, now: float) -> str:
    job, rows, cost = report["job"], report["rows"], report["cost"]
    took_s = (job["settled_at"] or now) - job["created_at"]
    took = duration(took_s) if took_s >= 1 else "&lt; 1 s"
    share = f"{100 * rows['ok'] / rows['total']:.1f} %" if rows["total"] else "–"
    tiles = [
        (_count(rows["total"]), "rows in"),
        (_count(rows["ok"]), f"ok, {share}"),
        (_count(rows["failed"]), f"failed, {_count(rows['retryable'])} worth asking again"),
        (_count(rows["missing"]), "missing"),
        (_count(rows["input_tokens"]), "tokens in"),
        (_count(rows["output_tokens"]), "tokens out"),
        (took, f"{plural(job['round'] + 1, 'round')}, {plural(len(report['parts']), 'part')}"),
    ]
    if rows["pending"]:
        tiles.insert(4, (_count(rows["pending"]), "not back yet"))
    if cost and cost["models"]:
        tiles.append((f"{cost['total']:,.2f} {_text(cost['currency'])}", f"prices of {_text(cost['date'])}"))
    return '<div class="tiles">' + "".join(f"<div><b>{value}</b>{name}</div>" for value, name in tiles) + "</div>"


def _outcome(rows: Document) -> str:
    kinds = ("ok", "failed", "missing", "pending")
    sum_of = " + ".join(f"{_count(rows[kind])} {kind}" for kind in kinds if rows[kind] or kind != "pending")
    unusable = f" Of those that are ok: {in_words(rows['unusable'])}." if rows["unusable"] else ""
    words = f"<p>{_count(rows['total'])} row{'s' * (rows['total'] != 1)} went in = {sum_of}.{unusable}</p>"
    troubles = [_text(item) for item in rows["mismatched"]]
    for kind, what in (
        ("missing_ids", "never came back"),
        ("duplicated", "came twice"),
        ("unknown", "nobody asked for"),
    ):
        if rows[kind]:
            named = ", ".join(f"<code>{_text(item, 80)}</code>" for item in rows[kind][:20])
            troubles.append(f"{what}: {named}{' …' if len(rows[kind]) > 20 else ''}")
    listed = "".join(f"<li>{item}</li>" for item in troubles)
    return _section(
        "Outcome", shares([(kind, rows[kind]) for kind in kinds]) + words + (f"<ul>{listed}</ul>" if listed else "")
    )


def _failures(failures: Sequence[Document]) -> str:
    if not failures:
        return ""
    rows = [
        (
            f"<code>{_text(item['code'], 100)}</code>",
            _count(item["count"]),
            "yes" if item["retryable"] else "no",
            _text(item["message"] or "", 400),
            ", ".join(f"<code>{_text(name, 80)}</code>" for name in item["examples"]),
        )
        for item in failures
    ]
    table = _table(("Code", "#Rows", "Ask again?", "In the service's words", "Such as"), rows)
    return _section("Failed rows by reason", table)


def _distributions(report: Document) -> str:
    charts = [
        ("Tokens in", report["tokens"]["input"], _count),
        ("Tokens out", report["tokens"]["output"], _count),
        ("Time to answer", report["latency_s"], duration),
    ]
    found = [
        f"<figure><figcaption>{name}</figcaption>{histogram(values['bars'], shown)}"
        f"<p>median {shown(values['p50'])} · 90 % {shown(values['p90'])} · 99 % {shown(values['p99'])}</p></figure>"
        for name, values, shown in charts
        if values
    ]
    if not found:
        return ""
    note = "Of rows that are ok. Time to answer counts from the batch's creation to when the answer says it was made."
    words = [
        f"{title}: " + ", ".join(f"{_text(name, 80)} ({_count(count)})" for name, count in report[key].items())
        for title, key in (("Finish reasons", "finish_reasons"), ("Models", "models"))
        if report[key]
    ]
    return _section("Distributions", f'<div class="charts">{"".join(found)}</div><p>{"<br>".join(words)}</p>', note)


def _cost(cost: Document | None) -> str:
    if cost is None:
        return ""
    rows = [
        (_text(item["model"]), _count(item["input_tokens"]), _count(item["output_tokens"]), f"{item['cost']:,.4f}")
        for item in cost["models"]
    ]
    note = f"By the user's price file of {_text(cost['date'])}, all rounds together."
    if cost["unpriced"]:
        note += f" Without a price, and not counted: {', '.join(map(_text, cost['unpriced']))}."
    table = _table(("Model", "#Tokens in", "#Tokens out", f"#{_text(cost['currency'])}"), rows)
    total = f"{cost['total']:,.2f} {_text(cost['currency'])}" if rows else "no price is known"
    return _section(f"Cost: {total}", table, note)


def _waits(waits: Sequence[Document]) -> str:
    if not waits:
        return ""
    rows = [(_when(item["at"]), _text(item["part"]), _text(item["why"], 300)) for item in waits[:SHOWN]]
    return _section("Waits for quota", _table(("When", "#Part", "Why"), rows), _more(len(waits)))


def _ids(parts: Sequence[Document]) -> str:
    rows = []
    for part in parts[:SHOWN]:
        for batch in part["batches"] or [{}]:
            counts = batch.get("counts") or {}
            rows.append(
                (
                    f"{part['round']}-{part['number']}",
                    _count(part["rows"]),
                    _text(batch.get("status") or part["state"]),
                    f"{_count(counts['completed'])} + {_count(counts['failed'])}" if counts else "",
                    *(f"<code>{_text(name or '–')}</code>" for name in _names(part, batch)),
                )
            )
    header = ("Part", "#Rows", "Status", "#Done + failed", "Batch", "Input file", "Output file", "Error file")
    return _section("Batches and files", _table(header, rows), _more(len(parts)))


def _names(part: Document, batch: Document) -> tuple[Any, ...]:
    return batch.get("id"), part["file_id"], batch.get("output_file_id"), batch.get("error_file_id")


def _section(title: str, content: str, note: str = "") -> str:
    small = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{content}{small}</section>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns that begin with # are numbers."""
    kinds = [' class="number"' if name.startswith("#") else "" for name in header]
    head = "".join(f"<th{kind}>{name.removeprefix('#')}</th>" for name, kind in zip(header, kinds, strict=True))
    lines = (
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _more(count: int) -> str:
    return f"The first {SHOWN} of {count}; <code>--json</code> has all." if count > SHOWN else ""


def _text(value: Any, limit: int = 300) -> str:
    """Text that is not ours, for HTML."""
    return escape(visible("" if value is None else str(value), limit))


def _count(value: float) -> str:
    return f"{round(value):,}"


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
