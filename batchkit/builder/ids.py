"""custom_ids: where a row's name comes from. Each can be found again from the row alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import orjson

from batchkit.builder.rows import Row
from batchkit.builder.template import OnMissing, Template, text
from batchkit.errors import InputError
from batchkit.text import plain

HASH = "@hash"
"""As `custom_id`: the row's content names it."""
Name = Callable[[Row, int], str]
"""From a row and its number, from 1, to its custom_id."""
UNIQUE = "name a column whose values are unique with --custom-id, or leave it away to number the rows"


def namer(custom_id: str | Callable[[Row], str] | None, on_missing: OnMissing = OnMissing.ERROR) -> Name:
    """How rows are named: by a column, a template such as `{country}-{sku}`, `@hash` for a hash of the row, a function,
    or by their number in the source (`row-1`, rows that are left out counted too).
    """
    if custom_id is None:
        return lambda _, number: f"row-{number}"
    if callable(custom_id):
        function = custom_id
        return lambda row, _: _checked(function(row))
    if custom_id == HASH:
        return lambda row, _: hashed(row)
    if "{" in custom_id:
        fill = Template.parse(custom_id).filler(on_missing)
        return lambda row, _: _named(fill(row), custom_id)
    column = custom_id

    def of_column(row: Row, _: int) -> str:
        value = row.get(column)
        if type(value) is not str:
            value = text(row, column, on_missing)
        return value or _named("", column)

    return of_column


def columns_of(custom_id: object) -> frozenset[str]:
    """The columns that name rows, where they are known."""
    if not isinstance(custom_id, str) or custom_id == HASH:
        return frozenset()
    return Template.parse(custom_id).columns if "{" in custom_id else frozenset((custom_id,))


def hashed(row: Row) -> str:
    """32 hexadecimal digits of the SHA-256 of a row's content, whatever the order of its columns."""
    try:
        written = orjson.dumps(dict(row), default=plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise InputError(f"the row cannot be hashed: {error}", hint=UNIQUE) from None
    return hashlib.sha256(written).hexdigest()[:32]


def _checked(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"the custom_id that was made is {name!r}", hint="it must be a non-empty string")
    return name


def _named(name: str, source: str) -> str:
    if not name:
        raise InputError(f"column {source!r} is empty: it cannot name the row", hint=UNIQUE)
    return name
