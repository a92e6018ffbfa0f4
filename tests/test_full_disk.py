"""A disk that is full at any one operation of fetch and merge: it is said, nothing is damaged, and the same command
goes on."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from batchkit import AsyncClient, Results
from batchkit.errors import DiskFull

from .conftest import request_lines
from .tools.doors import Bench, Doors, Harm, Plan

WRITES = ("ledger", "open", "os.rename", "os.mkdir")
WATCHED = ("ledger.jobs", "out.", ".out.")
PRECIOUS = b"what was there before"


def full_at(wanted: int) -> Plan:
    """No room for the operation of this number, among those that write, in the ledger's words or the system's."""
    seen = 0

    def plan(_: int, what: str) -> Harm | None:
        nonlocal seen
        seen += what.startswith(WRITES)
        if not what.startswith(WRITES) or seen - 1 != wanted:
            return None
        if what == "ledger":
            raise DiskFull("the disk is full: the ledger could not be written")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)

    return plan


def finished(home: Path) -> Bench:
    """A job of two parts whose batches have ended, some rows well and some not."""
    bench = Bench(home, rows=10, fail_rate=0.4, watched=WATCHED)

    async def follow(client: AsyncClient) -> None:
        async for _ in client.track(await client.submit(request_lines(10), name="nightly")):
            continue

    bench.live(Doors(), follow)
    return bench


def fetch(bench: Bench, doors: Doors) -> bytes:
    """What is then in the file of results."""
    out = bench.home / "out.jsonl"

    async def work(client: AsyncClient) -> Results:
        return await client.fetch("nightly", out, overwrite=True)

    bench.live(doors, work)
    return out.read_bytes()


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.deep)])
def test_a_disk_that_is_full_at_any_write_of_fetch_and_merge_damages_nothing(tmp_path: Path, step: int) -> None:
    bench, doors = finished(tmp_path / "whole"), Doors()
    shutil.copytree(bench.home, tmp_path / "ended")
    whole = fetch(bench, doors)
    held = {path.name: path.read_bytes() for path in bench.home.glob("ledger.jobs/*/*.output.jsonl")}
    writes = [what for what in doors.passed if what.startswith(WRITES)]
    assert len(held) == 5
    assert {what.split(" ")[0] for what in writes} >= {"ledger", "open", "os.rename"}
    for number in range(0, len(writes), step):
        home = tmp_path / f"full-{number}"
        shutil.copytree(tmp_path / "ended", home)
        again, out = replace(bench, home=home), home / "out.jsonl"
        out.write_bytes(PRECIOUS)
        try:
            assert fetch(again, Doors(full_at(number))) == whole, writes[number]
        except DiskFull as full:
            assert full.exit == 12
        else:  # the end of a lease, and the sweep behind the results, are not worth a failure
            assert writes[number] == "ledger"
        assert out.read_bytes() in (PRECIOUS, whole), writes[number]
        for path in home.glob("ledger.jobs/*/*.output.jsonl"):
            assert path.read_bytes() == held[path.name], writes[number]
        assert list(home.glob(".out.*")) == [], writes[number]
        assert fetch(again, Doors()) == whole, writes[number]
        assert len(again.batches()) == 5
