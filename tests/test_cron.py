"""`run --once`: what is due is done and nothing else; nothing due costs no network, no reading and no waiting."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest

from batchkit import AsyncClient, Client, LocalError, ManualClock, Settings, Target
from batchkit.config import Limits
from batchkit.config.credentials import Credential, Secret
from batchkit.disk import Workdir
from batchkit.emulator import Emulator, Pace
from batchkit.engine.pump import Progress
from batchkit.errors import (
    BatchkitError,
    CancelWished,
    ConfigError,
    Interrupted,
    LedgerBusy,
    Redirected,
    Refused,
    Unavailable,
    Unfinished,
)
from batchkit.ledger import open_ledger
from batchkit.model import Batch, Job, Part, State
from batchkit.model.due import due_at, is_due

from .conftest import KEY, SMALL, World, request_lines
from .test_quota import TOKENS
from .test_schemas import validate
from .test_submit_once import Wire, creating
from .tools.doors import Bench, Doors, Place
from .tools.processes import zygote
from .tools.shell import Shell, write_lines

COMMAND = "run rows.csv -o out.csv --name nightly --custom-id sku --prompt {text} -d gpt-4o-batch --once".split()
LOADS = (
    "import sys; from batchkit.__main__ import main\n"
    "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
    "heavy = {'httpx', 'batchkit.client', 'batchkit.config.facts', 'batchkit.engine.intake'}\n"
    "print(code or 0, sorted(heavy & set(sys.modules)), file=sys.stderr)"
)


def job(*parts: Part, **changes: object) -> Job:
    made = Job("j", "nightly", "a", "s", "t", "/v1/chat/completions", "d", 1000.0, parts)
    return replace(made, **changes)  # type: ignore[arg-type]


def part(state: State, **changes: object) -> Part:
    return replace(Part("p", "j", 0, 0, state, 1, 9, "ab"), **changes)  # type: ignore[arg-type]


RUNNING = part(State.RUNNING, batches=(Batch("b", "in_progress", looked_at=5000.0),))
ENDED = part(State.RUNNING, batches=(Batch("b", "cancelling", looked_at=5000.0),))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (job(part(State.STAGED)), 0.0),
        (job(part(State.STAGED, next_try_at=7000.0)), 7000.0),
        (job(part(State.STAGED, next_try_at=7000.0), cancelled_at=1.0), 0.0),
        (job(part(State.UPLOADING, next_try_at=7000.0)), 0.0),
        (job(part(State.SUBMITTING)), 0.0),
        (job(RUNNING), 5060.0),
        (job(RUNNING, cancelled_at=1.0), 0.0),
        (job(ENDED, cancelled_at=1.0), 5060.0),
        (job(RUNNING, part(State.ENDED)), 0.0),
        (job(RUNNING, part(State.FETCHED)), 5060.0),
        (job(part(State.FETCHED)), 0.0),
        (job(part(State.DROPPED)), 0.0),
        (job(part(State.SETTLED), settled_at=1.0), None),
    ],
)
def test_when_a_job_is_due(found: Job, expected: float | None) -> None:
    assert due_at(found, 60.0) == expected


DAY = 86_400.0


@pytest.mark.parametrize(
    "found",
    [
        job(part(State.RUNNING, batches=(Batch("b", "in_progress", looked_at=5000.0 + 3 * DAY),))),
        job(part(State.STAGED, next_try_at=5001.0 + DAY)),
        job(part(State.UPLOADED, next_try_at=5001.0 + 9 * DAY)),
    ],
)
def test_a_clock_that_was_ahead_holds_nobody_up(found: Job) -> None:
    assert is_due(found, 60.0, 5000.0)
    assert not is_due(job(RUNNING), 60.0, 5000.0)
    assert not is_due(job(part(State.STAGED, next_try_at=5000.0 + DAY)), 60.0, 5000.0)


def test_cron_goes_on_after_a_clock_was_ahead(world: World) -> None:
    with world.client() as client:
        client.submit(request_lines(2), name="nightly")
        ahead = ManualClock(world.clock.now() + 3 * DAY)
        wrong = Client(world.target(), ledger=world.home / "ledger.sqlite3", clock=ahead)
        next(iter(wrong.track("nightly", once=True)))
        wrong.close()
        world.clock.advance(7200)
        client.run_due()
        world.clock.advance(7200)
        client.run_due()
        assert client.show("nightly").settled_at is not None


def test_a_member_that_redirects_does_not_hold_up_the_others(make_world: Callable[..., World]) -> None:
    a, b = make_world(fail_rate=0.0), make_world(fail_rate=0.0)
    east, west = (replace(world.target(limits=SMALL), name=name) for world, name in ((a, "east"), (b, "west")))
    pool = replace(east, name="pool", pool=(east, west))

    def redirect(request: httpx.Request) -> httpx.Response | None:
        away = httpx.Response(302, headers={"location": "https://example.org/"})
        return away if request.url.port == httpx.URL(a.service.url).port else None

    async def work() -> dict[str | None, State]:
        wire = Wire()
        async with AsyncClient(pool, ledger=a.home / "l.sqlite3", clock=a.clock, transport=wire) as client:
            await client.submit(request_lines(8), name="nightly")
            wire.before = redirect
            for _ in range(3):
                a.clock.advance(20_000)
                with pytest.raises(Redirected):
                    await client.run_due()
            return {part.target: part.state for part in (await client.show("nightly")).parts}

    assert asyncio.run(work()) == {"east": State.RUNNING, "west": State.FETCHED}


def test_what_an_edit_frees_does_not_wait_out_the_pause_of_who_left(make_world: Callable[..., World]) -> None:
    full, down = make_world(faults=["quota,call=create_batch"]), make_world(faults=["html,502,call=any"])
    east, west, north = (
        replace(world.target(limits=SMALL), name=name)
        for world, name in ((full, "east"), (down, "west"), (make_world(fail_rate=0.0), "north"))
    )
    ledger, brief = full.home / "ledger.sqlite3", Settings(max_attempts=1)
    was, now = (replace(east, name="pool", pool=(east, other)) for other in (west, north))
    with Client(was, ledger=ledger, clock=full.clock, settings=brief) as client:
        for _ in range(2):
            client.submit(request_lines(8), name="nightly", wait=False)
        _, part = client.show("nightly").parts
        assert (part.target, part.held is None, part.next_try_at is None) == (None, False, False)
    with Client(now, ledger=ledger, clock=full.clock) as client:
        client.submit(request_lines(8), name="nightly", wait=False)
        assert [part.target for part in client.show("nightly").parts] == ["east", "north"]
        assert client.show("nightly").parts[1].state is State.RUNNING


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Emulator]:
    (tmp_path / "rows.csv").write_text("sku,text\na,thing\nb,thing\n")
    os.utime(tmp_path / "rows.csv", (time.time() - 60,) * 2)
    with Emulator(tmp_path / "service", key=KEY, speed=600, fail_rate=0.0) as service:
        yield service


def env(service: Emulator) -> dict[str, str]:
    return {"AZURE_OPENAI_ENDPOINT": service.url, "AZURE_OPENAI_API_KEY": KEY}


def test_nothing_due_asks_nothing_and_loads_no_network(tmp_path: Path, service: Emulator) -> None:
    with zygote(tmp_path, env(service)) as start:
        assert start.run(COMMAND) == 7
        asked = len(service.calls)
        assert start.run(COMMAND) == 7
        assert len(service.calls) == asked
        until = time.monotonic() + 30
        while (code := start.run(COMMAND)) == 7:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert code == 0
        asked = len(service.calls)
        assert start.run(COMMAND) == 0
        assert start.run(["run", "--once"]) == 0
        assert len(service.calls) == asked
    home = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    ended = subprocess.run(
        [sys.executable, "-c", LOADS, *COMMAND],
        cwd=tmp_path,
        env=os.environ | env(service) | home,
        capture_output=True,
        text=True,
    )
    assert ended.stderr.splitlines()[-1] == "0 []"
    assert ended.stdout == "out.csv: 2 rows = 2 ok + 0 failed + 0 missing\n"
    (tmp_path / "out.csv").unlink()
    with zygote(tmp_path, env(service)) as start:
        assert start.run(COMMAND) == 0
        assert (tmp_path / "out.csv").exists(), "results that are gone are written again"
        (tmp_path / "rows.csv").write_text("sku,text\na,thing\nb,other\n")
        assert start.run(COMMAND) == 3, "other content under the same name"


def test_a_job_that_somebody_holds_is_left_to_do(tmp_path: Path, service: Emulator) -> None:
    async def work() -> None:
        ledger, _ = open_ledger(tmp_path / "data" / "batchkit" / "ledger.sqlite3")
        (nightly,) = await ledger.jobs()
        await ledger.wish_cancelled(nightly, at=time.time())  # which makes it due
        hold = await ledger.hold(nightly)
        assert await asyncio.to_thread(start.run, ["run", "--once"]) == 7
        await hold.release()
        await ledger.close()

    with zygote(tmp_path, env(service)) as start:
        assert start.run(COMMAND) == 7
        asyncio.run(work())


@pytest.mark.promise("A8")
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_the_jobs_that_are_due(world: World, ledger_url: str, workers: int) -> None:
    """The jobs are shared, in one go round; a job that somebody holds is left out, and each is reported by the one who
    ended it."""

    async def work() -> None:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    AsyncClient(world.target(limits=SMALL), ledger=ledger_url, clock=world.clock)
                )
                for _ in range(workers)
            ]
            first = clients[0]
            for number in range(4):
                await first.submit(request_lines(number + 1), name=f"job-{number}")
            looks = aiter(first.track("job-0"))
            await anext(looks)
            with pytest.raises(LedgerBusy):
                await clients[-1].fetch("job-0")
            world.clock.advance(600)
            turned = await asyncio.gather(*(client.run_due() for client in clients))
            names = sorted(job.name for jobs in turned for job in jobs)
            assert names == ["job-1", "job-2", "job-3"]
            assert {job.state for jobs in turned for job in jobs} == {State.SETTLED}
            del looks  # which the loop closes in its own time
            for _ in range(200):
                if last := await clients[-1].run_due():
                    break
                await asyncio.sleep(0.05)
            assert [job.name for job in last] == ["job-0"]
            assert await first.run_due() == []
            assert (await first.fetch("job-3")).report.ok == 4

    asyncio.run(work())


def test_an_input_with_a_known_fingerprint_is_not_read_again(world: World) -> None:
    lines = iter(request_lines(2))
    with world.client() as client:
        with pytest.raises(Unfinished):
            client.run(lines, name="nightly", once=True, fingerprint="as it was")
        world.clock.advance(600)
        assert client.run(lines, name="nightly", once=True, fingerprint="as it was").report.ok == 2
        for path in world.home.glob("ledger.jobs/*/*.lines.jsonl"):
            path.unlink()
        results = client.run(request_lines(2), name="nightly", fingerprint="as it was")
        assert results.report.ok == 2, "lines that are gone are taken in again"


def test_parts_without_a_place_are_left_to_the_pool_their_job_was_given_to(make_world: Callable[..., World]) -> None:
    """Whoever works on the same ledger with other targets does not send them there, whatever the verb."""
    down, *others = make_world(faults=["html,502,call=any"]), *(make_world(fail_rate=0.0) for _ in range(3))
    a, b, x, y = (replace(world.target(), name=name) for world, name in zip((down, *others), "abxy", strict=True))
    ours, theirs = replace(a, name="eu", pool=(a, b)), replace(x, name="us", pool=(x, y))
    ledger, brief = down.home / "ledger.sqlite3", Settings(max_attempts=1)
    credentials = replace(b, credential=Credential(Secret("another-key"), bearer=False))
    closed = replace(ours, pool=(a, credentials))
    with Client(closed, ledger=ledger, clock=down.clock, settings=brief) as client, pytest.raises(BatchkitError):
        client.run(request_lines(4), name="nightly", once=True)
    down.clock.advance(4000)
    for stranger in (theirs, y):
        with Client(stranger, ledger=ledger, clock=down.clock) as client:
            assert [part.service for part in client.show("nightly").parts if part.service != a.service] == [None]
            assert client.run_due() == []
            with pytest.raises(ConfigError, match="belongs to"):
                client.fetch("nightly")
    assert [len(world.batches()) for world in others] == [0, 0, 0]


@pytest.mark.parametrize("when", ["before the rows are asked again", "while they wait"])
def test_a_job_follows_its_pool_as_that_is_edited(make_world: Callable[..., World], when: str) -> None:
    """A member that came joins in; the job is not left behind for it, silently or with an error that nothing mends."""
    a, b, c = make_world(fail_rate=1.0), make_world(fail_rate=1.0), make_world(fail_rate=0.0)
    east, west, north = (
        replace(world.target(limits=SMALL), name=name) for world, name in ((a, "east"), (b, "west"), (c, "north"))
    )
    was, now = replace(east, name="eu", pool=(east, west)), replace(east, name="eu", pool=(north, east, west))
    ledger, failures = a.home / "ledger.sqlite3", ["4xx", "5xx"]
    full = httpx.Response(429, json={"error": {"code": "token_limit_exceeded", "message": "the queue is full"}})

    async def wait() -> None:
        wire = Wire(before=creating("/batches", lambda: full, times=99))
        async with AsyncClient(
            was, ledger=ledger, clock=a.clock, transport=wire, on_progress=lambda _: client.interrupt()
        ) as client:
            with pytest.raises(Interrupted):
                await client.retry("nightly", only=failures)

    with Client(was, ledger=ledger, clock=a.clock) as client:
        failed = client.run(request_lines(12), name="nightly").report.failed
    assert failed > 8, "of which three parts are made"
    if when == "while they wait":
        asyncio.run(wait())
    with Client(now, ledger=ledger, clock=a.clock) as client:
        if when != "while they wait":
            client.retry("nightly", only=failures)
        assert {part.service for part in client.show("nightly").latest if part.intent is None} <= {None}
        for _ in range(4):
            a.clock.advance(4000)
            client.run_due()
        job = client.show("nightly")
        assert (job.settled_at is not None, job.round) == (True, 1)
        assert client.fetch("nightly").report.ok > 12 - failed, "the new member did some"


def test_a_job_whose_pool_lost_a_member_that_it_needs_is_left_alone_and_said_so(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = make_world(fail_rate=0.0), make_world(fail_rate=0.0)
    east, west = replace(a.target(limits=SMALL), name="east"), replace(b.target(limits=SMALL), name="west")
    with Client(replace(east, name="eu", pool=(east, west)), ledger=a.home / "l.sqlite3", clock=a.clock) as client:
        client.submit(request_lines(8), name="nightly")
    a.clock.advance(4000)
    with Client(replace(east, name="eu", pool=(east,)), ledger=a.home / "l.sqlite3", clock=a.clock) as client:
        assert client.run_due() == []
        with pytest.raises(ConfigError, match="belongs to") as refused:
            client.fetch("nightly")
        assert refused.value.hint.startswith("put it back into the pool 'eu'")
    assert "job 'nightly' is left alone: target 'eu' does not reach all of" in caplog.text


def test_what_waits_for_a_refusal_may_go_to_a_member_that_came_meanwhile(make_world: Callable[..., World]) -> None:
    refuses, also, takes = *(make_world(deployments=("other",)) for _ in range(2)), make_world(fail_rate=0.0)
    east, west, north = (
        replace(world.target(), name=name) for world, name in ((refuses, "east"), (also, "west"), (takes, "north"))
    )
    ledger = refuses.home / "ledger.sqlite3"
    with Client(replace(east, name="eu", pool=(east, west)), ledger=ledger, clock=refuses.clock) as client:
        client.submit(request_lines(2), name="nightly")
    with Client(replace(east, name="eu", pool=(east, west, north)), ledger=ledger, clock=refuses.clock) as client:
        for _ in range(6):
            refuses.clock.advance(4000)
            client.run_due()
        assert client.fetch("nightly").report.ok == 2


@pytest.mark.parametrize("run_before", [False, True])
def test_rows_are_asked_again_though_a_member_is_gone_whose_rows_are_here(
    make_world: Callable[..., World], run_before: bool
) -> None:
    a, b, c = make_world(fail_rate=1.0), make_world(fail_rate=1.0), make_world(fail_rate=0.0)
    east, west, north = (
        replace(world.target(limits=SMALL), name=name) for world, name in ((a, "east"), (b, "west"), (c, "north"))
    )
    ledger = a.home / "ledger.sqlite3"
    with Client(replace(east, name="eu", pool=(east, west)), ledger=ledger, clock=a.clock) as client:
        client.run(request_lines(8), name="nightly")
        assert {part.target for part in client.show("nightly").parts} == {"east", "west"}
    with Client(north, ledger=ledger, clock=a.clock) as client, pytest.raises(ConfigError, match="belongs to"):
        client.retry("nightly", only=["4xx", "5xx"])
    with Client(replace(east, name="eu", pool=(north, west)), ledger=ledger, clock=a.clock) as client:
        if run_before:
            assert client.run(request_lines(8), name="nightly").report.failed == 8
        asked = client.retry("nightly", only=["4xx", "5xx"])[1]
        client.run(request_lines(8), name="nightly")
        assert client.fetch("nightly").report.total == 8
        assert (asked, client.show("nightly").service) == (8, replace(east, pool=(north, west)).service)


def test_two_hosts_whose_pools_differ_do_not_move_a_job_to_and_fro(make_world: Callable[..., World]) -> None:
    slow, b, c = make_world(pace=Pace(running_s=50_000.0)), make_world(), make_world()
    east, west, north = (replace(w.target(), name=name) for w, name in ((slow, "east"), (b, "west"), (c, "north")))
    one, other = (replace(east, name="eu", pool=(east, more)) for more in (west, north))
    refused: list[ConfigError] = []

    def turn(pool: Target) -> None:
        with Client(pool, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client:
            slow.clock.advance(120)
            try:
                client.run_due()
            except ConfigError as error:
                refused.append(error)

    with Client(one, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client:
        client.submit(request_lines(1), name="nightly")
    for _ in range(5):
        turn(other)
        turn(one)
    with Client(other, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client:
        job = client.show("nightly")
        assert len([event for event in job.events if event.kind == "target"]) == 3, "an edit, undone, and made again"
        assert job.service == other.service
        assert len(refused) == 4
        assert all(one.service in str(error) and other.service in str(error) for error in refused)
        assert "make them the same" in refused[0].hint
        slow.clock.advance(60_000)
        assert [done.name for done in client.run_due()] == ["nightly"], "it goes on where it is"
        assert client.fetch("nightly").report.total == 1


@pytest.mark.parametrize("give_up", [False, True])
def test_a_pool_edited_to_and_fro_locks_no_job_for_good(make_world: Callable[..., World], give_up: bool) -> None:
    slow, b, c = make_world(pace=Pace(running_s=500_000.0)), make_world(), make_world()
    east, west, north = (replace(w.target(), name=name) for w, name in ((slow, "east"), (b, "west"), (c, "north")))
    was, now = (replace(east, name="eu", pool=(east, more)) for more in (west, north))

    def edited(pool: Target) -> str:
        slow.clock.advance(61)
        with Client(pool, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client:
            client.run_due()
            return client.show("nightly").service

    with Client(was, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client:
        client.submit(request_lines(1), name="nightly")
    for pool in (now, was, now):
        assert edited(pool) == pool.service
    with pytest.raises(ConfigError, match="twice within the hour") as refused:
        edited(was)
    assert f"with {now.service} it goes on at once" in refused.value.hint
    with Client(was, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client, pytest.raises(Unfinished):
        client.fetch("nightly")
    slow.clock.advance(3600)
    for pool in (was, now):
        assert edited(pool) == pool.service
    with pytest.raises(ConfigError, match="twice within the hour"):
        [edited(pool) for pool in (was, now, was)]
    with Client(was, ledger=slow.home / "l.sqlite3", clock=slow.clock) as client:
        client.cancel("nightly", give_up=give_up)
        slow.clock.advance(100_000)
        client.run_due()
        assert client.show("nightly").settled_at is not None
    assert [batch["status"] for batch in slow.batches()] == ["cancelled"]


def test_a_job_whose_pool_was_edited_is_cancelled_though_somebody_holds_it(make_world: Callable[..., World]) -> None:
    down, up = make_world(faults=["html,502,call=any"]), make_world(fail_rate=0.0)
    east, west = replace(down.target(), name="east"), replace(up.target(), name="west")
    credentials = replace(west, credential=Credential(Secret("another-key"), bearer=False))
    was, now = (replace(east, name="eu", pool=pool) for pool in ((east, credentials), (east,)))
    ledger, brief = down.home / "ledger.sqlite3", Settings(max_attempts=1)

    async def work() -> None:
        async with AsyncClient(was, ledger=ledger, clock=down.clock, settings=brief) as client:
            with suppress(BatchkitError):
                await client.submit(request_lines(2), name="nightly", wait=False)
            assert {part.service for part in (await client.show("nightly")).parts} == {None}
        book, _ = open_ledger(ledger)
        hold = await book.hold(await book.job("nightly"))
        async with AsyncClient(now, ledger=ledger, clock=down.clock, settings=brief) as client:
            with pytest.raises(CancelWished):
                await client.cancel("nightly")
            assert (await client.show("nightly")).cancelled_at is not None
            await hold.release()
            assert (await client.cancel("nightly")).state is State.DROPPED
        await book.close()

    asyncio.run(work())


@pytest.mark.parametrize("face", ["python", "terminal"])
def test_the_trouble_of_one_job_hides_neither_anothers_end_nor_its_trouble(
    make_world: Callable[..., World], shell: Shell, face: str
) -> None:
    world = make_world(fail_rate=1.0)
    ledger = world.home / "ledger.sqlite3"
    with world.client() as client:
        client.submit(request_lines(2), name="first")
        world.clock.advance(1)
        gone = [client.submit(request_lines(count), name=f"gone-{count}") for count in (3, 4)]
        world.clock.advance(1)
        client.submit(request_lines(5), name="last")
        world.clock.advance(4000)
        for job in gone:
            for path in (world.home / "ledger.jobs" / job.id).glob("*.lines.jsonl"):
                path.unlink()
                path.mkdir()
        if face == "python":
            with pytest.raises(LocalError) as raised:
                client.run_due()
            assert [job.name for job in raised.value.done] == ["last", "first"]
            assert len(raised.value.also) == 1
            assert any(note.startswith("also: job 'gone-") for note in raised.value.__notes__)
            return
    settings = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY}
    code, out, err = shell("run", "--once", "--quiet", "--ledger", str(ledger), **settings)
    assert (code, out.count("0 ok + ")) == (12, 2), out + err
    assert err.count("of 'first' failed") == err.count("of 'last' failed") == 1, err
    assert err.count("lines.jsonl: ") == 2, err


def test_all_troubles_of_a_turn_are_in_the_one_document(make_world: Callable[..., World], shell: Shell) -> None:
    world = make_world(fail_rate=1.0)
    ledger = shell.home / "l.sqlite3"
    with Client(world.target(), ledger=ledger, clock=world.clock) as client:
        for name in ("a", "b", "c"):
            client.submit(request_lines(3), name=name)
        world.clock.advance(4000)
        place = shell.home / "l.jobs" / client.show("c").id / "0-000.lines.jsonl"
        place.unlink()
        place.mkdir()
    env = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY}
    code, _, err = shell("run", "--once", "--json", "--ledger", str(ledger), **env)
    document = orjson.loads(err)
    validate("error", document)
    assert (code, document["exit"]) == (12, 12)
    assert [(other["exit"], other["code"]) for other in document["also"]] == [(8, "results.rows_failed")] * 2
    assert {word for other in document["also"] for word in ("'a'", "'b'") if word in other["message"]} == {"'a'", "'b'"}
    assert all(str(ledger) in other["hint"] for other in document["also"])


def test_who_interrupts_many_jobs_learns_which_had_their_turn(world: World) -> None:
    ledger, brief = world.home / "l.sqlite3", Settings(grace_s=0.0)

    async def work() -> Interrupted:
        async with AsyncClient(world.target(), ledger=ledger, clock=world.clock, settings=brief) as client:
            for name in ("first", "second", "third"):
                await client.submit(request_lines(2), name=name)
                world.clock.advance(1)
        world.clock.advance(4000)
        ended: list[str] = []

        def seen(step: Progress) -> None:
            ended.append(step.job.name)
            if len(ended) == 2:
                client.interrupt()

        async with AsyncClient(
            world.target(), ledger=ledger, clock=world.clock, settings=brief, on_progress=seen
        ) as client:
            with pytest.raises(Interrupted) as stopped:
                await client.run_due()
            names = [job.name for job in await client.list()]
            assert len(names) == 3
            assert [job.name for job in stopped.value.done] == ended
            assert all(job.settled_at is not None for job in stopped.value.done)
        async with AsyncClient(world.target(), ledger=ledger, clock=world.clock) as client:
            assert [job.name for job in await client.run_due()] == ["first"], "which the next turn ends"
        return stopped.value

    assert asyncio.run(work()).exit == 130


def test_a_job_of_one_target_that_is_asked_again_by_a_pool_stays_there(make_world: Callable[..., World]) -> None:
    here, there = make_world(fail_rate=1.0), make_world(fail_rate=0.0)
    east, west = replace(here.target(), name="east"), replace(there.target(), name="west")
    ledger = here.home / "ledger.sqlite3"
    with Client(east, ledger=ledger, clock=here.clock) as client:
        assert client.run(request_lines(4), name="nightly").report.ok == 0
    with Client(replace(west, name="all", pool=(west, east)), ledger=ledger, clock=here.clock) as client:
        client.retry("nightly", only=["4xx", "5xx"])
        assert {part.target for part in client.show("nightly").parts} == {"east"}
    assert there.batches() == []


def test_a_machine_without_the_lines_asks_the_service_for_them(world: World, ledger_url: str) -> None:
    """Another than sent a job may collect it; when all is swept at the service, only those that have it can read it."""

    def machine(name: str) -> AsyncClient:
        ledger, _ = open_ledger(ledger_url)
        return AsyncClient(world.target(limits=SMALL), ledger=(ledger, Workdir(world.home / name)), clock=world.clock)

    async def work() -> None:
        async with machine("first") as client:
            await client.submit(request_lines(6), name="nightly")
        async with machine("second") as client:
            for _ in range(9):
                world.clock.advance(3600)
                await client.run_due()
            job = await client.show("nightly")
            assert job.outcome is not None
            assert (job.outcome.total, job.outcome.ok) == (6, 6)
            assert [result.custom_id async for result in client.iter_results(job)] == [f"row-{n}" for n in range(6)]
        async with machine("first") as client:
            assert (await client.fetch("nightly")).report.ok == 6
        async with machine("third") as client:
            with pytest.raises(LocalError, match="the request lines of job 'nightly' are on another machine"):
                await client.fetch("nightly")

    asyncio.run(work())
    assert len(world.batches()) == 2


def test_a_job_goes_on_where_its_lines_are_brought(world: World, ledger_url: str) -> None:
    """Taken in on one machine, which dies; another with the same rows goes on, one without them says what it lacks."""

    def machine(name: str) -> AsyncClient:
        ledger, _ = open_ledger(ledger_url)
        home = (ledger, Workdir(world.home / name))
        wire = (
            httpx.MockTransport(lambda _: httpx.Response(403, stream=httpx.ByteStream(b"{}")))
            if name == "first"
            else None
        )
        return AsyncClient(world.target(limits=SMALL), ledger=home, clock=world.clock, transport=wire)

    async def work() -> None:
        async with machine("first") as client:
            with pytest.raises(Refused):
                await client.submit(request_lines(6), name="nightly")
        async with machine("third") as client:
            elsewhere = (Unfinished, "are not on this machine: the one that has them sends")
            gone = (LocalError, "are gone before they were sent")
            kind, words = elsewhere if "://" in ledger_url else gone
            with pytest.raises(kind, match=words) as error:
                await client.run_due()
            assert "batchkit run ROWS … --name nightly" in error.value.hint
        async with machine("second") as client:
            assert (await client.run(request_lines(6), name="nightly")).report.ok == 6

    asyncio.run(work())
    assert len(world.batches()) == 2


@pytest.mark.parametrize("kept", [0, 1])
def test_lines_are_brought_to_a_job_that_was_cut_on_a_host_that_is_gone(
    make_world: Callable[..., World], ledger_url: str, kept: int
) -> None:
    """For a smaller quota there, and by other limits here; also where this one has some of them."""
    world = make_world(fail_rate=0.0, deployments=[f"gpt-4o-batch:::{TOKENS - 1}"])

    def machine(name: str, lines: int) -> AsyncClient:
        ledger, _ = open_ledger(ledger_url)
        home = (ledger, Workdir(world.home / name))
        return AsyncClient(world.target(limits=Limits(max_lines=lines)), ledger=home, clock=world.clock)

    async def work() -> int:
        async with machine("first", 100) as client:
            for _ in range(2):
                await client.submit(request_lines(6), name="nightly", wait=False)
                world.clock.advance(100)
            job = await client.show("nightly")
            assert (len(job.parts) > 1, job.state) == (True, State.STAGED)
        for part in job.parts[:kept]:
            path = Workdir(world.home / "second").lines(part)
            path.parent.mkdir(parents=True)
            path.write_bytes(Workdir(world.home / "first").lines(part).read_bytes())
        async with machine("second", 4) as client:
            return (await client.run(request_lines(6), name="nightly")).report.ok

    assert asyncio.run(work()) == 6


@pytest.mark.parametrize(
    "places",
    [
        (Place(),),
        tuple(Place(name, deployments=(name,), deployment=name) for name in ("east", "west")),
        (Place(deployments=(f"gpt-4o-batch:::{TOKENS - 1}",), late_quota=True),),
    ],
    ids=["to be sent", "to be renamed", "to be cut"],
)
def test_lines_that_are_lost_are_said_and_brought_again(tmp_path: Path, places: tuple[Place, ...]) -> None:
    class Down(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("no route")

    bench = Bench(tmp_path, rows=4, places=places)
    whole, late = bench.wrap, places[0].late_quota
    bench.wrap = whole if late else lambda _: Down()
    with nullcontext() if late else pytest.raises(Unavailable):
        bench.live(Doors(), lambda client: client.submit(request_lines(4), name="nightly", wait=False))
    bench.wrap = whole
    if late:  # the quota is met once the batch was validated
        bench.clock.advance(86_400)
        bench.live(Doors(), lambda client: client.run_due())
    for path in tmp_path.glob("ledger.jobs/*/*.lines.jsonl"):
        path.unlink()
    for _ in range(2):
        bench.clock.advance(86_400)
        with pytest.raises(LocalError, match=r"are gone before they were sent: .*lines\.jsonl") as lost:
            bench.live(Doors(), lambda client: client.run_due())
        assert lost.value.hint.startswith("batchkit run ROWS … --name nightly")
    assert bench.live(Doors()).report.ok == 4


@pytest.mark.parametrize("arguments", [[], ["lines.jsonl", "-o", "out.jsonl", "--name", "nightly"]])
def test_an_outage_is_said_when_it_begins_and_then_hourly(
    make_world: Callable[..., World], shell: Shell, arguments: list[str]
) -> None:
    world = make_world()
    write_lines(shell.home / "lines.jsonl", request_lines(2))
    env = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY, "BATCHKIT_LEDGER": "l.sqlite3"}
    with Client(world.target(), ledger=shell.home / "l.sqlite3", clock=world.clock) as client:
        client.submit(shell.home / "lines.jsonl", name="nightly")
    world.service.inject("throttle,99999,call=any")
    command = ["run", *arguments, "--once", "--quiet"]
    said = []
    for _ in range(3):
        code, out, err = shell(*command, **env)
        said.append(err)
        assert (code, out) == (6, "")
    assert said[0].startswith("error: ")
    assert said[1:] == ["", ""]
    (mark,) = (shell.home / "l.jobs").glob(".outage")
    os.utime(mark, (time.time() - 3601, time.time() - 3601))
    assert shell(*command, **env)[2].startswith("error: ")
    assert shell(*command[:-1], **env)[2].count("error: ") == 1, "who did not ask for quiet hears it"
