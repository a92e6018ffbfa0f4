"""How a caller wishes results to be written: plain words → the shape that the collector works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from batchkit.builder.ids import Name, namer
from batchkit.builder.rows import Row, mappings, read_rows
from batchkit.builder.template import SkipRow
from batchkit.errors import InputError
from batchkit.given import expect_call

if TYPE_CHECKING:
    from batchkit.collector.export import Shape
    from batchkit.collector.join import Named, Rows


class Wishes(TypedDict, total=False):
    """How results are written.

    `format` is csv, tsv, parquet, jsonl, or raw for the service's own lines (default: by the suffix of the file).
    `columns` names the columns, in their order, of a flat table. `join` are the rows the job was built from, a file,
    mappings or a dataframe: their columns come first, unless `columns` names some of them, and keep their names: one of
    ours that is taken is `result_NAME`, a property of the answers that is taken by either `answer_NAME`. `custom_id`
    says how such a row is named, as in `lines`, where no column holds its custom_id; `run` knows it of `lines` that it
    is given. A column custom_id is always text, whatever the rows hold. `each` gives every embedding a row of its own.
    """

    format: str | None
    columns: Sequence[str] | None
    join: Any
    custom_id: str | Callable[[Row], str] | None
    each: bool


def shape_of(out: str | Path | None, wishes: Wishes, source: object = None) -> Shape:
    """The shape of results that is wished for; Lines as `source` know how their rows are named. Raises UsageError,
    or MissingExtra for what is not installed."""
    from batchkit.collector.export import Shape, format_of  # whoever only wishes need not load the network

    if unknown := wishes.keys() - Wishes.__annotations__.keys():
        raise TypeError(f"there is no {', '.join(sorted(unknown))}; results take {', '.join(Wishes.__annotations__)}")
    columns, join = wishes.get("columns"), wishes.get("join")
    columns = (columns,) if isinstance(columns, str) else columns
    expect_call(out=out, format=wishes.get("format"), columns=columns, custom_id=wishes.get("custom_id"))
    return Shape(
        format=format_of(None if out is None else Path(out), wishes.get("format")),
        columns=None if columns is None else tuple(columns),
        rows=None if join is None else _readable(join),
        named=_named(wishes.get("custom_id"), source),
        each=wishes.get("each", False),
    )


def _named(custom_id: object, source: object) -> Named | None:
    """What names a row again as it was named, or raises InputError where it has no name."""
    from batchkit.builder.lines import Lines

    if isinstance(custom_id, str) or callable(custom_id):
        return _held(namer(custom_id))
    return _held(source.name) if isinstance(source, Lines) else None


def _held(name: Name) -> Named:
    def named(row: Row, number: int) -> str:
        try:
            return name(row, number)
        except InputError:
            raise
        except SkipRow:
            raise InputError("it lacks a column") from None
        except KeyError as error:
            raise InputError(f"column {error} is missing") from None
        except Exception as error:  # a function of the user's own
            raise InputError(f"{type(error).__name__}: {error}") from error

    return named


def _readable(join: Any) -> Rows:
    """Rows that can be read more than once, whatever they come from."""
    if isinstance(join, (str, Path)):
        place = join
        return lambda: read_rows(place)
    kept = list(join) if isinstance(join, Iterator) else join
    return lambda: mappings(kept)
