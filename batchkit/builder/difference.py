"""Where the request lines of two jobs differ, in words without a prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from batchkit.text import visible

_PLAIN = (int, float, bool, type(None))
"""What is short, and no secret."""


def difference(before: Iterable[bytes], after: Iterable[bytes]) -> str | None:
    """The first row that differs, and in what; None where one is the beginning of the other. Which deployment is meant,
    and how many rows there are, others say."""
    for number, (was, now) in enumerate(zip(before, after), 1):  # noqa: B905  (what is longer, others say)
        if was != now and (words := _row(number, orjson.loads(was), orjson.loads(now))):
            return words
    return None


def _row(number: int, was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    named, name = (visible(str(line["custom_id"]), 80) for line in (was, now))
    if named != name:
        return f"row {number} is {named!r} there, {name!r} here"
    old, new = was["body"], now["body"]
    keys = sorted(key for key in old.keys() | new.keys() if key != "model" and old.get(key) != new.get(key))
    return f"row {number}, {name!r}, has another {', '.join(_key(old, new, key) for key in keys)}" if keys else None


def _key(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> str:
    said = [orjson.dumps(body[key]).decode() if key in body else "none" for body in (old, new)]
    plain = all(isinstance(body.get(key), _PLAIN) for body in (old, new))
    return f"{visible(key, 80)} ({said[0]} there, {said[1]} here)" if plain else visible(key, 80)
