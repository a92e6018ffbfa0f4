"""What passes by itself: a ledger or a service that is away for a while, and a clock that was wrong for a while."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import httpx
import pytest

from batchkit import AsyncClient
from batchkit.engine.watch import Watched
from batchkit.errors import BatchkitError, Interrupted, LedgerError, Unfinished
from batchkit.model import State

from .conftest import SMALL, World, request_lines
from .test_give_up import Fate, Fated, facing
from .test_tracker import said
from .tools.doors import Bench, Doors, Harm, Plan

DAY = 86_400.0


def forgotten(request: httpx.Request) -> httpx.Response | None:
    """The service knows of no batch."""
    if request.method != "GET" or "/batches" not in request.url.path:
        return None
    if request.url.path.endswith("/batches"):
        return said(200, {"object": "list", "data": [], "has_more": False})
    return said(404, {"error": {"code": "notFound", "message": "no"}})


def knowing(_: httpx.Request) -> httpx.Response | None:
    return None


@pytest.mark.promise("C5", "C7")
@pytest.mark.parametrize(
    ("faults", "fate"),
    [([], forgotten), (["late_output,999999999"], knowing)],
    ids=["a batch is unknown", "its file is not named"],
)
def test_a_look_by_a_clock_that_was_ahead_keeps_no_job_waiting(
    make_world: Callable[..., World], faults: list[str], fate: Fate
) -> None:
    world = make_world(fail_rate=0.0, faults=faults)

    async def work() -> float:
        wire = Fated(knowing)
        async with facing(wire, world, limits=SMALL) as client:
            await client.submit(request_lines(2), name="nightly")
            wire.fate = fate
            world.clock.step(30 * DAY)
            await client.run_due()
            world.clock.step(-30 * DAY)
            since = world.clock.now()
            while (await client.show("nightly")).settled_at is None:
                assert world.clock.now() - since < DAY, "the job does not end"
                with suppress(BatchkitError):
                    await client.run_due()
                world.clock.advance(300)
            return world.clock.now() - since

    assert asyncio.run(work()) < 2 * 3600


@pytest.mark.promise("C4")
def test_a_service_that_asks_for_a_year_of_patience_is_given_a_day(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["throttle,31536000,call=get_batch,nth=1"])
    since = world.clock.now()
    with world.client() as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert world.clock.now() - since < 1.1 * DAY


def away(bench: Bench, begin_s: float, end_s: float, *doors: str) -> Plan:
    """These doors are shut from so many seconds from now on until so many."""
    now = bench.clock.now()

    def plan(_: int, what: str) -> Harm | None:
        shut = begin_s <= bench.clock.now() - now < end_s and what.startswith(doors)
        return Harm.ERROR if shut else None

    return plan


@pytest.mark.promise("C7")
@pytest.mark.parametrize("doors", [("ledger",), ("ledger", "GET", "POST")], ids=["ledger", "ledger and service"])
def test_a_run_outlives_a_ledger_that_is_away_while_batches_run(tmp_path: Path, doors: tuple[str, ...]) -> None:
    bench = Bench(tmp_path, rows=4)
    assert bench.live(Doors(away(bench, 100, 400, *doors))).report.ok == 4
    assert len(bench.batches()) == 2


def test_one_turn_and_a_run_without_batches_say_that_the_ledger_is_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=4)
    with pytest.raises(LedgerError, match="locked"):
        bench.live(Doors(away(bench, 0, 400, "ledger")))
    bench.live(Doors(), lambda client: client.submit(request_lines(4), name="nightly"))
    bench.clock.advance(61)
    plan = away(bench, 0, 400, "ledger")
    with pytest.raises(LedgerError, match="locked"):
        bench.live(Doors(plan), lambda client: client.run_due())


def stopped(bench: Bench, at: str) -> Interrupted:
    """How a run ends that is told to stop at a request, while from then on the ledger is away."""
    told: list[AsyncClient] = []

    async def run(client: AsyncClient) -> None:
        def plan(_: int, what: str) -> Harm | None:
            if what.startswith(at):
                told.append(client)
                client.interrupt()
            return Harm.ERROR if told and what == "ledger" else None

        doors.plan = plan
        await bench.run(client)

    doors = Doors()
    with pytest.raises(Interrupted) as caught:
        bench.live(doors, run)
    return caught.value


def test_a_wish_to_stop_is_heard_though_the_ledger_is_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=4)
    bench.live(Doors(), lambda client: client.submit(request_lines(4), name="nightly"))
    bench.clock.advance(61)
    assert "2 batches run on at the service" in str(stopped(bench, "GET"))


def test_who_stops_while_the_ledger_is_away_is_not_told_that_nothing_runs(tmp_path: Path) -> None:
    """A batch was made after the job was last seen, and that is all that is known."""
    bench = Bench(tmp_path, rows=8, limits=SMALL)
    told = stopped(bench, "POST /openai/v1/batches")
    assert "what runs at the service cannot be told now" in str(told)
    assert told.hint.startswith("batchkit show nightly")
    assert len(bench.batches()) == 1


def test_jobs_that_had_their_turn_are_told_though_the_ledger_is_away_then(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=4)
    bench.live(Doors(), lambda client: client.submit(request_lines(2), name="first"))
    bench.clock.advance(1)
    bench.live(Doors(), lambda client: client.submit(request_lines(2), name="second"))
    bench.clock.advance(61)
    held: list[int] = []

    def plan(_: int, what: str) -> Harm | None:
        """Shut from when the first job was let go: next the second is claimed."""
        if what != "ledger":
            return None
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as ledger:
            (leases,) = ledger.execute("SELECT count(*) FROM leases").fetchone()
        held.append(leases)
        return Harm.ERROR if 1 in held and not leases else None

    with pytest.raises(LedgerError, match="locked") as caught:
        bench.live(Doors(plan), lambda client: client.run_due())
    assert [(job.name, job.state) for job in caught.value.done] == [("second", State.RUNNING)]


def test_a_ledger_that_lacks_a_table_is_no_outage(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=4)
    bench.live(Doors(), lambda client: client.submit(request_lines(4), name="nightly"))
    began = bench.clock.now()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as ledger, ledger:
        ledger.execute("ALTER TABLE quotas RENAME TO others")
    with pytest.raises(LedgerError, match="quotas"):
        bench.live(Doors())
    assert bench.clock.now() - began < 86400


def test_at_the_deadline_a_job_is_unfinished_whatever_is_out_of_time_then(world: World) -> None:
    with world.client() as client, pytest.raises(Unfinished):
        client.run(request_lines(4), name="late", timeout_s=0)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("nth", range(1, 9))
def test_who_follows_a_job_outlives_a_ledger_that_is_locked_for_a_moment(
    tmp_path: Path, nth: int, settled: bool
) -> None:
    bench, asked = Bench(tmp_path, rows=2), count()
    bench.live(Doors(), lambda client: client.submit(request_lines(2), name="nightly"))
    bench.clock.advance(61)

    def plan(_: int, what: str) -> Harm | None:
        return Harm.ERROR if what == "ledger" and next(asked) == nth else None

    async def follow(client: AsyncClient) -> list[list[Watched]]:
        return [shown async for shown in client.watch(["nightly"], settled=settled)]

    *_, (last,) = bench.live(Doors(plan), follow)
    assert next(asked) > nth
    assert last.trouble is None
    assert all(part.state is (State.SETTLED if settled else State.ENDED) for part in last.job.parts)
