"""Results as Arrow record batches and as Parquet. Needs the extra `parquet`."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator
from importlib import import_module
from itertools import chain, islice
from typing import Any

from batchkit.collector.columns import Column, Kind, Table
from batchkit.errors import MissingExtra, ResultError
from batchkit.text import as_text

ROWS = 4096
"""Rows of one record batch."""
GROUP = 16
"""Record batches of one row group of a Parquet file."""


def arrow(module: str = "pyarrow") -> Any:
    """pyarrow, which says nothing of its types. Raises MissingExtra where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        words, hint = "Arrow and Parquet need the extra 'parquet'", "pip install '.[parquet]' in the checkout"
        raise MissingExtra(words, hint=hint) from None


def batches(made: Table, rows: Iterable[list[Any]]) -> Any:
    """The rows of a table as record batches, read as they are asked for."""
    pa = arrow()

    chunks = _chunks(rows)
    ahead = _until_known(made, chunks)
    fields = _schema(made, ahead)

    def read() -> Iterator[Any]:
        for chunk in chain(ahead, chunks):
            yield _batch(made, fields, chunk)

    return pa.RecordBatchReader.from_batches(fields, read())


def parquet(made: Table, rows: Iterable[list[Any]]) -> Generator[bytes, None, None]:
    """The rows of a table as the pieces of a Parquet file."""
    reader, sink = batches(made, rows), _Pieces()
    pa, pq = arrow(), arrow("pyarrow.parquet")

    with pq.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        source = iter(reader)
        while group := list(islice(source, GROUP)):
            writer.write_table(pa.Table.from_batches(group))
            yield sink.taken()
    yield sink.taken()


class _Pieces(io.RawIOBase):
    """A file that hands on what is written to it."""

    def __init__(self) -> None:
        self._written, self._taken = bytearray(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(memoryview(data))

    def tell(self) -> int:
        return self._taken + len(self._written)

    def taken(self) -> bytes:
        piece = bytes(self._written)
        self._taken += len(piece)
        self._written.clear()
        return piece


def _chunks(rows: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    """The rows, as many at once as a record batch holds."""
    source = iter(rows)
    while chunk := list(islice(source, ROWS)):
        yield chunk


def _until_known(made: Table, chunks: Iterator[list[list[Any]]]) -> list[list[list[Any]]]:
    """The first chunks, up to the one that has a vector where vectors are wanted: rows before may all have failed."""
    vectors = [index for index, column in enumerate(made.columns) if column.kind is Kind.VECTOR]
    ahead: list[list[list[Any]]] = []
    for chunk in chunks:
        ahead.append(chunk)
        if all(any(values[index] is not None for values in chunk) for index in vectors):
            break
    return ahead


def _schema(made: Table, ahead: list[list[list[Any]]]) -> Any:
    """The columns' types. How long a vector is, the first one says."""
    pa = arrow()

    plain = {
        Kind.TEXT: pa.string(),
        Kind.INTEGER: pa.int64(),
        Kind.NUMBER: pa.float64(),
        Kind.BOOLEAN: pa.bool_(),
    }
    fields: list[Any] = []
    for index, column in enumerate(made.columns):
        if column.kind is Kind.VECTOR:
            length = next((len(values[index]) for first in ahead for values in first if values[index] is not None), -1)
            fields.append(pa.field(column.name, pa.list_(pa.float32(), length)))  # -1: of any length, where none came
        else:
            fields.append(pa.field(column.name, plain[column.kind]))
    return pa.schema(fields)


def _batch(made: Table, fields: Any, rows: list[list[Any]]) -> Any:
    pa = arrow()

    arrays = [
        _array(column, field.type, list(values))
        for column, field, values in zip(made.columns, fields, zip(*rows, strict=True), strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=fields)


def _array(column: Column, kind: Any, values: list[Any]) -> Any:
    pa = arrow()

    if column.kind is Kind.TEXT:
        values = [value if value is None or isinstance(value, str) else as_text(value) for value in values]
    elif column.kind is Kind.NUMBER:  # Arrow takes no integer for a float that is not exactly one
        values = [value if value is None else float(value) for value in values]
    elif column.kind is Kind.VECTOR:
        length = getattr(kind, "list_size", None)
        for value in values:
            if value is not None and len(value) != length:
                words = f"an embedding has {len(value)} numbers, the first one {length}"
                raise ResultError(words, hint="write them as .jsonl, which takes any length")
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a lone surrogate, which no Arrow string can hold
        clean = [value and value.encode("utf-8", "backslashreplace").decode() for value in values]
        return pa.array(clean, kind)
