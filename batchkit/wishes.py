"""How a caller wishes results to be written: plain words → the shape that the collector works with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from batchkit.builder.rows import mappings, read_rows
from batchkit.given import expect_call

if TYPE_CHECKING:
    from batchkit.collector.export import Shape
    from batchkit.collector.join import Named, Rows


class Wishes(TypedDict, total=False):
    """How results are written.

    `format` is csv, tsv, parquet, jsonl, or raw for the service's own lines (default: by the suffix of the file).
    `columns` names the columns, in their order, of a flat table. `join` are the rows the job was built from, a file,
    mappings or a dataframe: their columns come first, unless `columns` names some of them, and keep their names: one of
    ours that is taken is `result_NAME`, a property of the answers that is taken by either `answer_NAME`. `named` makes
    the custom_id of such a row and its number, where no column holds it. `each` gives every embedding a row of its own.
    """

    format: str | None
    columns: Sequence[str] | None
    join: Any
    named: Named | None
    each: bool


def shape_of(out: str | Path | None, wishes: Wishes) -> Shape:
    """The shape of results that is wished for. Raises UsageError, or MissingExtra for what is not installed."""
    from batchkit.collector.export import Shape, format_of  # whoever only wishes need not load the network

    if unknown := wishes.keys() - Wishes.__annotations__.keys():
        raise TypeError(f"there is no {', '.join(sorted(unknown))}; results take {', '.join(Wishes.__annotations__)}")
    columns, join = wishes.get("columns"), wishes.get("join")
    columns = (columns,) if isinstance(columns, str) else columns
    expect_call(out=out, format=wishes.get("format"), columns=columns, named=wishes.get("named"))
    return Shape(
        format=format_of(None if out is None else Path(out), wishes.get("format")),
        columns=None if columns is None else tuple(columns),
        rows=None if join is None else _readable(join),
        named=wishes.get("named"),
        each=wishes.get("each", False),
    )


def _readable(join: Any) -> Rows:
    """Rows that can be read more than once, whatever they come from."""
    if isinstance(join, (str, Path)):
        place = join
        return lambda: read_rows(place)
    kept = list(join) if isinstance(join, Iterator) else join
    return lambda: mappings(kept)
