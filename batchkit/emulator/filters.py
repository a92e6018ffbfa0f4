"""`$filter` and `$orderby` of the dated previews: the part of OData that Microsoft's samples show.

`created_at gt|ge|lt|le|eq N` and `status eq|ne 'Word'` joined by `and`; `created_at asc|desc`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

Document = dict[str, Any]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}
_TERM = re.compile(r"(created_at)\s+(gt|ge|lt|le|eq|ne)\s+(\d+)|(status)\s+(eq|ne)\s+'([^']*)'", re.IGNORECASE)


def predicate(text: str) -> Callable[[Document], bool]:
    """The filter as a function of a batch document. Raises ValueError for what is not in the grammar."""
    tests: list[tuple[str, Callable[[Any, Any], bool], Any]] = []
    for term in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        match = _TERM.fullmatch(term.strip())
        if not match:
            raise ValueError(f"Invalid filter clause: {term!r}")
        number, word = match[1], match[4]
        if number:
            tests.append(("created_at", _COMPARE[match[2].lower()], int(match[3])))
        elif word:
            tests.append(("status", _COMPARE[match[5].lower()], match[6].lower()))
    return lambda doc: all(compare(doc[name], value) for name, compare, value in tests)


def descending(text: str) -> bool:
    """Whether `$orderby` asks for newest first. Raises ValueError for what is not in the grammar."""
    match = re.fullmatch(r"created_at(?:\s+(asc|desc))?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"Invalid orderby clause: {text!r}")
    return (match[1] or "asc").lower() == "desc"
