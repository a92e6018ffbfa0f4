"""The rows that a job was built from, side by side with their results: matched by name and in order, never by guess."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from batchkit.collector.columns import Kind, kind_of, wider
from batchkit.collector.merge import Row
from batchkit.errors import InputError
from batchkit.text import as_text

Rows = Callable[[], Iterable[Mapping[str, Any]]]
"""Rows that can be read from their start as often as they are needed."""
Named = Callable[[Mapping[str, Any], int], str]
"""From a row and its number, from 1, to its custom_id."""

_log = logging.getLogger(__name__)


def columns(rows: Rows) -> dict[str, Kind]:
    """The columns of all rows, in the order in which they first appear, and what they hold."""
    found: dict[str, Kind | None] = {}
    for row in rows():
        for name, value in row.items():
            found[name] = wider(found.get(name), kind_of(value))
    return {name: kind or Kind.TEXT for name, kind in found.items()}


def beside(rows: Rows, results: Iterable[Row], named: Named | None = None) -> Iterator[tuple[Mapping[str, Any], Row]]:
    """Each result with its input row.

    A row is a result's when `named` makes the custom_id of it; without that, when one and the same column holds the
    custom_id of all results, or when they are called row-1, row-2, … by position. Rows in between that were never sent
    are passed over. Raises InputError when the rows are not those of the job.
    """
    source, is_row_of = enumerate(rows(), 1), _same(named) if named else _Holding()
    skipped = 0
    for result in results:
        name = result.result.custom_id
        for number, row in source:
            if is_row_of(name, row, number):
                break
            skipped += 1
        else:
            words = f"the rows to join are not those of the job: none of them, in their order, is {name!r}"
            hint = "name the rows the job was built from; one of their columns must hold the custom_id"
            raise InputError(words, hint=hint)
        yield row, result
    skipped += sum(1 for _ in source)
    if skipped:
        _log.warning("%d of the joined rows are not in the job; they are left out", skipped)


def _same(named: Named) -> Callable[[str, Mapping[str, Any], int], bool]:
    return lambda name, row, number: named(row, number) == name


class _Holding:
    """Whether a row is the one of a name, by the columns that have held every name so far."""

    def __init__(self) -> None:
        self._columns: set[str] | None = None

    def __call__(self, name: str, row: Mapping[str, Any], number: int) -> bool:
        if self._columns is None and name == f"row-{number}":
            return True
        holding = {key for key in (row if self._columns is None else self._columns) if _holds(row.get(key), name)}
        self._columns = holding or self._columns
        return bool(holding)


def _holds(value: Any, name: str) -> bool:
    return value is not None and (value == name or as_text(value) == name)
