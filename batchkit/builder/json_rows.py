"""Rows of JSON: an object a line, or one array of objects, which is taken apart as it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from batchkit.builder.strict import BOM
from batchkit.disk import PIECE
from batchkit.errors import InputError

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|"', re.DOTALL)
_OPENS, _CLOSES = b"[{", b"]}"


def json_lines(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines stream. Raises InputError that names the line."""
    for line_number, raw in enumerate(file, 1):
        try:
            row = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raw = raw.removeprefix(BOM) if line_number == 1 else raw
            if not raw.strip():
                continue
            row = _parsed(raw, f"{name}, line {line_number}", error)
        if not isinstance(row, dict):
            raise InputError(f"{name}, line {line_number}: not a JSON object")
        yield row


def json_array(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a JSON array, holding one of them at a time. Raises InputError that names the row."""
    buffer, at, depth, begin, number = bytearray(), 0, 0, 0, 0
    last = 0  # where the row before ended
    while piece := file.read(PIECE):
        buffer += piece
        for token in _TOKEN.finditer(buffer, at):
            mark = token.group()[:1]
            if mark == b'"' and token.end() - token.start() == 1:
                break  # a text that goes on in the next piece: look at it again then
            if mark in _OPENS:
                depth += 1
                if depth == 2:
                    begin = token.start()
                    _between(buffer[last:begin], number, f"{name}, row {number + 1}")
            elif mark in _CLOSES:
                depth -= 1
                if depth == 1:
                    number += 1
                    yield _row(bytes(buffer[begin : token.end()]), f"{name}, row {number}")
                    last = token.end()
            at = token.end()
            if depth == 0:
                _between(b"," * (number > 0) + buffer[last : at - 1], number, f"{name}, row {number + 1}")
                if buffer[at:].strip() or any(rest.strip() for rest in iter(lambda: file.read(PIECE), b"")):
                    raise InputError(f"{name}: something stands after the array")
                return
        done = begin if depth > 1 else last
        del buffer[:done]
        at, begin, last = at - done, begin - done, last - done
    raise InputError(f"{name}: the array does not end", hint="the file is cut short; save it again")


def _between(gap: bytes | bytearray, number: int, where: str) -> None:
    """Between rows stands a comma, and nothing else that would be lost."""
    if gap.strip(b" \t\r\n").removeprefix(BOM).strip() != (b"," if number else b"["):
        raise InputError(f"{where}: not a JSON object")


def _row(raw: bytes, where: str) -> dict[str, Any]:
    row = _parsed(raw, where, None)
    if not isinstance(row, dict):
        raise InputError(f"{where}: not a JSON object")
    return row


def _parsed(raw: bytes, where: str, error: orjson.JSONDecodeError | None) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as again:
        raise InputError(f"{where}: not JSON: {(error or again).msg}") from None
