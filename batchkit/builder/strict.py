"""One line of bytes → one JSON object, or the name of what is wrong with it and where.

Strict as RFC 8259 and RFC 3629 are, and stricter where parsers disagree: no lone surrogates, no number that a double
cannot hold, no key twice in the two upper levels.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"
_WORDS = dict.fromkeys(("NaN", "Infinity"), "nan") | dict.fromkeys(
    ("True", "False", "None", "undefined"), "python_literal"
)
_REASONS = (
    ("trailing comma", "trailing_comma"),
    ("surrogate", "lone_surrogate"),
    ("control character", "control_character"),
    ("infinity", "number_too_large"),
    ("depth limit", "too_deep"),
    ("content after", "two_objects"),
    ("end of data", "cut_short"),
)


class Flaw(Exception):
    """Why a line is not a JSON object: a rule of `findings`, its facts, and the byte within the line."""

    def __init__(self, rule: str, at: int = 0, **facts: Any) -> None:
        super().__init__(rule)
        self.rule, self.at, self.facts = rule, at, facts


def parse(raw: bytes) -> dict[str, Any]:
    """The object on a line. Raises Flaw."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _flaw(raw, error) from None
    if not isinstance(document, dict):
        raise Flaw("not_object", kind=kind(document))
    return document


def repeated_keys(raw: bytes, document: dict[str, Any]) -> list[tuple[str, str]]:
    """Where a key stands twice in a line or in its body: parsers differ in which of the two they take. Raises Flaw."""
    try:
        written = orjson.dumps(document)
    except TypeError:  # it reads deeper than it writes
        raise Flaw("too_deep") from None
    if b"\\u0022" not in raw and raw.count(b'"') == written.count(b'"'):
        return []  # a key that stood twice would have left its quotes behind
    found = dict(pairs := json.loads(raw, object_pairs_hook=_Pairs))
    levels = [("the line", pairs), ("body", found.get("body"))]
    return [
        (where, key)
        for where, level in levels
        if isinstance(level, _Pairs)
        for key, times in Counter(key for key, _ in level).items()
        if times > 1
    ]


class _Pairs(list[tuple[str, Any]]):
    """An object as all its pairs, repeated ones too."""


def wide_encoding(head: bytes) -> str | None:
    """The two- or four-byte encoding that a file begins in, if it does."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if len(head) >= 2 and (head[0] == 0) != (head[1] == 0):
        return "UTF-16BE" if head[0] == 0 else "UTF-16LE"
    return None


def undecodable(raw: bytes, error: UnicodeDecodeError) -> Flaw:
    """What a byte that is not UTF-8 is, as far as the bytes around it tell."""
    at, byte, after = error.start, raw[error.start], raw[error.start + 1 : error.start + 2]
    follow = after[0] if after else 0
    if byte == 0xED and 0xA0 <= follow <= 0xBF:
        return Flaw("surrogate_bytes", at, octet=follow)
    overlong_follow = (byte == 0xE0 and 0x80 <= follow < 0xA0) or (byte == 0xF0 and 0x80 <= follow < 0x90)
    if (byte in (0xC0, 0xC1) and 0x80 <= follow <= 0xBF) or overlong_follow:
        return Flaw("overlong", at, octet=byte)
    encoding = "WINDOWS-1252"  # which is Latin-1 where Latin-1 has letters, and more
    try:
        character = raw[at : at + 1].decode(encoding)
    except UnicodeDecodeError:
        return Flaw("broken_utf8", at, octet=byte, reason=error.reason)
    if 0x80 <= follow <= 0xBF:  # a sequence that begins well and breaks off: damaged UTF-8 rather than another encoding
        return Flaw("broken_utf8", at, octet=byte, reason=error.reason)
    return Flaw("legacy_encoding", at, octet=byte, encoding=encoding, character=character)


def kind(value: Any) -> str:
    """The JSON name of a value's type."""
    if value is None:
        return "null"
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)


def _flaw(raw: bytes, error: orjson.JSONDecodeError) -> Flaw:
    try:
        text = raw.decode()
    except UnicodeDecodeError as bad:
        return undecodable(raw, bad)
    position = min(error.pos, len(text))
    at, rest = len(text[:position].encode()), text[position:]
    if text[position - 1 : position] == "-" and rest.startswith(("Infinity", "NaN")):
        return Flaw("nan", at - 1, word=f"-{rest[:8] if rest[0] == 'I' else rest[:3]}")
    for word, rule in _WORDS.items():
        if rest.startswith(word):
            return Flaw(rule, at, word=word)
    if rest.startswith("'"):
        return Flaw("single_quotes", at)
    for words, rule in _REASONS:
        if words in error.msg:
            facts = {"octet": raw[at]} if rule == "control_character" else {}
            return Flaw(rule, at, **facts)
    return Flaw("not_json", at, reason=error.msg)
