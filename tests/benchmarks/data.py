"""Input for benchmarks: made from a seed, the same every time, and kept for the next run."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

_SEED = 20_251_122
_FOREIGN = (
    "schöne Grüße aus Köln",
    "une crème brûlée à l’œil",
    "日本語のテキストです",
    "добрый день",
    "🍡 dango 🎏",
    "Ærøskøbing",
)
_SHARE = 0.27
"""Of rows with a text that is not ASCII."""


def texts(count: int, size: int) -> Iterator[str]:
    """Prose-like texts of about `size` characters: half have a line break, a quarter have quotes."""
    draw = random.Random(_SEED)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(5000)]
    for _ in range(count):
        parts = draw.choices(words, k=size // 6)
        for mark, share in ((",", 1.0), (".", 1.0), ("\n", 0.5), (' "so"', 0.25)):
            if draw.random() < share:
                parts[draw.randrange(len(parts))] += mark
        if draw.random() < _SHARE:
            parts[draw.randrange(len(parts))] = draw.choice(_FOREIGN)
        yield " ".join(parts)[:size]


def rows(count: int, size: int) -> Iterator[dict[str, Any]]:
    """Rows of a catalogue: sku, category and a description."""
    for number, text in enumerate(texts(count, size)):
        yield {"sku": f"sku-{number:07d}", "category": f"category {number % 40}", "description": text}


def lines_file(directory: Path, count: int, size: int) -> Path:
    """A file of chat lines."""
    path = directory / f"lines-{count}-{size}.jsonl"
    if not path.exists():
        with path.open("wb") as file:
            for row in rows(count, size):
                body = {
                    "model": "gpt-4o-batch",
                    "messages": [
                        {"role": "system", "content": "You are a careful librarian. Answer with one word."},
                        {"role": "user", "content": row["description"]},
                    ],
                    "max_tokens": 200,
                }
                line = {"custom_id": row["sku"], "method": "POST", "url": "/v1/chat/completions", "body": body}
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return path


def rows_file(directory: Path, count: int, size: int, suffix: str) -> Path:
    """A table, as .csv, .jsonl or .parquet."""
    path = directory / f"rows-{count}-{size}{suffix}"
    if path.exists():
        return path
    if suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "category", "description"])
            writer.writerows(row.values() for row in rows(count, size))
    elif suffix == ".jsonl":
        with path.open("wb") as out:
            out.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows(count, size))
    else:
        import pyarrow
        from pyarrow import parquet

        source, writer = rows(count, size), None
        while batch := [row for _, row in zip(range(20_000), source, strict=False)]:
            table = pyarrow.Table.from_pylist(batch)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return path
