"""A large file is judged by two processes as by one."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from batchkit import check
from batchkit.builder.ahead import LARGE, PIECE, Ahead
from batchkit.builder.findings import Findings
from batchkit.builder.judge import Judge
from batchkit.builder.likeness import Likeness
from batchkit.builder.rules import Rules

from .conftest import request_line

PATIENCE_S = 60


def written(number: int, **changes: object) -> bytes:
    return orjson.dumps(request_line(number, text="schön " * 400) | changes) + b"\n"


def faulty(number: int) -> Iterator[bytes]:
    """A line that needs a second look, each kind in turn."""
    plain = written(number)
    yield plain.replace(b"\n", b"\r\n")
    yield b"\n"
    yield written(number, custom_id="row-7")
    yield plain + written(number + 1_000_000, custom_id=f"row-{number}")
    yield written(number, url="/v1/responses")
    yield plain.replace(b"gpt-4o-batch", b"another")
    yield plain.replace(b"sch", b"\xff")
    yield plain.replace(b'"messages"', b'"max_tokens":0,"messages"')
    yield plain[:-30] + b"\n"


def lines(size: int, faults: float) -> Iterator[bytes]:
    """Lines of so many bytes: most of them alike, some of another kind or longer than a piece, and faulty ones."""
    draw, number = random.Random(4), 0
    while size > 0:
        number += 1
        made = written(number)
        if draw.random() < 0.01:
            made = made.replace(b'"messages"', b'"max_tokens":%d,"messages"' % number)
        elif number in (2_000, 9_000):
            made = written(number, body=request_line(number, text="long " * PIECE)["body"])
        elif draw.random() < faults:
            made = draw.choice([*faulty(number)])
        size -= len(made)
        yield made


@pytest.mark.parametrize("faults", [0.0, 0.002])
def test_two_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: float) -> None:
    path = tmp_path / "lines.jsonl"
    with path.open("wb") as file:
        file.writelines(lines(LARGE + 12 * PIECE, faults))
        file.write(written(10**9).rstrip())
    both = check(path, limits=None)
    assert both.errors if faults else both.codes == {"no_final_newline": 1}
    for nobody in ("", "/bin/false", "/nowhere/python"):  # not asked for, gone at once, not to be had
        monkeypatch.setattr(sys, "executable", nobody)
        assert check(path, limits=None) == both


def test_the_second_process_clears_just_the_pieces_without_fault(tmp_path: Path) -> None:
    path, good = tmp_path / "lines.jsonl", [written(number) for number in range(900)]
    bad = random.Random(1).sample(range(500, 900), 3)
    for index, number in enumerate(bad):
        good[number] = list(faulty(number))[index * 4]
    path.write_bytes(b"".join(good))
    with path.open("rb") as file:
        judge = Judge(Findings(0), Rules(), Likeness())
        judge.lines(file.readlines(PIECE), 0, 0)
        start, size = file.tell(), path.stat().st_size
        pieces = []
        while some := file.readlines(PIECE - file.tell() % PIECE):
            pieces.append((file.tell() - sum(map(len, some)), file.tell(), some))
    with closing(Ahead(path, range(start, size), judge)) as ahead:
        deadline, (_, *pieces) = time.monotonic() + PATIENCE_S, pieces  # the next one is not for it
        while (first := ahead.cleared(pieces[0][0])) is None:  # it comes to this one last
            assert time.monotonic() < deadline
        for begin, end, some in pieces:
            found = first if begin == pieces[0][0] else ahead.cleared(begin)
            if {*some}.isdisjoint(good[number] for number in bad):
                assert found is not None
                assert (found.end, found.lines) == (end, len(some))
                assert found.ids == [orjson.loads(line)["custom_id"].encode() for line in some]
            else:
                assert found is None
