"""A job whose service forgot its batches, or is gone, can be ended; what the service still shows is never given up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest

from batchkit import AsyncClient, Client, Report, Settings
from batchkit.emulator import Pace
from batchkit.errors import BatchkitError, ConfigError, LedgerBusy, Refused, Unavailable, Unfinished
from batchkit.ledger import open_ledger
from batchkit.model import CHAT, GIVEN_UP, SILENT_S, Batch, Job, Part, ServiceError, State

from .conftest import SMALL, World, request_lines
from .test_late_twins import Hiding
from .test_tracker import said
from .tools.shell import Shell, emulating, rows, write_lines

Fate = Callable[[httpx.Request], httpx.Response | None]
ROWS = request_lines(8)


def forgotten(request: httpx.Request) -> httpx.Response | None:
    """The service knows of no batch any more."""
    if "/batches" not in request.url.path:
        return None
    if request.method == "GET" and request.url.path.endswith("/batches"):
        return said(200, {"data": [], "has_more": False})
    return said(404, {"error": {"code": "notFound", "message": "there is no such batch"}})


def gone(request: httpx.Request) -> httpx.Response | None:
    """The resource was deleted, and its name with it."""
    raise httpx.ConnectError("no address associated with hostname")


def closed(_: httpx.Request) -> httpx.Response | None:
    """The key was revoked."""
    return said(401, {"error": {"code": "401", "message": "access denied"}})


def there(_: httpx.Request) -> httpx.Response | None:
    return None


def creating(request: httpx.Request) -> bool:
    return request.method == "POST" and request.url.path.endswith("/batches")


class Fated(httpx.AsyncBaseTransport):
    """The service, until it is time for its fate."""

    def __init__(self, fate: Fate) -> None:
        self._inner, self.fate = httpx.AsyncHTTPTransport(), fate

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.fate(request) or await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def facing(wire: Fated, world: World, *, max_attempts: int = 1, **changes: Any) -> AsyncClient:
    """A client that meets the service by this wire."""
    return AsyncClient(
        world.target(**changes),
        ledger=world.home / "ledger.sqlite3",
        clock=world.clock,
        settings=Settings(max_attempts=max_attempts),
        transport=wire,
    )


def given_up(world: World, before: Fate, after: Fate) -> tuple[Job, Report | None]:
    """A job of two parts, submitted to a service and given up when the service is another; its account, if it ended."""

    async def work() -> tuple[Job, Report | None]:
        wire = Fated(before)
        async with facing(wire, world, limits=SMALL, max_attempts=2) as client:
            with suppress(BatchkitError):
                await client.submit(ROWS, name="orphan", wait=False)
            wire.fate = after
            world.clock.advance(SILENT_S + 1)
            if after in (gone, closed):  # for an hour since that was first seen
                with pytest.raises((Unavailable, Refused)) as error:
                    await client.cancel("orphan", give_up=True)
                assert "where it stays so batchkit cancel orphan --give-up ends the job after " in error.value.hint
                world.clock.advance(SILENT_S + 1)
            job = await client.show(await client.cancel("orphan", give_up=True))
            try:
                return job, (await client.fetch("orphan")).report
            except Unfinished:
                return job, None

    return asyncio.run(work())


@pytest.mark.parametrize("fate", [forgotten, gone, closed])
def test_batches_that_are_not_to_be_found_are_given_up(make_world: Callable[..., World], fate: Fate) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=80_000.0))
    job, report = given_up(world, there, fate)
    assert report is not None
    assert (job.state, report.errors, report.ok) == (State.SETTLED, {GIVEN_UP: 8}, 0)
    assert (report.total, report.failed) == (8, 8)
    told = " ".join(event.detail for event in job.events)
    assert {batch["id"] for batch in world.batches()} <= set(told.replace(";", " ").split())
    assert "if" in told and "is billed" in told
    assert "the service does not know it" in told if fate is forgotten else "the service cannot be asked" in told


@pytest.mark.parametrize("idle_s", [0.0, 3 * SILENT_S])
@pytest.mark.parametrize("fate", [gone, closed])
def test_a_service_that_is_silent_for_a_moment_is_not_given_up(
    make_world: Callable[..., World], fate: Fate, idle_s: float
) -> None:
    """Its batches live: the trouble is said, and nothing is lost or asked again; however long nobody looked."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=14_000.0))
    wire = Fated(there)

    async def work() -> Report:
        async with facing(wire, world) as client:
            await client.submit(ROWS, name="nightly")
            world.clock.advance(idle_s)
            wire.fate = fate
            with pytest.raises((Unavailable, Refused)):
                await client.cancel("nightly", give_up=True)
            assert (await client.show("nightly")).state is State.RUNNING
            wire.fate = there
            world.clock.advance(90_000)
            return (await client.fetch("nightly")).report

    report = asyncio.run(work())
    assert (report.ok, GIVEN_UP in report.errors) == (8, False)


