"""A second process that clears a large file from its end, while `check` reads it from its beginning, until they meet.

It says of a piece no more than that all lines in it are faultless, and what their ids are; whatever is not, is judged
by `check` itself when it comes there. So what is found, and in which order, does not depend on it.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from batchkit import second
from batchkit.builder.findings import Findings
from batchkit.builder.judge import Judge
from batchkit.builder.likeness import Example, Likeness
from batchkit.builder.rules import Ids, Rules

PIECE = 1 << 18
"""Bytes after which the next piece begins, with the next line."""
LARGE = 128 * PIECE
"""Bytes from which a second process is worth starting."""

_HEAD = struct.Struct("<4q")


class Cleared(NamedTuple):
    """A piece of faultless lines: from which byte to which, how many, and their ids. Without lines it is not clear."""

    begin: int
    end: int
    lines: int
    names: bytes

    @property
    def ids(self) -> list[bytes]:
        return self.names.split(b"\n")


class _Task(NamedTuple):
    path: str
    pieces: range
    examples: Sequence[Example]
    azure: bool
    url: str
    deployment: str
    refused: dict[str, dict[str, str]]


class Ahead:
    """The second process, as the first one sees it."""

    def __init__(self, path: Path, rest: range, judge: Judge) -> None:
        """Send it over the bytes `rest` of a file, of which the lines before are judged."""
        rules = judge.rules
        assert rules.url and rules.deployment
        pieces = range((rest.stop - 1) // PIECE, rest.start // PIECE, -1)
        examples = judge.likeness.examples
        task = _Task(str(path.resolve()), pieces, examples, rules.azure, rules.url, rules.deployment, rules.refused)
        self._other = second.start(__name__, task)
        assert self._other.stdout is not None
        self._pipe = self._other.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._came = bytearray()
        self._found: dict[int, Cleared] = {}

    def cleared(self, begin: int) -> Cleared | None:
        """The piece that begins at this byte, if it is faultless."""
        self._receive()
        found = self._found.pop(begin, None)
        return found if found and found.lines else None

    def close(self) -> None:
        second.stop(self._other)

    def _receive(self) -> None:
        """Take what has come; a process that died says no more."""
        try:
            while some := os.read(self._pipe, PIECE):
                self._came += some
        except BlockingIOError:
            pass
        at = 0
        while len(self._came) - at >= _HEAD.size:
            begin, end, lines, size = _HEAD.unpack_from(self._came, at)
            if len(self._came) - at - _HEAD.size < size:
                break
            at += _HEAD.size
            self._found[begin] = Cleared(begin, end, lines, bytes(self._came[at : at + size]))
            at += size
        del self._came[:at]


class _Doubt(Exception):
    """There is something to say of a line."""


class _Doubts(Findings):
    def add(self, rule: str, **_: Any) -> NoReturn:
        raise _Doubt(rule)


class _Noted(Ids):
    """The ids of one piece, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[bytes] = []

    def add_all(self, names: list[bytes]) -> bool:
        self.names += names
        return super().add_all(names)


def _clear(file: BinaryIO, piece: int, judge: Judge, ids: _Noted) -> Cleared:
    """The piece of this number."""
    file.seek(piece * PIECE - 1)
    file.readline()
    begin, until = file.tell(), (piece + 1) * PIECE
    lines = file.readlines(until - begin) if begin < until else []
    end = file.tell()
    ids.seen.clear()
    ids.names.clear()
    try:
        judge.lines(lines, 1, 0)
    except _Doubt:
        return Cleared(begin, end, 0, b"")
    names = b"\n".join(ids.names)
    return Cleared(begin, end, len(lines) if names.count(b"\n") == len(lines) - 1 else 0, names)


def _main() -> None:
    task: _Task = second.told()
    ids = _Noted()
    rules = Rules(azure=task.azure)
    rules.url, rules.deployment, rules.refused, rules.ids = task.url, task.deployment, task.refused, ids
    judge = Judge(_Doubts(0), rules, Likeness(task.examples))
    with open(task.path, "rb", buffering=PIECE + (PIECE >> 3)) as file:
        for piece in task.pieces:
            begin, end, lines, names = _clear(file, piece, judge, ids)
            sys.stdout.buffer.write(_HEAD.pack(begin, end, lines, len(names)) + names)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
