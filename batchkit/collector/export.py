"""Results written for people and programs: JSON Lines with everything, or a flat CSV for a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson

from batchkit.disk import replacing
from batchkit.errors import UsageError
from batchkit.model import Result
from batchkit.text import csv_cell

SCHEMA = "batchkit/result@1"
COLUMNS = (
    "custom_id ok text finish_reason status_code error_code error_message "
    "input_tokens output_tokens model request_id round batch_id"
).split()
_FIELDS = [item.name for item in fields(Result)]
Encode = Callable[[Iterable[Result]], Iterator[bytes]]


def format_of(path: Path | None, name: str | None) -> Encode:
    """How to write results: by name, else by the file's suffix, else JSON Lines. Raises UsageError."""
    suffix = name or (path.suffix.lstrip(".").lower() if path else "") or "jsonl"
    encode = _FORMATS.get(suffix)
    if encode is None:
        raise UsageError(f"{suffix!r} is not a format for results", hint="use .csv or .jsonl, or --format csv|jsonl")
    return encode


def write(results: Iterable[Result], path: Path, encode: Encode, replaceable: Collection[str] | None) -> str:
    """Write all results to `path`, whole or not at all; the SHA-256 of what was written.

    A file that is there already is replaced when its own hash is among `replaceable`, or that is None.
    """
    digest = hashlib.sha256()
    with replacing(path, mode=0o666, replaceable=replaceable) as file:
        for piece in encode(results):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def document(result: Result) -> dict[str, Any]:
    """A result as it stands in JSON Lines."""
    return {"schema": SCHEMA, **{name: getattr(result, name) for name in _FIELDS}}


def _jsonl(results: Iterable[Result]) -> Iterator[bytes]:
    for result in results:
        try:
            yield orjson.dumps(document(result), option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:
            yield _leniently(document(result))


def _leniently(document: dict[str, Any]) -> bytes:
    """A result that orjson will not write: a lone surrogate, or a body nested deeper than anything reads again."""
    try:
        return json.dumps(document).encode() + b"\n"
    except RecursionError:
        return orjson.dumps(document | {"response": None}, option=orjson.OPT_APPEND_NEWLINE)


def _csv(results: Iterable[Result]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        writer.writerow([_cell(getattr(result, column)) for column in COLUMNS])
        yield text.getvalue().encode("utf-8", "backslashreplace")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode("utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return csv_cell(value) if isinstance(value, str) else str(value)


_FORMATS: dict[str, Encode] = {"jsonl": _jsonl, "ndjson": _jsonl, "csv": _csv}