def test_the_hour_of_a_silent_service_begins_with_the_first_look_that_failed(make_world: Callable[..., World]) -> None:
    """Whoever looked, and after each time that it answered."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=80_000.0))
    wire = Fated(there)

    async def looked(client: AsyncClient, fate: Fate) -> None:
        wire.fate = fate
        world.clock.advance(SILENT_S / 2)
        with suppress(Unavailable):
            await client.run_due()

    async def work() -> State:
        async with facing(wire, world) as client:
            await client.submit(ROWS, name="orphan")
            for fate in (gone, gone, there, gone, gone):
                await looked(client, fate)
            with pytest.raises(Unavailable):
                await client.cancel("orphan", give_up=True)
            await looked(client, gone)
            world.clock.advance(1)
            return (await client.cancel("orphan", give_up=True)).state

    assert asyncio.run(work()) is State.SETTLED


@pytest.mark.parametrize("give_up", [False, True])
def test_a_wrong_target_wishes_nothing(make_world: Callable[..., World], give_up: bool) -> None:
    """Where the command ends with an error, the job goes on as it was."""
    world, other = make_world(fail_rate=0.0), make_world(fail_rate=0.0)
    with world.client() as client:
        client.submit(ROWS, name="nightly")
    with other.client() as client:
        with pytest.raises(ConfigError, match="belongs to"):
            client.cancel("nightly", give_up=give_up)
        assert client.show("nightly").cancelled_at is None


def test_a_batch_is_not_missed_at_once_though_its_cancel_met_a_gateway(make_world: Callable[..., World]) -> None:
    """Whether it is gone is for the tracker to say, whatever the cancel was answered."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=4000.0))

    def fate(request: httpx.Request) -> httpx.Response | None:
        if "/batches/" not in request.url.path:
            return None
        return said(500, {}) if request.method == "POST" else forgotten(request)

    async def work() -> Job:
        wire = Fated(there)
        async with facing(wire, world) as client:
            await client.submit(ROWS, name="nightly")
            wire.fate = fate
            return await client.cancel("nightly")

    job = asyncio.run(work())
    assert (job.cancelled_at is not None, job.state) == (True, State.RUNNING)


def test_a_batch_that_lives_is_stopped_and_not_given_up(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=80_000.0))
    job, report = given_up(world, there, there)
    assert report is None
    assert {part.state for part in job.parts} == {State.RUNNING}
    assert {batch["status"] for batch in world.batches()} == {"cancelling"}


def test_a_creation_whose_answer_was_lost_is_given_up_with_a_warning(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["lose_answer,call=create_batch"])
    job, report = given_up(world, there, gone)
    assert report is not None
    assert (job.state, report.missing, report.balanced) == (State.DROPPED, 8, False)
    assert "a batch of it may have been made, and will then be billed" in " ".join(e.detail for e in job.events)


def test_what_ended_before_the_service_was_gone_is_kept(make_world: Callable[..., World]) -> None:
    """The first part's results are here, those of the second one are not to be had any more."""
    world = make_world(fail_rate=0.0)
    downloads = 0

    def fate(request: httpx.Request) -> httpx.Response | None:
        nonlocal downloads
        downloads += request.url.path.endswith("/content")
        return gone(request) if downloads > 1 else None

    async def work() -> tuple[Job, Report]:
        async with AsyncClient(
            world.target(limits=SMALL),
            ledger=world.home / "ledger.sqlite3",
            clock=world.clock,
            settings=Settings(max_attempts=1),
            transport=Fated(fate),
        ) as client:
            async for _ in client.track(await client.submit(ROWS, name="orphan")):
                continue
            with pytest.raises(Unavailable):
                await client.cancel("orphan", give_up=True)
            world.clock.advance(SILENT_S + 1)
            job = await client.cancel("orphan", give_up=True)
            return job, (await client.fetch("orphan")).report

    job, report = asyncio.run(work())
    assert job.settled_at is not None
    assert (report.ok, report.missing, report.balanced) == (4, 4, False)
    assert report.mismatched


