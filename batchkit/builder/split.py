"""Request lines → parts that fit one input file each: greedy, in input order, without a runt; same input same parts."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from batchkit.builder.strict import BOM
from batchkit.builder.tokens import tokens_of
from batchkit.config import Limits
from batchkit.disk import PIECE, lines_name, reading, replacing
from batchkit.errors import InputError

_BLOCK = 64
"""Lines handled at once: few enough that lines with images stay small in memory."""
_AHEAD = 2
"""Pieces that may wait to be written."""


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


class Size(NamedTuple):
    """How much of a file's limits lines take."""

    lines: int = 0
    bytes: int = 0
    tokens: int = 0

    def plus(self, other: Size) -> Size:
        return Size(self.lines + other.lines, self.bytes + other.bytes, self.tokens + other.tokens)

    def minus(self, other: Size) -> Size:
        return Size(self.lines - other.lines, self.bytes - other.bytes, self.tokens - other.tokens)

    def load(self, limits: Limits) -> float:
        """The share of the limit that is reached first; over 1 it does not fit."""
        tokens = self.tokens / limits.enqueued_tokens if limits.enqueued_tokens else 0.0
        return max(self.lines / limits.max_lines, self.bytes / limits.max_bytes, tokens)


def stage(lines: Iterable[bytes], directory: Path, limits: Limits, *, round_number: int = 0) -> Staged:
    """Write lines (JSONL bytes, one line each) into part files under `directory`.

    Each part takes what fits; a last one that would be less than half as full as the one before shares with it. Raises
    InputError when there is no line, or one that no file may hold.
    """
    source = iter(lines)
    block = [*islice(source, _BLOCK)]
    if not block:
        raise InputError("there is nothing to submit: no rows", hint="check that the input has rows")
    document = orjson.loads(block[0])
    whole, parts = hashlib.sha256(), list[_Part]()
    while block:
        part = _Part(directory / lines_name(round_number, len(parts)), limits)
        # The first part begins as the whole does, so that its hash is had for nothing.
        block = part.fill(block, source, whole, None if not parts else hashlib.sha256())
        parts.append(part)
    if len(parts) > 1 and parts[-1].size.load(limits) * 2 < parts[-2].size.load(limits):
        _share(parts[-2], parts[-1], limits)
    slices = (Slice(n, part.size.lines, part.size.bytes, part.sha256) for n, part in enumerate(parts))
    return Staged(tuple(slices), whole.hexdigest(), document["url"], document["body"]["model"])


class _Part:
    """A part file being written."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self._limits = path, limits
        self.size, self.sha256 = Size(), ""

    def fill(self, block: list[bytes], source: Iterator[bytes], whole: Any, own: Any) -> list[bytes]:
        """Write `block` and what follows in `source` until a line does not fit, and return what was read too far."""
        rest: list[bytes] = []
        with replacing(self.path) as file, _Hashed(file, [whole] if own is None else [whole, own]) as out:
            while block and not rest:
                size = self.size.plus(self._size_of(block))
                if size.load(self._limits) > 1:
                    size, block, rest = self._what_fits(block)
                out.write(block, size.bytes - self.size.bytes)
                self.size = size
                block = rest or [*islice(source, _BLOCK)]
            if not self.size.lines:
                raise _too_large(rest[0], self._limits)
        self.sha256 = (whole if own is None else own).hexdigest()
        return rest

    def sizes(self) -> Iterator[Size]:
        """The size of each line in it."""
        with self.path.open("rb", buffering=PIECE) as file:
            for line in file:
                yield self._size_of([line])

    def _what_fits(self, block: list[bytes]) -> tuple[Size, list[bytes], list[bytes]]:
        """The lines of a block that still fit, with the size they make, and the others."""
        size = self.size
        for index, line in enumerate(block):
            more = size.plus(self._size_of([line]))
            if more.load(self._limits) > 1:
                return size, block[:index], block[index:]
            size = more
        return size, block, []

    def _size_of(self, lines: list[bytes]) -> Size:
        return Size(len(lines), sum(map(len, lines)), sum(map(tokens_of, lines)) if self._limits.enqueued_tokens else 0)


def _share(before: _Part, last: _Part, limits: Limits) -> None:
    """Cut the last two parts anew, where the fuller of them is least full."""
    total, head = before.size.plus(last.size), Size()
    cut, least = head, float("inf")
    for size in chain(before.sizes(), last.sizes()):
        head = head.plus(size)
        if (fuller := max(head.load(limits), total.minus(head).load(limits))) < least:
            cut, least = head, fuller
    with before.path.open("rb", buffering=PIECE) as one, last.path.open("rb", buffering=PIECE) as two:
        lines = chain(one, two)
        for part, size in ((before, cut), (last, total.minus(cut))):
            digest = hashlib.sha256()
            with replacing(part.path) as file, _Hashed(file, [digest]) as out:
                for start in range(0, size.lines, _BLOCK):
                    block = [*islice(lines, min(_BLOCK, size.lines - start))]
                    out.write(block, sum(map(len, block)))
            part.size, part.sha256 = size, digest.hexdigest()


class _Hashed:
    """Lines on their way into a file and its hashes, in large pieces: a thread hashes and writes, which leaves the
    interpreter alone."""

    def __init__(self, file: BinaryIO, hashes: list[Any]) -> None:
        self._file, self._hashes = file, hashes
        self._lines: list[bytes] = []
        self._pending = 0
        self._doing = deque[Future[None]]()
        self._stack = ExitStack()

    def __enter__(self) -> _Hashed:
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1))
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            self._flush()
            for done in self._doing:
                done.result()

    def write(self, lines: list[bytes], size: int) -> None:
        self._lines += lines
        self._pending += size
        if self._pending >= PIECE:
            self._flush()

    def _flush(self) -> None:
        piece = b"".join(self._lines)
        self._lines.clear()
        self._pending = 0
        if len(self._doing) > _AHEAD:
            self._doing.popleft().result()
        self._doing.append(self._thread.submit(self._put, piece))

    def _put(self, piece: bytes) -> None:
        for digest in self._hashes:
            digest.update(piece)
        self._file.write(piece)


def _too_large(line: bytes, limits: Limits) -> InputError:
    name = orjson.loads(line).get("custom_id")
    if len(line) > limits.max_bytes:
        words = f"a line of {len(line)} bytes is larger than a file may be ({limits.max_bytes} bytes)"
    else:
        most = limits.enqueued_tokens
        words = f"a line of about {tokens_of(line)} tokens is more than the deployment takes ({most} tokens)"
    return InputError(f"{words}: {name}", hint="shorten that row")


def file_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its newline; without a BOM in front, blank lines and CRs."""
    with reading(path), path.open("rb", buffering=PIECE) as file:
        for number, raw in enumerate(file):
            if number == 0:
                raw = raw.removeprefix(BOM)
            if raw.endswith(b"\r\n") or not raw.endswith(b"\n"):
                raw = raw.rstrip(b"\r\n") + b"\n"
            if not raw.isspace():
                yield raw


def deployment_of(path: Path) -> str | None:
    """The deployment that the first good line of a file names, if one of the first lines does."""
    with reading(path), path.open("rb") as file:
        for raw in islice(file, 100):
            try:
                model = orjson.loads(raw.removeprefix(BOM))["body"]["model"]
            except (orjson.JSONDecodeError, LookupError, TypeError):
                continue
            return model if isinstance(model, str) else None
    return None
