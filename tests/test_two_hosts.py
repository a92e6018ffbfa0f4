"""Results that are not on this machine: those who have them lose nothing, and no row is asked again for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchkit import AsyncClient, Client, LocalError
from batchkit.disk import Workdir
from batchkit.emulator.faults import Faults, made
from batchkit.errors import BatchkitError, InputError, Refused, UsageError
from batchkit.ledger import open_ledger
from batchkit.model import State

from .conftest import SMALL, World, request_lines
from .test_give_up import Fated, facing, there
from .test_tracker import said
from .tools.doors import Bench, Doors, Place

ROWS = request_lines(8)


def purged(request: httpx.Request) -> httpx.Response | None:
    """The service has no file any more."""
    gone = "/files/" in request.url.path and request.method == "GET"
    return said(404, {"error": {"code": "notFound", "message": "there is no such file"}}) if gone else None


def refused(request: httpx.Request) -> httpx.Response | None:
    """The role may read files no more."""
    shut = "/files/" in request.url.path and request.method == "GET"
    return said(403, {"error": {"code": "403", "message": "no"}}) if shut else None


def test_a_machine_without_the_results_of_a_settled_job_ruins_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0)
    with world.client(limits=SMALL) as client:
        assert client.run(ROWS, name="nightly").report.ok == 8

    async def work() -> list[Any]:
        ledger, _ = open_ledger(world.home / "ledger.sqlite3")
        other = ledger, Workdir(world.home / "other host")
        target, wire = world.target(limits=SMALL), Fated(purged)
        async with AsyncClient(target, ledger=other, clock=world.clock, transport=wire) as client:
            for _ in range(7):
                with pytest.raises(LocalError, match="on another machine, or lost") as error:
                    await client.run(ROWS, name="nightly")
                assert "run this on the machine that has them" in error.value.hint
            for dry_run in (True, False):
                with pytest.raises(LocalError, match="is not in"):
                    await client.retry("nightly", dry_run=dry_run)
        return sorted(path.name for path in (world.home / "other host").rglob("*.*put.jsonl"))

    assert asyncio.run(work()) == [], "nothing empty stands for results"
    with world.client(limits=SMALL) as client:
        job = client.show("nightly")
        assert (job.state, job.outcome and (job.outcome.ok, job.outcome.balanced)) == (State.SETTLED, (8, True))
        assert client.fetch("nightly").report.ok == 8
        with pytest.raises(InputError):
            client.retry("nightly")
    assert len(world.batches()) == 2


def test_a_download_that_comes_short_does_not_make_a_settled_job_worse(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0)
    with world.client() as client:
        client.run(ROWS, name="nightly")
    (place,) = world.home.glob("ledger.jobs/*/0-000.output.jsonl")
    half = b"".join(place.read_bytes().splitlines(keepends=True)[:4])
    place.unlink()

    def fate(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, stream=httpx.ByteStream(half)) if request.url.path.endswith("/content") else None

    async def work() -> int:
        async with facing(Fated(fate), world) as client:
            for _ in range(9):
                try:
                    return (await client.fetch("nightly")).report.ok
                except BatchkitError:
                    continue
        return -1

    assert asyncio.run(work()) == 4
    with world.client() as client:
        job = client.show("nightly")
        assert (job.state, job.outcome and job.outcome.ok) == (State.SETTLED, 8)


@pytest.mark.parametrize("fate", [purged, refused])
def test_what_this_machine_lost_of_a_settled_job_can_be_given_up(make_world: Callable[..., World], fate: Any) -> None:
    """The good parts are readable again, and what was done without is named."""
    world = make_world(fail_rate=0.0)
    with world.client(limits=SMALL) as client:
        client.run(ROWS, name="nightly")
    os.unlink(next(iter(world.home.glob("ledger.jobs/*/0-001.output.jsonl"))))

    async def work() -> None:
        wire = Fated(fate)
        async with facing(wire, world, limits=SMALL) as client:
            with pytest.raises((LocalError, Refused)) as error:
                await client.fetch("nightly")
            assert "--give-up" in error.value.hint
            job = await client.cancel("nightly", give_up=True)
            assert (job.state, job.outcome) == (State.SETTLED, (await client.fetch("nightly")).report.outcome)
            assert job.outcome is not None
            assert (job.outcome.ok, job.outcome.missing, job.cancelled_at) == (4, 4, None)
            assert [part.held is None for part in job.parts] == [True, False]
            wire.fate = there
            assert (await client.cancel("nightly", give_up=True)).outcome == job.outcome

    asyncio.run(work())


def test_a_settled_job_whose_results_are_here_has_nothing_to_give_up(world: World) -> None:
    with Client(world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock) as client:
        client.run(ROWS, name="nightly")
        calls = len(world.service.calls)
        job = client.cancel("nightly", give_up=True)
        assert (job.outcome and job.outcome.ok, len(world.service.calls)) == (8, calls)


def test_what_a_retry_asked_elsewhere_is_made_again_of_the_rows(
    make_world: Callable[..., World], ledger_url: str
) -> None:
    """All input files are swept: the first round's lines come with the rows, those of the second by its answers; where
    it was asked otherwise than before, the sentence names what does help."""
    world = make_world(fail_rate=0.5)
    rows = request_lines(24)

    def machine(name: str) -> AsyncClient:
        ledger, _ = open_ledger(ledger_url)
        return AsyncClient(world.target(limits=SMALL), ledger=(ledger, Workdir(world.home / name)), clock=world.clock)

    async def work() -> None:
        for name, params in (("plain", {}), ("otherwise", {"max_tokens": 9})):
            async with machine("c") as client:
                await client.run(rows, name=name)
                await client.retry(name, only=["4xx", "5xx"], params=params)
                ended = (await client.run(rows, name=name)).report
        async with machine("b") as client:
            with pytest.raises(LocalError, match="is not in") as error:
                await client.report("plain")
            assert error.value.hint.startswith("batchkit fetch plain -o results.csv")
            with pytest.raises(LocalError, match="the request lines of job 'plain' are on another machine"):
                await client.fetch("plain")
            job = await client.show("plain")
            assert job.outcome is not None
            assert (await client.run(rows, name="plain")).report.outcome == job.outcome
            for _ in range(2):
                with pytest.raises(
                    LocalError, match="of round 1 of job 'otherwise' are on the machine that ask"
                ) as error:
                    await client.run(rows, name="otherwise")
                assert "copy its 1-000.lines.jsonl to" in error.value.hint
            for path in (world.home / "c").glob("*/1-*.lines.jsonl"):
                (world.home / "b" / path.relative_to(world.home / "c")).write_bytes(path.read_bytes())
            assert (await client.run(rows, name="otherwise")).report == ended

    asyncio.run(work())


@pytest.mark.parametrize("fate", [purged, refused, there])
def test_what_is_here_is_had_though_other_results_are_lost(
    make_world: Callable[..., World], fate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(fail_rate=0.0)
    with world.client(limits=SMALL) as client:
        client.run(ROWS, name="nightly")
    (place,) = world.home.glob("ledger.jobs/*/0-001.output.jsonl")
    place.unlink()

    async def work() -> tuple[int, int, int]:
        async with facing(Fated(fate), world, limits=SMALL) as client:
            out = world.home / "out.jsonl"
            results = await client.fetch("nightly", out, partial=True)
            report = results.report
            assert len(out.read_bytes().splitlines()) == 8
            if fate is not there:
                with pytest.raises(LocalError, match="4 of 8 rows came back, and are not on this machine"):
                    results.raise_for_failures()
                with pytest.raises(UsageError, match="is there already"):
                    await client.fetch("nightly", out, partial=True)
                with pytest.raises((LocalError, Refused)):
                    await client.fetch("nightly")
            assert (await client.show("nightly")).state is State.SETTLED
            return report.ok, report.pending, report.missing

    assert asyncio.run(work()) == ((8, 0, 0) if fate is there else (4, 4, 0))
    assert ("its rows are pending" in caplog.text) is (fate is not there)
    assert place.exists() is (fate is there)


@pytest.mark.promise("B3")
def test_what_a_retry_asked_at_another_target_of_a_pool_is_made_again(tmp_path: Path) -> None:
    east, west, silent = Place("east"), Place("west"), Place("east", faults=Faults(made(["html,502,call=any"])))
    bench = Bench(tmp_path, rows=24, limits=SMALL, fail_rate=0.5, places=(east, west))
    first = bench.live(Doors())
    assert first.report.failed
    bench.places = (silent, west)
    bench.live(Doors(), lambda client: client.retry("nightly", only=["4xx", "5xx"]))
    bench.places = (east, west)
    ended = bench.live(Doors())
    assert {(part.round, part.target) for part in ended.job.parts} >= {(0, "east"), (1, "west")}
    assert bench.files(0) == bench.files(1) == []
    asked = {path: path.read_bytes() for path in tmp_path.glob("ledger.jobs/*/1-*.lines.jsonl")}
    for path in asked:
        path.unlink()
    assert bench.live(Doors(), lambda client: client.fetch("nightly")).report == ended.report
    assert asked
    assert {path: path.read_bytes() for path in asked} == asked
