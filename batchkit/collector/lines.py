"""What one line of a result file says. Pure.

A line laid out as services write it is not decoded as a whole: head and tail are matched, and the body between them,
once it is known to be one JSON value, can be handed on byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from batchkit import wire
from batchkit.model import Result

_TEXT = rb'"([^"\\\x00-\x1f]*)"'
_NAME = re.compile(rb'\{(?:"id":"[^"\\\x00-\x1f]*",)?"custom_id":' + _TEXT)
FIRST = b'{"custom_id":"'
_TAIL = 256
"""Bytes from the end within which the tail of a line begins, or it is not looked for."""
AZURE_HEAD = b',"response":{"body":'
AZURE_TAIL = re.compile(rb',"request_id":' + _TEXT + rb',"status_code":(\d{1,3})\},"error":null\}\s*')
_OPENAI_HEAD = re.compile(rb',"response":\{"status_code":(\d{1,3}),"request_id":' + _TEXT + rb',"body":')
_OPENAI_TAIL = b'},"error":null}\n'


MISSING, PENDING = "missing", "pending"
"""The codes of rows without a line: it did not come back, or not yet."""


class Answer(NamedTuple):
    """One row's result; `body` is the response's body as it came, where it can be handed on as it stands."""

    result: Result
    body: bytes | None


def name_of(line: bytes) -> bytes | None:
    """The custom_id of a line, as UTF-8: by its usual place where that is plain, by a full decode otherwise."""
    found = _NAME.match(line)
    if found is not None:
        return found[1]
    try:
        document = loads(line)
    except ValueError:
        return None
    name = document.get("custom_id") if isinstance(document, dict) else None
    return name.encode("utf-8", "surrogatepass") if isinstance(name, str) else None


def names_of(lines: Sequence[bytes]) -> list[bytes | None]:
    """The custom_ids of many lines."""
    found = [*map(_NAME.match, lines)]
    return [match[1] if match else name_of(line) for match, line in zip(found, lines, strict=True)]


def text(name: bytes) -> str:
    """A custom_id for people."""
    return name.decode("utf-8", "replace")


def read(line: bytes, name: bytes, round_number: int, batch_id: str | None) -> Answer:
    """What a result line says; one that cannot be read gives a result that says so."""
    found = plain(line, name)
    if found is not None:
        body, status, request_id = found
        try:
            value, asked = orjson.loads(body), request_id.decode() or None
        except ValueError:
            pass  # a full decode says what is wrong
        else:
            result = wire.answer(text(name), int(status), value, asked, None, round_number, batch_id)
            return Answer(result, body if result.response is value else None)
    try:
        document = loads(line)
    except ValueError:
        document = None
    document = document if isinstance(document, dict) else {}
    return Answer(wire.result(text(name), document, round_number, batch_id), None)


def plain(line: bytes, name: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Body, status and request id of a line laid out exactly as Azure or OpenAI write it; whether the body is one JSON
    value is for the caller to see."""
    start = len(FIRST) + len(name) + 1
    if line.startswith(AZURE_HEAD, start) and line.startswith(name, len(FIRST)) and line.startswith(FIRST):
        end = line.rfind(b',"request_id":"', -_TAIL)
        tail = AZURE_TAIL.fullmatch(line, end) if end > start else None
        return (line[start + len(AZURE_HEAD) : end], tail[2], tail[1]) if tail else None
    found = _NAME.match(line)
    head = _OPENAI_HEAD.match(line, found.end()) if found else None
    if head is None or not line.endswith(_OPENAI_TAIL):
        return None
    return line[head.end() : -len(_OPENAI_TAIL)], head[1], head[2]


def loads(line: bytes) -> Any:
    """A result line's JSON; what an exact reader refuses (NaN, a lone surrogate) is an answer all the same."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None
