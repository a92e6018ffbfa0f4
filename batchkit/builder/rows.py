"""Rows from a table on disk, one at a time: CSV, TSV, or JSON Lines."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from batchkit.disk import PIECE, reading
from batchkit.errors import InputError

Row = Mapping[str, Any]

TABLES = frozenset({".csv", ".tsv", ".tab"})
_JSONL = frozenset({".jsonl", ".ndjson"})


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a table, read by the file's suffix.

    Raises InputError that names the row.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _JSONL:
        return _jsonl(path)
    if suffix in TABLES:
        return _csv(path)
    with reading(path):
        words = f"{path}: rows are read from .csv, .tsv or .jsonl files"
        raise InputError(words, hint="rename the file or convert it")


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # utf-8-sig: spreadsheets put a BOM in front of the CSV they save; in rows it is harmless and dropped.
    with reading(path), path.open(encoding="utf-8-sig", newline="", buffering=PIECE) as file:
        reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
        header = _header(path, reader)
        number = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(f"{path}, line {reader.line_num}: {error}", hint=_QUOTES) from None
            except UnicodeDecodeError as error:
                raise _encoding(path, error) from None
            if not cells:
                continue
            number += 1
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, row {number} (ends on line {reader.line_num}) has {len(cells)} cells, "
                    f"the header has {len(header)}",
                    hint=_QUOTES,
                )
            yield dict(zip(header, cells, strict=True))


_QUOTES = 'a cell with a comma, a quote or a line break goes in "quotes", with quotes in it doubled'


def _delimiter(path: Path) -> str:
    """The cell separator: spreadsheets of half the world save CSV with semicolons."""
    with path.open("rb") as file:
        header = file.readline()
    found = [mark for mark in (b"\t", b",", b";", b"|") if mark in header]
    return (found[0] if found else b",").decode()


def _header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next(reader, None)
    except UnicodeDecodeError as error:
        raise _encoding(path, error) from None
    except csv.Error as error:
        raise InputError(f"{path}, header: {error}", hint=_QUOTES) from None
    if not header:
        raise InputError(f"{path} is empty", hint="it needs a header line and at least one row")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise InputError(f"{path}: the header names {', '.join(map(repr, doubled))} more than once")
    return header


_UTF8 = "save it as UTF-8, or: iconv -f LATIN1 -t UTF-8 IN > OUT"


def _encoding(path: Path, error: UnicodeDecodeError) -> InputError:
    """Name the byte: the decoder only knows its place in the current piece."""
    with path.open("rb") as raw:
        offset = 0
        for line_number, line in enumerate(raw, 1):
            try:
                line.decode()
            except UnicodeDecodeError as found:
                place = f"line {line_number}, byte {offset + found.start}"
                return InputError(f"{path}, {place}: 0x{line[found.start]:02x} is not UTF-8", hint=_UTF8)
            offset += len(line)
    return InputError(f"{path} is not UTF-8 text ({error.reason})", hint=_UTF8)


def _jsonl(path: Path) -> Iterator[Row]:
    with reading(path), path.open("rb", buffering=PIECE) as file:
        for line_number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                row = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                raise InputError(f"{path}, line {line_number}: not JSON: {error.msg}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {line_number}: not a JSON object")
            yield row
