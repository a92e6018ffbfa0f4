"""The power fails at any moment: nothing is torn, nothing is referred to that is not durable, and the job goes on."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import request_lines
from .test_torture import check, harmed
from .tools.doors import Bench, Harm, Killed
from .tools.power import Power

ROWS = 6


def operations(home: Path) -> int:
    """How many moments a job has at which the power can fail."""
    bench = Bench(home, rows=ROWS)
    power = Power(home=home)
    bench.live(power)
    return len(power.passed)


def fail_at(home: Path, moments: list[int], dice: random.Random | None) -> None:
    """Lives whose power fails at these moments, one after the other; then one to the end."""
    bench = Bench(home, rows=ROWS)
    for moment in moments:
        power = Power(harmed(moment, Harm.KILL), home=home)
        power.remember()
        with suppress(Killed):
            bench.live(power)
        power.fail(dice)
        intact(home)
    check(bench)


def intact(home: Path) -> None:
    """What is referred to is there and whole: lines and results by the ledger, and the output by its name."""
    ledger = home / "ledger.sqlite3"
    if ledger.exists():
        connection = sqlite3.connect(ledger)
        parts = connection.execute("SELECT job_id, round, number, state, bytes, sha256 FROM parts").fetchall()
        wrote = connection.execute("SELECT detail FROM events WHERE kind = 'wrote' ORDER BY seq DESC").fetchone()
        connection.close()
        if wrote:
            assert hashlib.sha256((home / "out.jsonl").read_bytes()).hexdigest() == wrote[0]
        for job, round_number, number, state, size, sha256 in parts:
            stem = home / "ledger.jobs" / job / f"{round_number}-{number:03d}"
            lines = stem.with_name(f"{stem.name}.lines.jsonl").read_bytes()
            assert (len(lines), hashlib.sha256(lines).hexdigest()) == (size, sha256)
            if state in ("fetched", "settled"):
                output = stem.with_name(f"{stem.name}.output.jsonl").read_bytes()
                asked = [json.loads(line)["custom_id"] for line in lines.splitlines()]
                assert sorted(json.loads(line)["custom_id"] for line in output.splitlines()) == sorted(asked)
    out = home / "out.jsonl"
    if out.exists():
        written = [json.loads(line)["custom_id"] for line in out.read_bytes().splitlines()]
        assert written == [line["custom_id"] for line in request_lines(ROWS)]


@pytest.mark.promise("B8")
def test_the_power_fails(tmp_path: Path) -> None:
    """A sample of the moments: all is lost that was not durable, or some of it."""
    total = operations(tmp_path / "whole")
    for moment in range(3, total, total // 4):
        fail_at(tmp_path / f"all-{moment}", [moment], None)
        fail_at(tmp_path / f"some-{moment}", [moment + 1], random.Random(moment))


@pytest.mark.deep
@pytest.mark.promise("B8", "A1", "A2")
@pytest.mark.parametrize("tenth", range(10))
def test_the_power_fails_at_every_moment(tmp_path: Path, tenth: int) -> None:
    total = operations(tmp_path / "whole")
    for moment in range(tenth, total, 10):
        fail_at(tmp_path / f"{moment}-all", [moment], None)
        for seed in range(3):
            fail_at(tmp_path / f"{moment}-{seed}", [moment], random.Random(seed))
        fail_at(tmp_path / f"{moment}-twice", [moment, moment // 2], None)
