"""Results written for people and programs: JSON Lines with everything, or a flat table as CSV or Parquet."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from batchkit.collector import join, splice
from batchkit.collector.account import Account
from batchkit.collector.answers import Answers
from batchkit.collector.columns import Table, table
from batchkit.collector.merge import Row, latest, walk
from batchkit.disk import PIECE, Workdir, replacing
from batchkit.errors import UsageError
from batchkit.model import Job, Result
from batchkit.text import as_text, csv_cell

SCHEMA = "batchkit/result@1"
_FIELDS = [item.name for item in fields(Result) if item.name not in ("response", "other_rounds", "came", "row")]
_fields = attrgetter(*_FIELDS)
_OTHER = "round batch_id ok status_code error_code error_message request_id".split()
_NOTHING: Mapping[str, Any] = {}
_FORMATS = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
    "pq": "parquet",
    "raw": "raw",
}
Pairs = Iterable[tuple[Mapping[str, Any], Row]]


@dataclass(frozen=True)
class Shape:
    """How results are written: the format, which columns, the rows that are joined to them, and whether each embedding
    has a row of its own."""

    format: str = "jsonl"
    columns: Sequence[str] | None = None
    rows: join.Rows | None = None
    named: join.Named | None = None
    each: bool = False

    def __post_init__(self) -> None:
        if self.format == "raw" and (self.columns is not None or self.each or self.rows):
            raise UsageError("the service's own lines have no columns", hint="--format jsonl has, and csv, and parquet")

    @property
    def plain(self) -> bool:
        """Whether results are written as they are, in JSON Lines with everything."""
        return self.format == "raw" or (self.format == "jsonl" and self.columns is None and not self.each)

    def table(self, job: Job, line: bytes) -> Table:
        """The columns of a job's results; `line` is one of its requests. Raises UsageError for unknown columns."""
        joined = join.columns(self.rows) if self.rows else {}
        made = table(job, line, joined, each=self.each)
        return made.only(self.columns, joined) if self.columns is not None else made

    def pairs(self, rows: Iterable[Row]) -> Pairs:
        """Each row with its input row, which is empty unless rows are joined."""
        return join.beside(self.rows, rows, self.named) if self.rows else ((_NOTHING, row) for row in rows)

    def encode(self, job: Job, line: bytes, rows: Iterable[Row]) -> Generator[bytes, None, None]:
        """The results as bytes in pieces. Raises UsageError for unknown columns, InputError for rows of another job."""
        pairs = self.pairs(rows)
        if self.plain:
            return _jsonl(pairs)
        made = self.table(job, line)
        values = made.rows((joined, row.result) for joined, row in pairs)
        if self.format == "jsonl":
            return _objects(made, values)
        if self.format == "parquet":
            from batchkit.collector import arrow

            return arrow.parquet(made, values)
        return _csv(made, values, "\t" if self.format == "tsv" else ",")


def format_of(path: Path | None, name: str | None) -> str:
    """How to write results: by name, else by the file's suffix, else JSON Lines. Raises UsageError, or MissingExtra
    where the format needs what is not installed."""
    suffix = (name or (path.suffix.lstrip(".") if path else "")).lower() or "jsonl"
    found = _FORMATS.get(suffix)
    if found is None:
        raise UsageError(
            f"{suffix!r} is not a format for results",
            hint="use .csv, .tsv, .parquet or .jsonl, or --format csv|tsv|parquet|jsonl|raw",
        )
    if found == "parquet":
        from batchkit.collector import arrow

        arrow.arrow()
    return found