def test_result_files_that_are_not_handed_out_can_be_given_up(shell: Shell) -> None:
    """A role that may not read them, say: plain commands say what to do, and the user may end the job without them."""
    write_lines(shell.home / "lines.jsonl", ROWS)
    with emulating(shell, "--fail-rate", "0", "--fault", "error,403,call=content") as env:
        assert shell("submit", "lines.jsonl", "--name", "closed", **env)[0] == 0
        assert shell("track", "closed", "--every", "0.1", **env)[0] == 0
        for _ in range(7):
            code, _, err = shell("fetch", "closed", "-o", "out.csv", **env)
            assert code == 5
        assert "the result file file-" in err and "is not handed out: " in err and "403" in err
        assert "role" in err and "batchkit cancel closed --give-up" in err
        code, out, err = shell("cancel", "closed", "--give-up", "--yes", **env)
        assert code == 10, err
        assert "  given up: part 0: the result file file-" in out and "what ran of its rows is paid" in out
        assert "8 of its 8 rows are missing" in err and "still shows batches" not in out + err
        assert shell("fetch", "closed", "-o", "out.csv", **env)[0] == 10
        assert "settled" in shell("list", **env)[1]
    found = rows(shell.home / "out.csv")
    assert {row["error_code"] for row in found} == {"missing"}
    assert all("could not be had" in row["error_message"] and "is paid" in row["error_message"] for row in found)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_file_is_had_though_nobody_says_how_large_it_is(make_world: Callable[..., World], status: int) -> None:
    world = make_world(fail_rate=0.0, faults=[f"error,{status},call=get_file"])
    with world.client() as client:
        job = client.submit(ROWS, name="nightly")
        world.clock.advance(3000)
        assert client.fetch(job).report.ok == 8


