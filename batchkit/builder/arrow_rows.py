"""Rows of columns: Parquet and Arrow files, and dataframes of any library through the Arrow PyCapsule interface."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from batchkit.disk import reading
from batchkit.errors import InputError, MissingExtra

_COLUMN = "give the dataframe that it is a column of, or make one of it: column.to_frame()"
_MIXED = "give each column values of one type, or give the rows as mappings: frame.to_dict('records')"
_UNNAMED = re.compile(r"__index_level_\d+__")
"""What pandas numbers its rows by, where that has no name."""
_ROWS = 256
"""Rows in hand at once: enough to make the cost of a batch vanish, few enough for rows of long text."""


def arrow_file(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file. Raises InputError, and MissingExtra without the extra `parquet`."""
    pyarrow = _pyarrow()
    from pyarrow import ipc, parquet

    with reading(path):
        try:
            if path.suffix.lower() == ".parquet":
                with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                    # Threads would each keep memory of their own; what takes the time is to make the rows.
                    yield from _rows(file.iter_batches(_ROWS, use_threads=False), path)
                return
            with pyarrow.memory_map(str(path)) as source:
                if source.read(6) == b"ARROW1":
                    file = ipc.open_file(source)
                    yield from _rows(map(file.get_batch, range(file.num_record_batches)), path)
                else:
                    source.seek(0)
                    yield from _rows(ipc.open_stream(source), path)
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{path}: {str(error).splitlines()[0]}", hint="is it the format its name says?") from None


def arrow_stream(source: Any) -> Iterator[dict[str, Any]]:
    """The rows of a dataframe. Raises InputError for a single column, and for what Arrow has no type for."""
    pyarrow, name = _pyarrow(), type(source).__name__
    try:
        if not hasattr(source, "__arrow_c_stream__"):  # pandas before 2.2
            source = pyarrow.Table.from_pandas(source)
        yield from _rows(pyarrow.RecordBatchReader.from_stream(source), name)
    except (pyarrow.ArrowException, ValueError) as error:
        words = str(error).splitlines()[0]
        if "non-struct type" in words:
            raise InputError(
                f"rows must be mappings or a dataframe, not a single column ({name})", hint=_COLUMN
            ) from None
        raise InputError(f"the {name} cannot be read as Arrow: {words}", hint=_MIXED) from None


class Frame:
    """The rows of a dataframe, from its beginning each time they are asked for."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return arrow_stream(self._source)


def _rows(batches: Iterable[Any], where: object) -> Iterator[dict[str, Any]]:
    for batch in batches:
        batch = batch.select([index for index, name in enumerate(batch.schema.names) if not _UNNAMED.fullmatch(name)])
        names = batch.schema.names
        if len(set(names)) < len(names):
            raise InputError(f"{where} names a column more than once")
        for start in range(0, batch.num_rows, _ROWS):
            columns = [column.to_pylist() for column in batch.slice(start, _ROWS).columns]
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values))  # noqa: B905  (a batch has a column for every name)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra(
            "Parquet, Arrow and dataframes need an extra", hint="pip install '.[parquet]' in the checkout"
        ) from None
    return pyarrow
