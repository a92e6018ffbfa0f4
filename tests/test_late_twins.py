"""Where the guarantee ends: a batch hidden within the window is found, a twin of one hidden longer is stopped."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import AsyncClient, Client, Job, Settings
from batchkit.emulator import Pace
from batchkit.model import Batch, Part, State, moving
from batchkit.uploader import reconcile

from .conftest import SMALL, World, request_line, request_lines
from .test_submit_once import Wire, creating, fresh

WINDOW_S = Settings().read_timeout_s + Settings().settle_window_s + Settings().relist_after_s


class Hiding(Wire):
    """A service whose listings show a batch only so long after it was made, and which loses the first answer."""

    def __init__(self, world: World, hide_s: float, lost: int = 1, forgets: bool = False) -> None:
        super().__init__(after=creating("/batches", lambda: httpx.ReadError("reset"), times=lost))
        self._world, self._hide_s, self._forgets = world, hide_s, forgets

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.method == "GET" and request.url.path.endswith("/batches"):
            document = orjson.loads(await response.aread())
            late = self._world.clock.now() - self._hide_s
            document["data"] = [batch for batch in document["data"] if batch["created_at"] <= late]
            for batch in document["data"] if self._forgets else ():
                batch["metadata"] = None
            return fresh(httpx.Response(200, content=orjson.dumps(document)))
        return response


def run(world: World, wire: httpx.AsyncBaseTransport, count: int = 4, name: str = "nightly") -> tuple[int, Job]:
    async def work() -> tuple[int, Job]:
        async with AsyncClient(
            world.target(limits=SMALL), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            results = await client.run(request_lines(count), name=name)
            return results.report.ok, await client.show(name)

    return asyncio.run(work())


@pytest.mark.promise("A5", "A6")
@pytest.mark.parametrize("forgets", [False, True], ids=["marked", "metadata forgotten"])
@pytest.mark.parametrize("hide_s", [0, 1, 30, 59, 60, 120, 180, 239, 241, WINDOW_S - 2])
def test_a_batch_hidden_within_the_window_is_adopted(world: World, hide_s: float, forgets: bool) -> None:
    ok, _ = run(world, Hiding(world, hide_s, forgets=forgets))
    assert ok == 4
    assert len(world.batches()) == 1


@pytest.mark.promise("A5", "A6")
@pytest.mark.parametrize("forgets", [False, True], ids=["marked", "metadata forgotten"])
@pytest.mark.parametrize("hide_s", [WINDOW_S + 30, WINDOW_S + 100, WINDOW_S + 150])
def test_a_batch_hidden_for_longer_gets_a_twin_and_one_of_the_two_is_stopped(
    make_world: Callable[..., World], hide_s: float, forgets: bool
) -> None:
    """Beyond the line: the harm is seen as soon as the listing shows it, and one batch goes on."""
    world = make_world(fail_rate=0.0)
    wire = Hiding(world, hide_s, forgets=forgets)
    ok, job = run(world, wire)
    assert ok == 4
    first, second = sorted(world.batches(), key=lambda batch: int(batch["created_at"]))
    part = job.parts[0]
    assert part.doubt_at is not None
    assert {batch.id for batch in part.batches} == {first["id"], second["id"]}
    assert part.batch is not None
    assert part.batch.id == first["id"], "the one created first counts"
    assert first["status"] == "completed"
    assert second["status"] in ("cancelling", "cancelled")
    assert [event.kind for event in job.events].count("twin") == 1


@pytest.mark.promise("A5", "A9")
def test_a_part_whose_batch_may_yet_show_up_is_not_cut(make_world: Callable[..., World]) -> None:
    """The hidden batch fills the queue, and every refusal looks as if the part were too large for it."""
    lines = [request_line(number, text="x" * 400) for number in range(8)]
    limit = len(orjson.dumps(lines)) * 3 // 8
    world = make_world(
        fail_rate=0.0,
        deployments=[f"gpt-4o-batch:gpt-4o:GlobalBatch:{limit}"],
        pace=Pace(running_s=20_000.0, row_s=0),
        faults=["lose_answer,call=create_batch,nth=1", "hide_for,10000,call=create_batch,nth=1"],
    )
    with world.client() as client:
        assert client.run(lines, name="nightly").report.ok == 8
        (part,) = client.show("nightly").parts
    assert part.doubt_at is not None
    assert [batch["id"] for batch in world.batches()] == [batch.id for batch in part.batches]


class Hidden(httpx.AsyncBaseTransport):
    """A service that hides the batch whose answer it lost, until its twin was refused; that one names no deployment."""

    def __init__(self, port: int | None) -> None:
        self._inner, self._port, self.made = httpx.AsyncHTTPTransport(), port, list[str]()
        self.hides, self.refused = True, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if request.url.port != self._port or "/batches" not in request.url.path:
            return response
        document = orjson.loads(await response.aread())
        if request.method == "POST" and request.url.path.endswith("/batches"):
            self.made.append(document["id"])
            if len(self.made) == 1:
                return fresh(httpx.Response(500, content=b"{}"))
        if "data" in document and self.hides:
            document["data"] = [batch for batch in document["data"] if batch["id"] not in self.made[:1]]
        for batch in document.get("data", [document]):
            if batch.get("id") in self.made[1:] and request.method == "GET":
                self.refused += 1
                batch |= {"status": "failed", "output_file_id": None, "request_counts": None}
                batch["errors"] = {"data": [{"code": "model_not_found", "message": "no such deployment"}]}
        return fresh(httpx.Response(response.status_code, content=orjson.dumps(document)))

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.promise("A5", "A9")
@pytest.mark.parametrize("shows", [True, False])
def test_a_part_whose_batch_may_yet_show_up_does_not_go_to_another_target(
    make_world: Callable[..., World], shows: bool
) -> None:
    """Shown, the hidden batch does the rows; never shown, the part leaves once it is not feared any more."""
    here, there = (make_world(fail_rate=0.0, pace=Pace(running_s=20_000.0)) for _ in range(2))
    east, west = replace(here.target(), name="east"), replace(there.target(), name="west")
    wire = Hidden(httpx.URL(here.service.url).port)

    async def work() -> tuple[int, Job]:
        pool = replace(east, name="pool", pool=(east, west))
        async with AsyncClient(pool, ledger=here.home / "l.sqlite3", clock=here.clock, transport=wire) as client:
            job = await client.submit(request_lines(4), name="nightly")
            async for steps in client.watch([job], settled=True):
                wire.hides = not (shows and wire.refused > 0)
                if steps[0].job.parts[0].target == "west":
                    assert not moving.in_doubt(job.parts[0], here.clock.now())
            return (await client.fetch("nightly")).report.ok, await client.show("nightly")

    ok, job = asyncio.run(work())
    assert (ok, job.parts[0].target) == (4, "east" if shows else "west")
    assert len(there.batches()) == (0 if shows else 1)


def test_a_doubt_ends_some_hours_later() -> None:
    part = replace(PART, doubt_at=1000.0)
    assert not moving.in_doubt(PART, 1000.0)
    assert moving.in_doubt(part, 22_599.0)
    assert moving.in_doubt(part, 900.0), "the clock was put back"
    assert not moving.in_doubt(part, 22_600.0), "else a part that is too large would never be cut"


@pytest.mark.promise("A5", "A11")
def test_a_twin_that_shows_after_its_job_settled_is_stopped_by_any_other_job(world: World) -> None:
    wire = Hiding(world, WINDOW_S + 30)
    _, job = run(world, wire)
    twin = mark(world, job.parts[0])
    stranger = mark(world, replace(job.parts[0], id="somebody-else"), file=False)
    wire = Hiding(world, 0, lost=0)
    run(world, wire, count=3, name="another")
    statuses = {batch["id"]: batch["status"] for batch in world.batches()}
    assert statuses[twin] in ("cancelling", "cancelled")
    assert statuses[stranger] not in ("cancelling", "cancelled")


@pytest.mark.promise("A5", "A11")
def test_whatever_list_shows_a_late_twin_it_is_stopped_and_said_in_its_jobs_diary(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was hidden for longer than its job lived, where no creation was in doubt: by the list that another job's
    submission reads, and by the one that follows running batches, which is not read for it."""
    with world.client(limits=SMALL) as client:
        client.run(request_lines(4), name="done")
        (part,) = client.show("done").parts
        first = mark(world, part)
        job = client.submit(request_lines(8), name="another")
        second = mark(world, part)
        running = [batch.id for part in job.parts for batch in part.batches]
        living = mark(world, replace(job.parts[0], id="somebody-else"))
        world.clock.advance(60)
        before = Counter(call.name for call in world.service.calls)
        next(iter(client.track("another")))
        calls = Counter(call.name for call in world.service.calls) - before
        events = [event.detail for event in client.show("done").events if event.kind == "twin"]
    statuses = {batch["id"]: batch["status"] for batch in world.batches()}
    assert {statuses[name] for name in (first, second)} <= {"cancelling", "cancelled"}
    assert not {statuses[name] for name in (*running, living)} & {"cancelling", "cancelled"}
    assert [event.split()[1].rstrip(",") for event in events] == [first, second]
    assert (calls["list_batches"], calls["get_batch"]) == (1, 0), "it costs nothing but the cancel"
    assert f"cancelled {second}, a late twin" in caplog.text


