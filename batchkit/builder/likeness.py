"""The quick half of `check`: a line like one already judged good is cleared without being looked at again.

Two lines are alike when they have the same bytes but for two holes, the custom_id and the text that is asked about.
simdjson proves that the line is strict JSON. Then bytes that are equal up to the second hole, and from its end, are the
same keys and values. That nothing but one text is in the hole is certain if no quote is, and else if every object and
list around it has as many items as in the example. All other lines are judged the slow way, which explains.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import compress, repeat
from operator import call, getitem, lt, not_
from typing import Any, BinaryIO, NamedTuple

import orjson
import simdjson

from batchkit.builder.kinds import CONTENT, path_of
from batchkit.builder.rules import KEYS

_ID = re.compile(rb'\{\s*"custom_id"\s*:\s*"')
_TEXT = rb'"%b"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
_CHUNK = 1 << 18
_MOST_EXAMPLES = 8
_MOST_TRIES = 8


_NO_JSON = (ValueError, RuntimeError)
OnLine = Callable[[bytes], object]
Way = tuple[tuple[str | int, int], ...]


class Example(NamedTuple):
    """A good line without its holes: bytes before the id, between id and text, after the text; and the sizes of the
    objects and lists on the `way` to the text."""

    opening: bytes
    between: bytes
    ending: bytes
    way: Way


class Likeness:
    """What good lines of one file look like."""

    def __init__(self) -> None:
        self._parse: Any = simdjson.Parser().parse
        self._parses: list[Any] = []
        """One parser for each of several lines that are looked into at the same time."""
        self._examples: list[Example] = []
        self.lines = 0
        """How many lines there were, once all were seen."""

    def learn(self, line: bytes, document: dict[str, Any]) -> None:
        """Take a line that was judged and found faultless as an example."""
        if len(self._examples) < _MOST_EXAMPLES and (example := _example(line, document)):
            self._examples.insert(0, example)

    def unlike(self, file: BinaryIO, ids: set[int], on_line: OnLine | None) -> Iterator[tuple[int, int, bytes]]:
        """The lines that have to be judged, with number and offset; the ids of all others go into `ids`."""
        number = offset = 0
        while lines := file.readlines(_CHUNK):
            keys = self._ids_of(lines)
            if len(keys) == len(lines) and ids.isdisjoint(keys):
                ids |= keys
                if on_line is not None:
                    deque(map(on_line, lines), 0)
                number, offset = number + len(lines), file.tell()
                continue
            for line in lines:
                number += 1
                custom_id = self._id_of(line)
                if custom_id is None or (key := hash(custom_id)) in ids:
                    yield number, offset, line
                else:
                    ids.add(key)
                    if on_line is not None:
                        on_line(line)
                offset += len(line)
        self.lines = number

    def _ids_of(self, lines: list[bytes]) -> set[int]:
        """The hashed ids of lines that are all like the latest example; fewer than lines if one is not or comes twice.

        Column by column rather than line by line, since a call from Python's own loop costs as much as a parsed line.
        """
        if not self._examples:
            return set()
        opening, between, ending, way = self._examples[0]
        starts = [*map(bytes.find, lines, repeat(b'"'), repeat(len(opening)))]
        texts = [*map(len(between).__add__, starts)]
        quotes = [*map(bytes.find, lines, repeat(b'"'), texts)]
        alike = (
            all(map(bytes.startswith, lines, repeat(opening)))
            and all(map(bytes.startswith, lines, repeat(between), starts))
            and all(map(lt, texts, quotes))
        )
        if not alike:
            return set()
        # A line has one line feed, its last byte: where it goes on with the ending, it is at its end.
        plain = [*map(bytes.startswith, lines, repeat(ending), quotes)]
        quoted = [*compress(lines, map(not_, plain))]
        custom_ids = [line[len(opening) : end] for line, end in zip(lines, starts, strict=True)]
        if b"\\" in b"".join(custom_ids) or not all(custom_ids):
            return set()
        if not all(
            line.endswith(ending, quote) for line, quote in compress(zip(lines, quotes, strict=True), map(not_, plain))
        ):
            return set()
        try:
            deque(map(self._parse, compress(lines, plain)), 0)
        except _NO_JSON:
            return set()
        return set(map(hash, custom_ids)) if self._sizes_are(quoted, way) else set()

    def _id_of(self, line: bytes) -> bytes | None:
        """The id of a line that is like any example, as it stands there; its text may hold quotes."""
        for opening, between, ending, way in self._examples:
            if not line.startswith(opening) or not line.endswith(ending):
                continue
            start = len(opening)
            end = line.find(b'"', start)
            if end > start and line.startswith(between, end) and end + len(between) < len(line) - len(ending):
                custom_id = line[start:end]
                return custom_id if b"\\" not in custom_id and self._sizes_are([line], way) else None
        return None

    def _sizes_are(self, lines: list[bytes], way: Way) -> bool:
        """Whether the objects and lists on the way to the text have the sizes they should, in every line."""
        while len(self._parses) < len(lines):
            self._parses.append(simdjson.Parser().parse)
        try:
            levels = [*map(call, self._parses, lines)]
            right = set(map(len, levels)) <= {len(KEYS)}
            for step, size in way:
                levels = [*map(getitem, levels, repeat(step))]
                right = right and set(map(len, levels)) <= {size}
        except (*_NO_JSON, LookupError, TypeError):
            return False
        return right


def _example(line: bytes, document: dict[str, Any]) -> Example | None:
    """The line as an example, if it has the usual order of keys and one text to ask about."""
    opening, custom_id = _ID.match(line), document["custom_id"].encode()
    if opening is None or tuple(document) != KEYS or not line.startswith(custom_id + b'"', opening.end()):
        return None
    body = document["body"]
    way: list[tuple[str | int, int]] = [("body", len(body))]
    key, parent = CONTENT[path_of(document["url"])], body
    if key == "messages":
        messages = body[key]
        parent, key = messages[-1], "content"
        way += [("messages", len(messages)), (len(messages) - 1, len(parent))]
    if not isinstance(parent.get(key), str):
        return None
    start = opening.end() + len(custom_id)
    for text in reversed([*re.finditer(_TEXT % key.encode(), line[start:], re.DOTALL)][-_MOST_TRIES:]):
        before, after = line[start : start + text.start(1)], line[start + text.end(1) :]
        emptied = parent | {key: ""}
        if orjson.loads(line[:start] + before + after) == _with(document, parent, emptied):
            return Example(opening.group(), before, after, tuple(way))
    return None


def _with(value: Any, old: Any, new: Any) -> Any:
    """`value` with the object `old` in it replaced by `new`."""
    if value is old:
        return new
    if isinstance(value, dict):
        return {key: _with(item, old, new) for key, item in value.items()}
    return [_with(item, old, new) for item in value] if isinstance(value, list) else value