def write(pieces: Iterable[bytes], path: Path, replaceable: Collection[str] | None) -> str:
    """Write all pieces to `path`, whole or not at all; the SHA-256 of what was written.

    A file that is there already is replaced when its own hash is among `replaceable`, or that is None.
    """
    digest = hashlib.sha256()

    def put(piece: bytes) -> None:
        digest.update(piece)
        file.write(piece)

    # Hashing and writing let other Python code run meanwhile, so that they cost no time of their own.
    with replacing(path, mode=0o666, replaceable=replaceable) as file, ThreadPoolExecutor(1) as writer:
        doing = deque[Future[None]]()
        for piece in _gathered(pieces):
            if len(doing) > 2:
                doing.popleft().result()
            doing.append(writer.submit(put, piece))
        for done in doing:
            done.result()
    return digest.hexdigest()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about a megabyte."""
    some: list[bytes] = []
    size = 0
    for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(some)
            some.clear()
            size = 0
    yield b"".join(some)


def document(result: Result, body: bytes | None = None, row: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """A result as it stands in JSON Lines; `body` is its response as bytes, to be taken as they are."""
    made: dict[str, Any] = {"schema": SCHEMA, "row": row} if row else {"schema": SCHEMA}
    made |= zip(_FIELDS, _fields(result), strict=True)
    if result.other_rounds:
        made["other_rounds"] = [{name: getattr(other, name) for name in _OTHER} for other in result.other_rounds]
    made["response"] = result.response if body is None else orjson.Fragment(body)
    return made


def _jsonl(pairs: Pairs) -> Generator[bytes, None, None]:
    for row, (result, _, body) in pairs:
        yield _line(result, body, row)


def _line(result: Result, body: bytes | None, row: Mapping[str, Any] = _NOTHING) -> bytes:
    return _dumps(document(result, body, row)) or _leniently(document(result, row=row))


def lines(job: Job, workdir: Workdir, account: Account, *, raw: bool = False) -> Generator[bytes, None, None]:
    """The same as a plain `encode` of `merge`, in pieces of many lines, but that nothing is decoded that need not be.
    With `raw` they are the service's own lines; a row that has none gets one that says why, laid out as they are."""
    with closing(walk(job, workdir, account)) as blocks:
        for names, asked_with, asked in blocks:
            if len(asked) > 1:
                row = latest(asked_with[0], [step.answers.take(names[0]) for step in asked])
                account.row(row.result)
                yield _raw(row.result) if raw else _line(row.result, row.body)
            else:
                yield b"".join(_spliced(names, asked[0].answers, account, raw=raw))


def _spliced(names: list[bytes], answers: Answers, account: Account, *, raw: bool) -> list[bytes]:
    """The results of rows that were asked for once, put together from pieces where that can be done."""
    number, made, ends = answers.part.round, list[bytes](), list[str]()
    structured = account.structured
    line_of, exact = answers.line, answers.exact and not (raw and structured)
    join = splice.as_it_came if raw else splice.joiner(SCHEMA, number, answers.batch_id, structured=structured)
    input_tokens = output_tokens = 0
    for name, place in zip(names, answers.places(names), strict=True):
        spliced = join(line_of(place), name) if place is not None and exact else None
        if spliced is None:
            result, body = answers.answer(name, place)
            account.row(result)
            made.append(_raw(result) if raw else _line(result, body))
            continue
        made.append(spliced[0])
        input_tokens += spliced[1]
        output_tokens += spliced[2]
        ends.append(spliced[3])
    answers.good += len(ends)
    account.good(number, len(ends), input_tokens, output_tokens, ends)
    return made


def _raw(result: Result) -> bytes:
    """A result as a line of the service's."""
    response = {"body": result.response, "request_id": result.request_id, "status_code": result.status_code}
    answered = result.status_code is not None
    error = None if answered else {"code": result.error_code, "message": result.error_message}
    found = {"custom_id": result.custom_id, "response": response if answered else None, "error": error}
    return _dumps(found) or _leniently(found)


def _objects(made: Table, rows: Iterable[list[Any]]) -> Generator[bytes, None, None]:
    names = made.names
    for values in rows:
        found = dict(zip(names, values, strict=True))
        yield _dumps(found) or _leniently(found)


def _dumps(document: dict[str, Any]) -> bytes | None:
    """A line of JSON; None for what orjson will not write: a lone surrogate, a number of more than 64 bits, a body
    nested deeper than it goes."""
    try:
        return orjson.dumps(document, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return None


def _leniently(document: dict[str, Any]) -> bytes:
    """The same in JSON that any reader takes, as near to it as that allows."""
    try:
        return json.dumps(_exact(document), default=str, ensure_ascii=False).encode() + b"\n"
    except RecursionError:
        return orjson.dumps(document | {"response": None}, option=orjson.OPT_APPEND_NEWLINE)


def _exact(value: Any) -> Any:
    """A value without what JSON does not know: surrogates are escaped, NaN and infinities are null."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_exact(key): _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if isinstance(value, (list, tuple)) else value


def _csv(made: Table, rows: Iterable[list[Any]], delimiter: str) -> Generator[bytes, None, None]:
    """A table for spreadsheets: text that would run as a formula is made plain, header included."""
    lines = _Lines()
    writer = csv.writer(lines, delimiter=delimiter)
    writer.writerow([csv_cell(name) for name in made.names])
    for values in rows:
        writer.writerow([_cell(value) for value in values])
        if len(lines.written) >= 1000:
            yield lines.taken()
    yield lines.taken()


class _Lines:
    """What a csv.writer writes, a row at a time, with line feeds at the ends. Told to end rows in line feeds itself, it
    would leave a carriage return inside a cell without quotes."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, row: str) -> None:
        self.written.append(row.removesuffix("\r\n"))

    def taken(self) -> bytes:
        text = "".join(f"{row}\n" for row in self.written)
        self.written.clear()
        return text.encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return csv_cell(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else csv_cell(as_text(value))
