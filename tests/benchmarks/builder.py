"""check, build and split against what people write by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

import batchkit
import batchkit.builder.check  # the others' imports are not measured either
from batchkit.builder.lines import Lines, encode
from batchkit.builder.split import stage

from . import data
from .harness import Contender, compare, durable

HERE = "tests.benchmarks.builder"
PIECE = 1 << 20


def table_check(directory: Path, scale: float, rounds: int) -> bool:
    count = int(100_000 * scale)
    path = data.lines_file(directory, count, 1800)
    loads, loop = "orjson.loads loop", "json.loads loop"
    return compare(
        f"check: {count:,} chat lines, {path.stat().st_size / 1e6:.0f} MB, 27 % with text that is not ASCII",
        [
            Contender(loads, f"{HERE}:orjson_loop", [path]),
            Contender(loop, f"{HERE}:json_loop", [path]),
            Contender("batchkit check", f"{HERE}:check", [path], {loads: 1.8, loop: 4.0}, rss=60 + 100 * count / 1e6),
            Contender("batchkit check, all lines judged", f"{HERE}:check_all", [path]),
            Contender("read lines only", f"{HERE}:read_lines", [path]),
        ],
        rounds=rounds,
    )


def table_build(directory: Path, scale: float, rounds: int) -> bool:
    count, good = int(300_000 * scale), True
    for suffix, rss in ((".csv", 100), (".jsonl", 100), (".parquet", 250)):
        path, out = data.rows_file(directory, count, 1500, suffix), directory / "out.jsonl"
        bare = "bare orjson.dumps loop"
        good &= compare(
            f"build: {count:,} rows of 1.5 KB from {suffix}",
            [
                Contender(bare, f"{HERE}:bare", [path, out]),
                Contender("the same, durable", f"{HERE}:bare_durable", [path, out]),
                Contender("batchkit build", f"{HERE}:build", [path, out], {bare: 0.9}, rss=rss),
                Contender(
                    "batchkit build, split and hashed",
                    f"{HERE}:build_and_split",
                    [path, directory],
                    {bare: 0.9},
                    rss=rss,
                ),
            ],
            rounds=rounds,
        )
    return good


def orjson_loop(path: str) -> None:
    with Path(path).open("rb") as file:
        for line in file:
            orjson.loads(line)


def json_loop(path: str) -> None:
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            json.loads(line)


def read_lines(path: str) -> None:
    with Path(path).open("rb", buffering=PIECE) as file:
        for _ in file:
            pass


def check(path: str) -> None:
    assert batchkit.check(path, limits=None).ok


def check_all(path: str) -> None:
    """As if no line were like another."""
    from batchkit.builder.rules import Rules
    from batchkit.builder.strict import parse, repeated_keys

    rules = Rules()

    def blame(rule: str, **facts: object) -> None:
        raise AssertionError(rule, facts)

    with Path(path).open("rb", buffering=PIECE) as file:
        for line in file:
            document = parse(line)
            assert not repeated_keys(line, document)
            rules.judge(document, blame)


def bare(path: str, out: str) -> None:
    """The shortest program that makes the same lines: no ids checked, nothing hashed, nothing judged."""
    with Path(out).open("wb", buffering=PIECE) as file:
        for row in _reader(path):
            body = {
                "messages": [{"role": "user", "content": f"Classify: {row[2]}"}],
                "max_tokens": 200,
                "model": "gpt-4o-batch",
            }
            line = {"custom_id": row[0], "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def bare_durable(path: str, out: str) -> None:
    bare(path, out)
    durable(out)


def _reader(path: str) -> Iterable[Any]:
    if path.endswith(".csv"):
        return csv.reader(Path(path).open(encoding="utf-8", newline=""))
    if path.endswith(".jsonl"):
        return (list(orjson.loads(line).values()) for line in Path(path).open("rb"))
    from pyarrow import parquet

    batches = parquet.ParquetFile(path).iter_batches(1024)
    return (row for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True))


def _lines(path: str) -> Lines:
    rows = batchkit.read_rows(path)
    params = {"max_tokens": 200}
    return batchkit.lines(
        rows, deployment="gpt-4o-batch", custom_id="sku", body="Classify: {description}", params=params
    )


def build(path: str, out: str) -> None:
    with Path(out).open("wb", buffering=PIECE) as file:
        file.writelines(encode(_lines(path)))


def build_and_split(path: str, directory: str) -> None:
    """What `submit` does with rows: into part files under the limits of Azure, durable and hashed."""
    staged = stage(encode(_lines(path)), Path(directory), batchkit.Limits())
    assert len(staged.slices) > 1 or sum(part.lines for part in staged.slices) <= batchkit.Limits().max_lines