@pytest.mark.promise("A5")
def test_a_late_twin_that_cannot_be_stopped_now_is_nobodys_trouble_and_stopped_later(
    make_world: Callable[..., World],
) -> None:
    world = make_world(fail_rate=0.0, faults=["error,409,call=cancel,nth=1"])
    with world.client(limits=SMALL) as client:
        client.run(request_lines(4), name="done")
        (part,) = client.show("done").parts
        twin = mark(world, part)
        for name, status in (("second", "validating"), ("third", "cancelling")):
            client.submit(request_lines(2), name=name)
            assert {batch["id"]: batch["status"] for batch in world.batches()}[twin] == status
        first, second = (event.detail for event in client.show("done").events if event.kind == "twin")
    kept = part.batch.id if part.batch else ""
    assert first.startswith(f"{twin}, a late twin of {kept}, could not be cancelled: ")
    assert second.startswith(f"cancelled {twin}, a late twin of ")


def test_a_late_twin_that_may_not_be_stopped_is_told_of_once(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(fail_rate=0.0, faults=["error,403,call=cancel"], pace=Pace(running_s=3000.0))
    with world.client(limits=SMALL) as client:
        client.run(request_lines(4), name="done")
        (part,) = client.show("done").parts
        twin = mark(world, part)
        for _ in client.track(client.submit(request_lines(8), name="another")):
            continue
        done = client.show("done")
        assert client.fetch("done").report.ok == 4
    assert [event.kind for event in done.events].count("twin") == 1
    assert [batch.id for batch in done.parts[0].batches] == [twin, part.batch and part.batch.id]
    assert caplog.text.count("could not be cancelled") == 1
    assert Counter(call.name for call in world.service.calls)["cancel"] == 1


class Amnesia(Wire):
    """A service that for a while knows no batch, and forgets what they were marked with."""

    away, marks = False, True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.away and request.method == "GET" and "/batches" in request.url.path:
            if request.url.path.endswith("/batches"):
                return fresh(httpx.Response(200, json={"data": [], "has_more": False}))
            return fresh(httpx.Response(404, json={"error": {"code": "notFound", "message": "no"}}))
        response = await super().handle_async_request(request)
        if request.method == "GET" and "/batches" in request.url.path and not self.marks:
            document = orjson.loads(await response.aread())
            for batch in document.get("data", [document]):
                batch["metadata"] = None
            return fresh(httpx.Response(200, content=orjson.dumps(document)))
        return response


@pytest.mark.parametrize("marks", [True, False])
def test_a_batch_that_was_taken_for_lost_is_stopped_when_it_shows_up(
    make_world: Callable[..., World], marks: bool
) -> None:
    """Its rows are asked again by then."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=20_000.0))
    wire = Amnesia()
    wire.marks = marks

    async def work() -> Job:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            await client.submit(request_lines(4), name="nightly")
            wire.away = True
            async for job in client.track("nightly"):
                if job.state is State.ENDED:
                    break
            assert (await client.fetch("nightly")).report.errors == {"batch_lost": 4}
            wire.away = False
            await client.retry("nightly", only=["batch_lost"])
            assert (await client.run(request_lines(4), name="nightly")).report.ok == 4
            return await client.show("nightly")

    job = asyncio.run(work())
    statuses = {batch["id"]: batch["status"] for batch in world.batches()}
    first, second = (part.batch for part in job.parts)
    assert first is not None and second is not None
    assert (statuses[first.id], statuses[second.id]) == ("cancelled", "completed")
    assert [event.kind for event in job.events].count("twin") == 1
    assert first.errors[0].code == "batch_lost"


@pytest.mark.promise("A11")
def test_marks_that_no_database_can_hold_are_somebody_elses(world: World, ledger_url: str) -> None:
    async def work() -> int:
        async with AsyncClient(world.target(), ledger=ledger_url, clock=world.clock) as client:
            job = await client.submit(request_lines(2), name="nightly")
            for number, name in enumerate(("a\0b", "'; --", ":v0", "%s", "")):
                mark(world, replace(job.parts[0], id=name))
                await client.submit(request_lines(3 + number), name=f"beside-{number}")
            return len(world.batches())

    assert asyncio.run(work()) == 11


class Alike(httpx.AsyncBaseTransport):
    """Services that number their batches each for itself: the first of every one has the same id."""

    def __init__(self) -> None:
        self._inner, self._ids = httpx.AsyncHTTPTransport(), dict[int | None, dict[str, str]]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        ids = self._ids.setdefault(request.url.port, {})
        path = request.url.path
        for real, name in ids.items():
            path = path.replace(name, real)
        sent = httpx.Request(
            request.method, request.url.copy_with(path=path), headers=request.headers, stream=request.stream
        )
        response = await self._inner.handle_async_request(sent)
        if not path.rpartition("/batches")[1]:
            return response
        text = (await response.aread()).decode()
        for real in re.findall(r"batch_[0-9a-f-]{36}", text):
            text = text.replace(real, ids.setdefault(real, f"batch_{len(ids)}"))
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return fresh(httpx.Response(response.status_code, headers=headers, content=text.encode()))

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.promise("A1", "A4")
def test_two_services_may_give_the_same_id(make_world: Callable[..., World]) -> None:
    """The first refuses the part; the second takes it and loses the answer, under the id of the refused one."""
    refuses = make_world(fail_rate=0.0, deployments=("other",))
    takes = make_world(fail_rate=0.0, faults=["lose_answer,call=create_batch,nth=1"])
    east, west = replace(refuses.target(), name="east"), replace(takes.target(), name="west")
    pool = replace(east, name="pool", pool=(east, west))

    async def work() -> tuple[int, Job, list[tuple[str, str | None]]]:
        ledger = refuses.home / "ledger.sqlite3"
        async with AsyncClient(pool, ledger=ledger, clock=refuses.clock, transport=Alike()) as client:
            ok = (await client.run(request_lines(3), name="nightly")).report.ok
            await client.submit(request_lines(2), name="other")
            listed = [(item.batch.service, item.job) for item in (await client.list_remote()).batches]
            return ok, await client.show("nightly"), listed

    ok, job, listed = asyncio.run(work())
    assert ok == 3
    batches = job.parts[0].batches
    assert [batch.id for batch in batches] == ["batch_0", "batch_0"]
    assert [batch.service for batch in batches] == [east.service, west.service]
    assert [batch.status for batch in batches] == ["failed", "completed"]
    assert sorted(listed) == sorted([(east.service, "nightly"), (west.service, "nightly"), (east.service, "other")])
    assert len(takes.batches()) == 1


def mark(world: World, part: Part, *, file: bool = True) -> str:
    """A batch made at the service behind our back, with a part's marks."""
    with world.http() as http:
        given = {"file": ("x.jsonl", (orjson.dumps(request_lines(1)[0]) + b"\n"), "application/json")}
        file_id = http.post("/openai/v1/files", data={"purpose": "batch"}, files=given).json()["id"]
        body: dict[str, Any] = {"input_file_id": file_id, "endpoint": "/chat/completions", "completion_window": "24h"}
        body["metadata"] = reconcile.marks(part, "an-intent")
        return str(http.post("/openai/v1/batches", json=body).json()["id"])


@pytest.mark.promise("A11")
def test_batches_of_another_ledger_with_the_same_rows_are_warned_of_and_left_alone(world: World) -> None:
    with world.client(limits=SMALL) as client:
        part = client.submit(request_lines(2), name="nightly").parts[0]
    other = replace(world, home=world.home / "elsewhere")
    with other.client(limits=SMALL) as client:
        job = client.submit(request_lines(2), name="nightly")
        events = client.show(job).events
    assert [event.detail for event in events if event.kind == "warning" and "another ledger" in event.detail]
    assert part.batch is not None
    assert {batch["id"]: batch["status"] for batch in world.batches()}[part.batch.id] == "validating"
    assert len(world.batches()) == 2


PART = Part("01" * 8, "j1", 0, 0, State.RUNNING, 1, 9, "ab" * 32, file_id="file-1", intent_at=1000.0, service="s")
STATUS = st.sampled_from(
    ["validating", "in_progress", "completed", "failed", "cancelled", "cancelling", "expired", "new"]
)


@pytest.mark.promise("A5", "A11")
@given(
    current=STATUS,
    others=st.lists(st.tuples(STATUS, st.integers(0, 5), st.sampled_from(["ours", "file", "theirs"])), max_size=4),
)
def test_of_twins_one_is_kept_and_only_ours_are_dropped(current: str, others: list[tuple[str, int, str]]) -> None:
    known = Batch("b-known", current, "file-1", created_at=2.0)
    part = replace(PART, batches=(known,))
    witness = {
        "ours": Batch("", "", metadata=reconcile.marks(part, "i")),
        "file": Batch("", "", "file-1", service="s"),
        "theirs": Batch("", "", "file-1", metadata=reconcile.marks(replace(part, id="02" * 8), "i")),
    }
    listed = [known]
    for number, (status, at, kind) in enumerate(others):
        listed.append(replace(witness[kind], id=f"b-{number}", status=status, created_at=float(at)))
    found = reconcile.twins(part, listed)
    ours = {f"b-{n}" for n, (status, _, kind) in enumerate(others) if kind != "theirs" and status not in reconcile.DEAD}
    if found is None:
        assert not ours
        return
    kept, dropped = found.keep.id, {batch.id for batch in found.drop}
    assert kept not in dropped
    assert {kept, *dropped} - {"b-known"} == ours
    if known.ended and not reconcile.dead(known):
        assert kept == "b-known"


def test_a_part_without_a_batch_has_no_twins() -> None:
    assert reconcile.twins(PART, [Batch("b", "validating", "file-1")]) is None


def test_marks_are_read_back() -> None:
    """A batch is known by its part's id and the hash of its lines together; by its file only where it has no marks."""
    marks = reconcile.marks(PART, "i")
    assert reconcile.is_ours(PART, Batch("b", "validating", "another-file", metadata=marks))
    assert not reconcile.is_ours(PART, Batch("b", "validating", "file-1", metadata=marks | {"batchkit_sha": "other"}))
    assert not reconcile.is_ours(PART, Batch("b", "validating", "file-1", metadata=marks | {"batchkit_part": "02" * 8}))
    assert reconcile.is_ours(PART, Batch("b", "validating", "file-1", metadata={"team": "search"}, service="s"))
    assert not reconcile.is_ours(PART, Batch("b", "validating", "file-2", service="s"))
    assert not reconcile.is_ours(PART, Batch("b", "validating", "file-1", service="another")), "ids may be the same"
    assert reconcile.witness(replace(PART, intent="i"), Batch("b", "", metadata=marks)) == "known by its intent"
    assert "earlier" in reconcile.witness(replace(PART, intent="j"), Batch("b", "", metadata=marks))
    assert "file" in reconcile.witness(PART, Batch("b", ""))


def test_the_same_rows_of_another_ledger_are_one_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        with Client(world.target(limits=SMALL), ledger=world.home / f"{name}.sqlite3", clock=world.clock) as client:
            client.submit(request_lines(20), name="nightly")
            events = client.show("nightly").events
    (words,) = [record.getMessage() for record in caplog.records if "another ledger" in record.getMessage()]
    assert words.endswith(" and 2 more: they will be paid for twice")
    assert sum("another ledger" in event.detail for event in events) == 5
