"""Rows of cells: CSV and its relatives, in the dialect that the first lines speak."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from batchkit.builder.strict import BOM, wide_encoding
from batchkit.errors import InputError

_QUOTES = 'a cell with the separator, a quote or a line break goes in "quotes", with quotes in it doubled'
_SEPARATORS = (",", "\t", ";", "|")
_HEAD = 1 << 16


def cells(file: BinaryIO, name: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV or TSV stream, by its header. Raises InputError that names row, line and byte."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    head = file.peek(_HEAD)[:_HEAD] if isinstance(file, io.BufferedReader) else b""
    if encoding := wide_encoding(head):
        raise InputError(f"{name} is {encoding}, not UTF-8", hint=f"iconv -f {encoding} -t UTF-8 IN > OUT")
    # Decoded line by line: text with one emoji in it is four times as large, and slow to cut, down to its last line.
    lines = chain((file.readline().removeprefix(BOM),), file)
    reader = csv.reader(map(bytes.decode, lines), delimiter=separator(head.decode("utf-8", "replace")), strict=True)
    try:
        yield from _rows(reader, name)
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}", hint=_QUOTES) from None
    except UnicodeDecodeError as error:
        raise _undecodable(file, name, reader.line_num + 1, error) from None


def _rows(reader: Any, name: str) -> Iterator[dict[str, str]]:
    header: list[str] | None = next(reader, None)
    if not header:
        raise InputError(f"{name} is empty", hint="it needs a header line and at least one row")
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise InputError(f"{name}: the header names {', '.join(map(repr, doubled))} more than once")
    width, number = len(header), 0
    for row in reader:
        if len(row) == width:
            number += 1
            yield dict(zip(header, row))  # noqa: B905  (their lengths were just compared)
        elif row:
            raise InputError(
                f"{name}, row {number + 1} (ends on line {reader.line_num}) has {len(row)} cells, "
                f"the header has {width}",
                hint=_QUOTES,
            )


def separator(head: str) -> str:
    """The cell separator: the one that the header has outside quotes, since half the world saves CSV with semicolons.

    Where the header has several, the one that cuts the first lines into the same number of cells.
    """
    lines = head.splitlines()[:20]
    if not lines:
        return ","
    bare = [_unquoted(line) for line in lines]
    found = [mark for mark in _SEPARATORS if mark in bare[0]]
    return max(found, key=lambda mark: (_steady(bare, mark), bare[0].count(mark)), default=",")


def _steady(lines: list[str], mark: str) -> float:
    """The share of lines with as many separators as the header: a line break in a cell upsets some."""
    counts = [line.count(mark) for line in lines if line]
    return counts.count(counts[0]) / len(counts)


def _unquoted(line: str) -> str:
    return "".join(line.split('"')[::2])


def _undecodable(file: BinaryIO, name: str, line: int, error: UnicodeDecodeError) -> InputError:
    """The place of the first byte that is not UTF-8, and what it would be in the encodings that tables come in."""
    place = f"byte {file.tell() - len(error.object) + error.start}" if file.seekable() else f"column {error.start + 1}"
    byte = error.object[error.start]
    if any(letter < 0x20 and letter not in b"\t\n\v\f\r" for letter in error.object):
        words = f"{name}, line {line}, {place}: 0x{byte:02x} is not UTF-8, nor is it text in another encoding"
        return InputError(words, hint="give a table: .csv, .tsv, .jsonl, .json, .parquet or .arrow, by its suffix")
    encoding = "WINDOWS-1252"  # which is Latin-1 where Latin-1 has letters, and more
    try:
        guess = f"; as {encoding} it is {bytes([byte]).decode(encoding)!r}"
    except UnicodeDecodeError:
        encoding, guess = "ENCODING", ""
    return InputError(
        f"{name}, line {line}, {place}: 0x{byte:02x} is not UTF-8{guess}",
        hint=f"save it as UTF-8, or: iconv -f {encoding} -t UTF-8 IN > OUT",
    )
