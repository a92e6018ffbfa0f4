"""The rows that a job was built from, side by side with their results: matched by name and in order, never by guess."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from batchkit.collector.columns import Kind, as_text, kind_of, wider
from batchkit.collector.merge import Row
from batchkit.errors import InputError

Rows = Callable[[], Iterable[Mapping[str, Any]]]
"""Rows that can be read from their start as often as they are needed."""

_log = logging.getLogger(__name__)


def columns(rows: Rows) -> dict[str, Kind]:
    """The columns of all rows, in the order in which they first appear, and what they hold."""
    found: dict[str, Kind | None] = {}
    for row in rows():
        for name, value in row.items():
            found[name] = wider(found.get(name), kind_of(value))
    return {name: kind or Kind.TEXT for name, kind in found.items()}


def beside(rows: Rows, results: Iterable[Row]) -> Iterator[tuple[Mapping[str, Any], Row]]:
    """Each result with its input row.

    A row is a result's when one and the same column holds the custom_id of all results, or when they are called row-1,
    row-2, … by position; rows in between that were never sent are passed over. Raises InputError when the rows are not
    those of the job.
    """
    source = enumerate(rows(), 1)
    naming: set[str] | None = None  # the columns that have held every custom_id so far
    skipped = 0
    for result in results:
        name = result.result.custom_id
        for number, row in source:
            if naming is None and name == f"row-{number}":
                break
            holding = {key for key in (row if naming is None else naming) if _holds(row.get(key), name)}
            if holding:
                naming = holding
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


def _holds(value: Any, name: str) -> bool:
    return value is not None and (value == name or as_text(value) == name)
