"""Request lines → parts that fit one input file each: greedy, in input order, same input same parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from batchkit.config import Limits
from batchkit.disk import PIECE, lines_name, reading, replacing
from batchkit.errors import InputError


@dataclass(frozen=True)
class Slice:
    """One part as written: its number in the round, and its size in lines and bytes."""

    number: int
    lines: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Staged:
    """A whole round as written. `sha256` is over all its lines, however they were cut."""

    slices: tuple[Slice, ...]
    sha256: str
    url: str
    deployment: str


def stage(lines: Iterable[bytes], directory: Path, limits: Limits, *, round_number: int = 0) -> Staged:
    """Write lines (JSONL bytes, one line each) into part files under `directory`.

    Raises InputError when there is no line, or one that no file may hold.
    """
    whole, slices = hashlib.sha256(), list[Slice]()
    source = iter(lines)
    first = line = next(source, None)
    if first is None:
        raise InputError("there is nothing to submit: no rows", hint="check that the input has rows")
    while line is not None:
        number = len(slices)
        part, size, count = hashlib.sha256(), 0, 0
        with replacing(directory / lines_name(round_number, number)) as file:
            while line is not None and count < limits.max_lines and size + len(line) <= limits.max_bytes:
                file.write(line)
                part.update(line)
                whole.update(line)
                size, count = size + len(line), count + 1
                line = next(source, None)
            if line is not None and not count:
                words = f"a line of {len(line)} bytes is larger than a file may be ({limits.max_bytes} bytes)"
                raise InputError(f"{words}: {_custom_id(line)}", hint="shorten that row")
        slices.append(Slice(number, count, size, part.hexdigest()))
    document = orjson.loads(first)
    return Staged(tuple(slices), whole.hexdigest(), document["url"], document["body"]["model"])


def file_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that `check` found good, each with its newline, without blank lines and CRs."""
    with reading(path), path.open("rb", buffering=PIECE) as file:
        for raw in file:
            if raw.endswith(b"\r\n") or not raw.endswith(b"\n"):
                raw = raw.rstrip(b"\r\n") + b"\n"
            if not raw.isspace():
                yield raw


def _custom_id(line: bytes) -> Any:
    return orjson.loads(line).get("custom_id")
