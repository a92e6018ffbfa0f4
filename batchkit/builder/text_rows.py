"""Rows of cells: CSV and its relatives, in the dialect that the first lines speak."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from batchkit.builder.strict import wide_encoding
from batchkit.disk import PIECE
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
    decoder = _Decoder(file, name)
    reader = csv.reader(decoder.lines(), delimiter=separator(head.decode("utf-8", "replace")), strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise InputError(f"{name}, header: {error}", hint=_QUOTES) from None
    if not header:
        raise InputError(f"{name} is empty", hint="it needs a header line and at least one row")
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise InputError(f"{name}: the header names {', '.join(map(repr, doubled))} more than once")
    yield from _rows(reader, header, name)


def _rows(reader: Any, header: list[str], name: str) -> Iterator[dict[str, str]]:
    width, number = len(header), 0
    try:
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
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: {error}", hint=_QUOTES) from None


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


class _Decoder:
    """Bytes → lines of text, with the place of the first byte that is not UTF-8."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def lines(self) -> Iterator[str]:
        """The lines, each with its end; a BOM in front, as spreadsheets put it, is dropped."""
        number = offset = 0
        first = True
        while pieces := self._file.readlines(PIECE):
            data = b"".join(pieces)
            try:
                text = data.decode()
            except UnicodeDecodeError as error:
                raise self._error(data, error, number, offset) from None
            if first:
                text, first = text.removeprefix("\ufeff"), False
            yield from io.StringIO(text, newline="")
            number, offset = number + len(pieces), offset + len(data)

    def _error(self, data: bytes, error: UnicodeDecodeError, number: int, offset: int) -> InputError:
        byte, line = data[error.start], number + data.count(b"\n", 0, error.start) + 1
        encoding = "WINDOWS-1252" if 0x80 <= byte < 0xA0 else "ISO-8859-1"
        guess = ""
        try:
            guess = f"; as {encoding} it is {codecs.decode(bytes([byte]), encoding)!r}"
        except UnicodeDecodeError:
            encoding = "ENCODING"
        return InputError(
            f"{self._name}, line {line}, byte {offset + error.start}: 0x{byte:02x} is not UTF-8{guess}",
            hint=f"save it as UTF-8, or: iconv -f {encoding} -t UTF-8 IN > OUT",
        )
