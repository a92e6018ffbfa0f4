"""The quick half of `check`: a line like one already judged good is cleared without being looked at again.

Two lines are alike when they have the same bytes but for two holes, the custom_id and the text that is asked about.
What is in the holes must be read as one JSON string each. Then nothing but a strict string is in any hole, and all
around it is as it was in the example. All other lines are judged the slow way, which explains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import orjson

from batchkit.builder.kinds import CONTENT, path_of
from batchkit.builder.rules import KEYS

_ID = re.compile(rb'\{\s*"custom_id"\s*:\s*"')
_TEXT = rb'"%b"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
_MOST_EXAMPLES = 8
_MOST_TRIES = 8

OnLine = Callable[[bytes], object]


class _Example(NamedTuple):
    """A good line without its holes: bytes before the id, between id and text, after the text."""

    opening: bytes
    between: bytes
    ending: bytes


class Likeness:
    """What good lines of one file look like."""

    def __init__(self) -> None:
        self._examples: list[_Example] = []

    def learn(self, line: bytes, document: dict[str, Any]) -> None:
        """Take a line that was judged and found faultless as an example."""
        if len(self._examples) < _MOST_EXAMPLES and (example := _example(line, document)):
            self._examples.insert(0, example)

    def names_of(self, lines: list[bytes]) -> list[bytes]:
        """The ids of lines that are all like the latest example, as they stand there; none if one of them is not.

        Column by column rather than line by line: a call from Python's own loop costs as much as a parsed line.
        """
        if not self._examples:
            return []
        opening, between, ending = self._examples[0]
        first, least, last = len(opening), len(between) - 1, 1 - len(ending)
        starts = [*map(bytes.find, lines, repeat(b'"'), repeat(first))]
        alike = (
            all(map(bytes.startswith, lines, repeat(opening)))
            and all(map(bytes.startswith, lines, repeat(between), starts))
            and all(map(bytes.endswith, lines, repeat(ending)))
        )
        if not alike:
            return []
        ids = [line[first:start] for line, start in zip(lines, starts, strict=True)]
        texts = [line[start + least : last] for line, start in zip(lines, starts, strict=True)]
        return ids if _strings(ids, texts) else []

    def name_of(self, line: bytes) -> bytes | None:
        """The id of a line that is like any example, as it stands there."""
        for opening, between, ending in self._examples:
            end = line.find(b'"', len(opening))
            if line.startswith(opening) and line.startswith(between, end) and line.endswith(ending):
                custom_id, text = line[len(opening) : end], line[end + len(between) - 1 : 1 - len(ending)]
                return custom_id if _strings([custom_id], [text]) else None
        return None


def _strings(ids: Sequence[bytes], texts: Sequence[bytes]) -> bool:
    """Whether ids, which have no quote in them, stand for themselves, and texts are JSON strings, with their quotes;
    none of them empty."""
    if b"\\" in b"".join(ids) or not all(ids) or b'""' in texts:
        return False
    try:
        orjson.loads(b'["' + b'","'.join(ids) + b'"]')
        return set(map(type, map(orjson.loads, texts))) == {str}
    except orjson.JSONDecodeError:
        return False


def _example(line: bytes, document: dict[str, Any]) -> _Example | None:
    """The line as an example, if it has the usual order of keys and one text to ask about."""
    opening, custom_id = _ID.match(line), document["custom_id"].encode()
    if opening is None or tuple(document) != KEYS or not line.startswith(custom_id + b'"', opening.end()):
        return None
    body = document["body"]
    key, parent = CONTENT[path_of(document["url"])], body
    if key == "messages":
        parent, key = body[key][-1], "content"
    if not isinstance(parent.get(key), str):
        return None
    start = opening.end() + len(custom_id)
    for text in reversed([*re.finditer(_TEXT % key.encode(), line[start:], re.DOTALL)][-_MOST_TRIES:]):
        before, after = line[start : start + text.start(1)], line[start + text.end(1) :]
        emptied = parent | {key: ""}
        if orjson.loads(line[:start] + before + after) == _with(document, parent, emptied):
            return _Example(opening.group(), before, after)
    return None


def _with(value: Any, old: Any, new: Any) -> Any:
    """`value` with the object `old` in it replaced by `new`."""
    if value is old:
        return new
    if isinstance(value, dict):
        return {key: _with(item, old, new) for key, item in value.items()}
    return [_with(item, old, new) for item in value] if isinstance(value, list) else value
