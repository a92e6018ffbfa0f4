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
"""From a row and its number, from 1, to its custom_id. Raises InputError for a row that has none."""

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

    A row is a result's when `named` makes the custom_id of it, or one and the same column holds the custom_id of all
    results, or when they are called row-1, row-2, … by position. Rows in between that were never sent
    are passed over. Raises InputError when the rows are not those of the job.
    """
    source, is_row_of = enumerate(rows(), 1), _Holding(named)
    skipped = 0
    for result in results:
        name = result.result.custom_id
        for number, row in source:
            if is_row_of(name, row, number):
                break
            skipped += 1
        else:
            raise _strange(rows, name, is_row_of)
        yield row, result
    skipped += sum(1 for _ in source)
    if skipped:
        _log.warning("%d of the joined rows are not in the job; they are left out", skipped)


def _strange(rows: Rows, name: str, is_row_of: _Holding) -> InputError:
    """Why no row that is left is the one of this name."""
    if any(is_row_of(name, row, number) for number, row in enumerate(rows(), 1)):
        words = f"the rows to join are in another order than the job's: that of {name!r} comes too early"
        return InputError(words, hint="give the rows in the order in which the job was built from them")
    words = f"the rows to join are not those of the job: none of them, in their order, is {name!r}"
    hint = "name the rows the job was built from; one of their columns must hold the custom_id, or custom_id makes it"
    return InputError(words + (f" ({is_row_of.nameless})" if is_row_of.nameless else ""), hint=hint)


class _Holding:
    """Whether a row is the one of a name: it makes it, or a column has it that has held every name so far."""

    def __init__(self, named: Named | None) -> None:
        self._named = named
        self._columns: set[str] | None = None
        self.nameless = ""
        """Why the first row that cannot be named cannot."""

    def __call__(self, name: str, row: Mapping[str, Any], number: int) -> bool:
        try:
            if self._named is not None and self._named(row, number) == name:
                return True
        except InputError as error:
            self.nameless = self.nameless or f"row {number} cannot be named: {error}"
        if self._columns is None and name == f"row-{number}":
            return True
        holding = {key for key in (row if self._columns is None else self._columns) if _holds(row.get(key), name)}
        self._columns = holding or self._columns
        return bool(holding)


def _holds(value: Any, name: str) -> bool:
    return value is not None and (value == name or as_text(value) == name)