def trouble(status: int, body: bytes = b"{}", **headers: str) -> Fate:
    def fate(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/content"):
            return None
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    return fate


PAGE = trouble(200, b"<html><body>sign in</body></html>", **{"content-type": "text/html"})


@pytest.mark.parametrize(
    ("fate", "first"),
    [(trouble(500), Unavailable), (PAGE, Unavailable), (trouble(302, location="https://example.org/"), None)],
    ids=["500", "web page", "302"],
)
def test_result_files_that_never_come_are_given_up(
    make_world: Callable[..., World], fate: Fate, first: type[BatchkitError] | None
) -> None:
    """What may pass is waited for an hour from when it was first met, however long ago the batch ended."""
    world = make_world(fail_rate=0.0)

    async def work() -> Job:
        async with facing(Fated(fate), world) as client:
            await client.submit(ROWS, name="nightly")
            world.clock.advance(90_000)
            async for _ in client.track("nightly"):
                continue
            world.clock.advance(90_000)
            for seconds in (10.0, SILENT_S) if first else ():
                with pytest.raises(first or BatchkitError):
                    await client.cancel("nightly", give_up=True)
                assert (await client.show("nightly")).state is State.ENDED
                world.clock.advance(seconds)
            return await client.cancel("nightly", give_up=True)

    job = asyncio.run(work())
    assert (job.state, job.outcome and job.outcome.missing) == (State.SETTLED, 8)
    assert "could not be had" in (job.parts[0].held or "")


def test_a_creation_that_was_given_up_is_stopped_when_its_batch_shows_up(make_world: Callable[..., World]) -> None:
    """By its input file, where the service forgets metadata."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=80_000.0))
    wire = Hiding(world, 1e9, forgets=True)

    async def work() -> None:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            with suppress(BatchkitError):
                await client.submit(ROWS, name="orphan", wait=False)
            fated = Fated(gone)
        async with facing(fated, world) as client:
            with pytest.raises(Unavailable):
                await client.cancel("orphan", give_up=True)
            world.clock.advance(SILENT_S + 1)
            job = await client.cancel("orphan", give_up=True)
            assert (job.state, job.parts[0].doubt_at) == (State.DROPPED, world.clock.now())
        later = Hiding(world, 0, lost=0, forgets=True)
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=later
        ) as client:
            await client.submit(request_lines(2), name="another")

    asyncio.run(work())
    assert sorted(batch["status"] for batch in world.batches()) == ["cancelling", "validating"]


@pytest.mark.parametrize(("times", "missing"), [("", 8), (",times=1", 0)], ids=["gone", "stumbles"])
def test_result_files_that_are_gone_are_given_up_at_once(
    make_world: Callable[..., World], times: str, missing: int
) -> None:
    """A plain fetch asks five times for them, since a new file may show late; what can be had is had first."""
    world = make_world(fail_rate=0.0, faults=[f"error,404,call=content{times}"])
    with world.client() as client:
        client.submit(ROWS, name="purged")
        world.clock.advance(3000)
        if missing:
            with pytest.raises(Unavailable, match="is not at the service"):
                client.fetch("purged")
        job = client.cancel("purged", give_up=True)
        assert (job.state, job.outcome and job.outcome.missing) == (State.SETTLED, missing)
        assert ("404" in (job.parts[0].held or "")) == bool(missing)


def test_a_batch_that_never_names_its_results_is_given_up(make_world: Callable[..., World]) -> None:
    """It ended: there is nothing to stop, and what it counts as finished is named as missing, and as paid."""
    world = make_world(fail_rate=0.0, faults=["late_output,1000000"])
    with world.client() as client:
        client.submit(ROWS, name="nameless")
        world.clock.advance(3000)
        job = client.cancel("nameless", give_up=True)
        assert (job.state, job.outcome and job.outcome.missing) == (State.SETTLED, 8)
        report = client.fetch("nameless").report
        assert (report.missing, report.balanced) == (8, False)
        assert "counts 8 finished rows and never named their file; they are paid" in (job.parts[0].held or "")
        assert job.held is None, "a job that ended waits for nothing"


def test_a_probe_that_cannot_be_cleared_away_says_so(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["error,403,call=content"], pace=Pace(running_s=0.0, row_s=0.0))
    with world.client(deployment="gpt-4o-batch") as client:
        (found,) = [finding for finding in client.doctor(probe=True) if finding.what == "probe"]
        (job,) = client.list()
    assert (found.verdict, job.settled_at) == ("ok", None)
    assert job.name in found.message
    assert f"batchkit cancel {job.name} --give-up" in found.hint


def test_a_probe_whose_results_are_never_named_can_be_ended(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["late_output,1000000"], pace=Pace(running_s=0.0, row_s=0.0))
    with world.client(deployment="gpt-4o-batch") as client:
        (found,) = [finding for finding in client.doctor(probe=True) if finding.what == "probe"]
        (job,) = client.list()
        assert (found.verdict, job.settled_at) == ("ok", None)
        ended = client.cancel(job, give_up=True)
        assert (ended.state, ended.outcome and ended.outcome.missing) == (State.SETTLED, 1)
        assert client.files()[0] == (), "its input file is gone, too"


def test_a_job_that_another_process_holds_is_not_given_up_and_says_who_that_is(world: World) -> None:
    async def work() -> None:
        async with facing(Fated(there), world) as client:
            await client.submit(ROWS, name="nightly")
            book, _ = open_ledger(world.home / "ledger.sqlite3")
            hold = await book.hold(await book.job("nightly"))
            with pytest.raises(LedgerBusy, match="by another call in this process") as busy:
                await client.cancel("nightly", give_up=True)
            assert busy.value.hint.startswith("batchkit cancel nightly --give-up  # once that process has ended")
            assert (await client.show("nightly")).cancelled_at is not None, "who holds it is told"
            await hold.release()
            await book.close()

    asyncio.run(work())


def test_what_is_tried_again_is_not_waited_for_beyond_the_deadline(world: World) -> None:
    wire = Fated(there)

    async def work() -> list[float]:
        took, ledger = [], world.home / "ledger.sqlite3"
        async with AsyncClient(world.target(), ledger=ledger, clock=world.clock, transport=wire) as client:
            await client.submit(ROWS, name="nightly")
            for late_s in (1.0, 3.0, 9.0):
                world.clock.advance(100)
                wire.fate, began = gone, world.clock.now()
                with pytest.raises((Unfinished, Unavailable)):
                    await client.run(ROWS, name="nightly", timeout_s=late_s)
                took.append(world.clock.now() - began - late_s)
            wire.fate = there
            assert (await client.run(ROWS, name="nightly")).report.ok == 8, "nothing of it stays"
        return took

    assert max(asyncio.run(work())) <= 0.001


def test_a_service_that_says_nothing_is_not_waited_for_beyond_the_deadline(world: World) -> None:
    with world.client() as client:
        client.submit(ROWS, name="nightly")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}/openai/v1"
        target = replace(world.target(), base_url=address, identity=world.target().service)
        with Client(target, ledger=world.home / "ledger.sqlite3") as client:
            began = time.monotonic()
            with pytest.raises((Unfinished, Unavailable)):
                client.run(ROWS, name="nightly", timeout_s=0.3)
            assert time.monotonic() - began < 5


@pytest.mark.parametrize(("errors", "owed"), [((), True), ((ServiceError("model_not_found", "no"),), False)])
def test_what_goes_to_another_target_is_not_owed(errors: tuple[ServiceError, ...], owed: bool) -> None:
    batch = Batch("batch_1", "failed", errors=errors)
    part = Part("p", "j", 0, 0, State.RUNNING, 1, 1, "0", batches=(batch,), held="the target refused it")
    assert Job("j", "nightly", "0", "s", "t", CHAT, "d", 0.0, parts=(part,)).owed is owed
