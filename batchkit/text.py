"""Untrusted text made safe: for a terminal, for a spreadsheet cell, for a local file name."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any


def visible(text: str, limit: int = 2000) -> str:
    """`text` with every control, bidirectional and zero-width character escaped, cut to `limit` characters.

    Server text printed as it is could move the cursor, set the clipboard or forge a log line.
    """
    return "".join(_escaped(c) if unicodedata.category(c) in _HIDDEN else c for c in shortened(text, limit))


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def shortened(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, with … where something is left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def csv_cell(value: str) -> str:
    """`value` with a leading `'` where a spreadsheet would otherwise run it as a formula (OWASP ASVS 1.2.10). A number
    is none."""
    return "'" + value if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def plain(value: object) -> str:
    """What JSON has no type for, as text: times of a library's own, such as pandas', as all others."""
    return value.isoformat() if isinstance(value, date) else str(value)


def as_text(value: Any) -> str:
    """Any value as text: strings as they are, dates as ISO 8601, what JSON has no type for as Python writes it, all
    else as JSON. Raises TypeError, ValueError or RecursionError for what cannot be written."""
    if isinstance(value, str):
        return value
    import orjson  # which most commands do without

    try:
        written = orjson.dumps(value, default=plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, default=plain, ensure_ascii=False, separators=(",", ":"))
    if written.startswith(b'"'):  # in a text it needs no quotes
        return str(orjson.loads(written))
    return written.decode()


def slug(text: str, limit: int = 60) -> str:
    """`text` as a plain file-name piece: letters, digits, dot, dash and underscore; never empty, never a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:limit] or "job"


def plural(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The one of the known words that was probably meant, if one is so near (0 to 1), whatever their case."""
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in known}
    return next((folded[found] for found in get_close_matches(word.casefold(), sorted(folded), 1, likeness)), None)


def utc(moment: float) -> str:
    """A moment (Unix seconds) for people, to the minute: `16:42 UTC`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M UTC")


def duration(seconds: float) -> str:
    """Seconds in words a person reads: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{days} d {hours % 24} h"
