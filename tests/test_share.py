"""Two processes merge as one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchkit.collector.account import Account
from batchkit.collector.export import lines
from batchkit.collector.second import possible
from batchkit.collector.share import halves, worthwhile
from batchkit.disk import Workdir

from .conftest import SMALL, World, request_lines


def test_two_merges_in_one_process_keep_apart(world: World) -> None:
    with world.client(limits=SMALL) as client:
        client.run(request_lines(21), name="twice")
        job = client.show("twice")
    workdir = Workdir(world.home / "ledger.jobs")
    first, second = (halves(job, workdir, Account("twice"), raw=raw) for raw in (False, True))
    begun = next(first)
    assert b"".join(second) == b"".join(lines(job, workdir, Account("twice"), raw=True))
    assert begun + b"".join(first) == b"".join(lines(job, workdir, Account("twice")))


@pytest.mark.parametrize("raw", [False, True], ids=["jsonl", "raw"])
@pytest.mark.parametrize("fault", ["", "drop_rows,0.3", "double_rows,0.3", "invent_rows,0.3"])
def test_two_processes_write_and_count_the_same(make_world: Callable[..., World], fault: str, raw: bool) -> None:
    world = make_world(fail_rate=0.4, faults=[fault] if fault else [])
    with world.client(limits=SMALL) as client:
        client.run(request_lines(21), name="halves")
        job = client.show("halves")
    workdir, one, two = Workdir(world.home / "ledger.jobs"), Account("halves"), Account("halves")
    stale = workdir.job(job.id) / "merged-999999999.0a1b2c3d.jsonl"
    stale.touch()
    assert b"".join(halves(job, workdir, two, raw=raw)) == b"".join(lines(job, workdir, one, raw=raw))
    assert two.report(job) == one.report(job)
    assert two.hopeless() == one.hopeless()
    assert list(Path(workdir.job(job.id)).glob("*merged-*")) == []


def test_only_large_jobs_of_several_parts_and_one_round_are_halved(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.4)
    with world.client(limits=SMALL) as client:
        client.run(request_lines(21), name="once")
        client.run(request_lines(3), name="one part")
        client.run(request_lines(20), name="twice", retries=1)
        jobs = [client.show(name) for name in ("once", "one part", "twice")]
    assert [len(job.parts) > 1 for job in jobs] == [True, False, True]
    assert not any(map(worthwhile, jobs))
    large = [replace(job, parts=tuple(replace(part, bytes=1 << 30) for part in job.parts)) for job in jobs]
    assert [*map(worthwhile, large)] == [possible(), False, False]
