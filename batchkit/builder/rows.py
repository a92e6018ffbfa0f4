"""Rows, one at a time, from wherever they are: the one door, behind which each format has its reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from batchkit.disk import PIECE, reading
from batchkit.errors import InputError
from batchkit.given import expect, expect_call

Row = Mapping[str, Any]

TABLES = frozenset({".csv", ".tsv", ".tab", ".parquet", ".arrow", ".feather", ".ipc"})
"""Suffixes of what holds rows and never request lines."""
_TEXT = frozenset({".csv", ".tsv", ".tab", ".txt"})
_JSONL = frozenset({".jsonl", ".ndjson"})
STDIN = "-"
ROW = "a mapping from column to value"
SUCH_ROWS = "such as [{'column': 'value'}], csv.DictReader(file), or a dataframe of polars or pandas"


def read_rows(source: str | Path, *, sql: str | None = None) -> Iterator[Row]:
    """The rows of a table, streamed: a file by its suffix (CSV, TSV, JSON Lines, a JSON array, Parquet, Arrow), `-` for
    stdin, or what `sql` selects from it.

    With `sql`, `source` is a database URL as SQLAlchemy takes it, or a file that DuckDB reads under the name `rows`.
    Raises InputError that names the row, LocalError for a file that cannot be read, and MissingExtra for Parquet, Arrow
    and SQL without their extras.
    """
    expect("source", source, (str, os.PathLike), "a path", hint="batchkit.lines takes rows as they are")
    expect_call(sql=sql)
    if sql is not None:
        from batchkit.builder.sql_rows import select

        return select(str(source), sql)
    if str(source) == STDIN:
        return _sniffed(sys.stdin.buffer, "stdin")
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix in TABLES - _TEXT:
        from batchkit.builder.arrow_rows import arrow_file

        return arrow_file(path)
    if suffix in _JSONL | _TEXT | {".json"}:
        return _opened(path)
    with reading(path):
        words = f"{path}: rows are read from .csv, .tsv, .jsonl, .json, .parquet or .arrow files"
        raise InputError(words, hint="rename the file or convert it")


def rows_of(source: Any) -> Iterable[Row]:
    """Rows from what a program holds: an iterable of mappings, or a dataframe (the Arrow PyCapsule interface)."""
    if is_frame(source):
        from batchkit.builder.arrow_rows import Frame, arrow_stream

        return arrow_stream(source) if isinstance(source, Iterator) else Frame(source)
    if isinstance(source, (str, os.PathLike)):
        hint = f"batchkit.read_rows({str(source)!r}) reads them from a file"
        raise InputError("rows are mappings or a dataframe, not the path of a file", hint=hint)
    kind = () if isinstance(source, (Mapping, bytes)) else Iterable
    expect("rows", source, kind, "mappings or a dataframe", hint=SUCH_ROWS)
    rows: Iterable[Row] = source
    return rows


def is_frame(source: Any) -> bool:
    """Whether rows come as columns: by the Arrow PyCapsule interface, or as pandas had them before it had that."""
    before = type(source).__module__.startswith("pandas.") and hasattr(source, "itertuples")
    return before or hasattr(source, "__arrow_c_stream__")


def mappings(source: Any) -> Iterator[Row]:
    """As `rows_of`, each held to be a mapping."""
    for number, row in enumerate(rows_of(source), 1):
        expect(f"row {number}", row, Mapping, ROW, hint=SUCH_ROWS)
        yield row


def _opened(path: Path) -> Iterator[Row]:
    from batchkit.builder.json_rows import json_array, json_lines
    from batchkit.builder.text_rows import cells

    with reading(path), path.open("rb", buffering=PIECE) as file:
        suffix = path.suffix.lower()
        if suffix in _TEXT:
            yield from cells(file, str(path))
        elif suffix in _JSONL or not _begins_with(file, b"["):
            yield from json_lines(file, str(path))
        else:
            yield from json_array(file, str(path))


def _sniffed(file: BinaryIO, name: str) -> Iterator[Row]:
    """Rows of a stream without a suffix: JSON by its first character, and cells otherwise."""
    from batchkit.builder.json_rows import json_array, json_lines
    from batchkit.builder.text_rows import cells

    if _begins_with(file, b"["):
        return json_array(file, name)
    return json_lines(file, name) if _begins_with(file, b"{") else cells(file, name)


def _begins_with(file: Any, mark: bytes) -> bool:
    """Whether the first character that is no space is this, without reading it away."""
    return bool(file.peek(1 << 16)[: 1 << 16].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(mark))
