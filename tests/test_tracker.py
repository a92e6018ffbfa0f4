"""The tracker's turn: how often it asks, how much, and that no odd list or answer loses a batch or never ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchkit import AsyncClient, wire
from batchkit.config import Dialect, Limits
from batchkit.emulator import Limits as ServiceLimits
from batchkit.emulator import Pace
from batchkit.errors import Unintelligible
from batchkit.model import STATUSES, State

from .conftest import KEY, World, request_lines
from .test_emulator import create, lines, upload
from .tools.doors import Bench, Doors

ONE = Limits(max_lines=1)
LOOKS = ("list_batches", "get_batch")


def looks(world: World) -> list[Any]:
    return [call for call in world.service.calls if call.name in LOOKS]


@pytest.mark.parametrize("dialect", ["dated", "v1"])
@pytest.mark.parametrize(("hours", "count"), [(1, 101), pytest.param(24, 200, marks=pytest.mark.deep)])
def test_no_batch_is_asked_early_and_every_end_is_seen_soon(
    make_world: Callable[..., World], dialect: Dialect, hours: int, count: int
) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=hours * 3600 - 600.0, row_s=0))
    ended: dict[str, float] = {}
    with world.client(dialect, limits=ONE) as client:
        job = client.submit(request_lines(count), name="many")
        world.service.calls.clear()
        for snapshot in client.track(job):
            for part in snapshot.parts:
                if part.batch and part.batch.ended:
                    ended.setdefault(part.batch.id, world.clock.now())
    minutes = Counter(int(call.at // 60) for call in looks(world))
    assert max(minutes.values()) <= 3  # two pages a look; jitter may bring two looks into one minute of the wall
    times = sorted({call.at for call in looks(world)})
    starts = [at for before, at in pairwise(times) if at - before > 1]
    assert all(later - earlier >= 59 for earlier, later in pairwise(starts))
    assert len(looks(world)) <= 2 * (hours * 60 + 15)
    assert len(ended) == count
    for batch in world.service.batches:
        assert 0 <= ended[batch["id"]] - batch["completed_at"] <= 90


def test_jobs_that_look_together_share_one_list(world: World) -> None:
    with world.client() as client:
        for number in range(30):
            client.submit(request_lines(2), name=f"job-{number}")
        world.clock.advance(61)
        world.service.calls.clear()
        client.run_due()
        assert [call.name for call in looks(world)] == ["list_batches"]
        world.clock.advance(400)
        client.run_due()
    assert Counter(call.name for call in looks(world)) == {"list_batches": 2}


def test_one_batch_is_asked_for_by_its_id(world: World) -> None:
    with world.client() as client:
        job = client.submit(request_lines(2), name="one")
        world.clock.advance(61)
        world.service.calls.clear()
        list(client.track(job))
    assert {call.name for call in looks(world)} == {"get_batch"}


@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_old_batches_cost_nothing_where_the_service_filters(world: World, dialect: Dialect) -> None:
    with world.http() as http:
        file_id = upload(http, lines(1)).json()["id"]
        for _ in range(250):
            create(http, file_id)
    world.clock.advance(86_400)
    with world.client(dialect, limits=ONE) as client:
        job = client.submit(request_lines(3), name="new")
        world.clock.advance(61)
        world.service.calls.clear()
        list(client.track(job, once=True))
    assert len(looks(world)) == 1


def said(status: int, document: dict[str, Any]) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(orjson.dumps(document)))


class Odd(httpx.AsyncBaseTransport):
    """The service behind an odd list."""

    def __init__(self, change: Callable[[dict[str, Any], int], dict[str, Any]], *, refuse: str = "") -> None:
        self._inner, self._change, self._refuse, self.pages = httpx.AsyncHTTPTransport(), change, refuse, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._refuse and self._refuse in request.url.query.decode():
            return said(400, {"error": {"code": "invalidPayload", "message": "no such query"}})
        answer = await self._inner.handle_async_request(request)
        if request.method == "GET" and request.url.path.endswith("/batches"):
            self.pages += 1
            return said(200, self._change(orjson.loads(await answer.aread()), self.pages))
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


ODD_LISTS: dict[str, Callable[[dict[str, Any], int], dict[str, Any]]] = {
    "has_more for ever": lambda page, _: page | {"has_more": True},
    "the same cursor": lambda page, _: page | {"has_more": True, "last_id": "batch_same"},
    "no cursor": lambda page, _: {"data": page["data"], "has_more": True},
    "empty": lambda page, _: page | {"data": [], "has_more": False},
    "half of them": lambda page, _: page | {"data": page["data"][::2], "has_more": False},
    "twice each": lambda page, _: page | {"data": page["data"] * 2},
    "only data": lambda page, _: {"data": page["data"]},
    "value": lambda page, _: {"value": page["data"], "has_more": False},
}


@pytest.mark.parametrize("name", ODD_LISTS)
def test_an_odd_list_neither_loops_nor_loses_a_batch(world: World, name: str) -> None:
    with world.client(limits=ONE) as client:
        client.submit(request_lines(5), name="odd")

    async def life() -> int:
        odd = Odd(ODD_LISTS[name])
        target = world.target(limits=ONE)
        async with AsyncClient(
            target, ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=odd
        ) as client:
            return (await client.run(request_lines(5), name="odd")).report.ok

    assert asyncio.run(life()) == 5
    assert len(looks(world)) < 120
    assert len(world.service.batches) == 5


@pytest.mark.promise("A1", "A2")
@pytest.mark.parametrize("rows", [2, 4], ids=["one batch", "two"])
def test_a_404_is_no_proof_while_the_list_cannot_be_read(tmp_path: Path, rows: int) -> None:
    """A gateway in maintenance: lists are web pages, ids unknown. Nothing is given up, and nothing made again."""
    bench = Bench(tmp_path, rows=rows, pace=Pace(running_s=7200.0))
    began = bench.clock.now()

    class Maintenance(httpx.AsyncBaseTransport):
        def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
            self._inner = inner

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asks = request.method == "GET" and "/batches" in request.url.path
            if not asks or not 100 < bench.clock.now() - began < 1400:
                return await self._inner.handle_async_request(request)
            if request.url.path.endswith("/batches"):
                return httpx.Response(200, stream=httpx.ByteStream(b"<html>maintenance</html>"))
            return said(404, {"error": {"code": "404", "message": "Resource not found"}})

    bench.wrap = Maintenance
    results = bench.live(Doors(), lambda client: client.run(request_lines(rows), name="nightly", retries=1))
    assert results.report.ok == rows
    assert [batch["status"] for batch in bench.batches()] == ["completed"] * (rows // 2)


def test_a_refused_filter_is_left_away_in_silence(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> int:
        odd = Odd(lambda page, _: page, refuse="filter")
        target = world.target("dated", limits=ONE)
        async with AsyncClient(
            target, ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=odd
        ) as client:
            return (await client.run(request_lines(3), name="odd")).report.ok

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(life()) == 3
    assert not caplog.records


def test_an_unknown_status_is_one_warning_and_no_end(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(faults=["status,pondering"], fail_rate=0.0)
    with caplog.at_level(logging.WARNING), world.client(limits=ONE) as client:
        assert client.run(request_lines(3), name="odd").report.ok == 3
    assert [record.getMessage().count("'pondering'") for record in caplog.records] == [1]


def submitted(world: World, count: int) -> str:
    """The name of a job of so many batches that run."""
    with world.client(limits=Limits(max_lines=1, files=20_000)) as client:
        return client.submit(request_lines(count), name=f"soak-{count}").name


def test_a_look_at_many_batches_is_a_list_by_the_hundred(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0)
    name = submitted(world, 120)
    world.clock.advance(61)
    world.service.calls.clear()
    with world.client() as client:
        list(client.track(name, once=True))
        assert len(looks(world)) == 2
        assert {part.state for part in client.show(name).parts} == {State.RUNNING}


@dataclass(frozen=True)
class Look:
    """What one look cost a process of its own."""

    requests: int
    cpu_s: float
    peak_mb: float


TRACK = """
import atexit, re, resource, sys
from pathlib import Path
from batchkit.__main__ import main

def account():
    used = resource.getrusage(resource.RUSAGE_SELF)
    # ru_maxrss would begin with the peak of the parent.
    peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
    print(used.ru_utime + used.ru_stime, int(peak) / 1024, file=sys.stderr)

atexit.register(account)
main()
"""


def look(world: World, name: str) -> Look:
    """One look at a job from the command line."""
    world.clock.advance(61)
    world.service.calls.clear()
    env = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY}
    command = [sys.executable, "-c", TRACK, "track", name, "--once", "--ledger", str(world.home / "ledger.sqlite3")]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    cpu_s, peak_mb = map(float, done.stderr.splitlines()[-1].split())
    return Look(len(looks(world)), cpu_s, peak_mb)


@pytest.mark.deep
def test_a_look_at_ten_thousand_batches_is_small_and_linear(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=80_000.0), limits=ServiceLimits(expiring_files=11_001))
    look(world, submitted(world, 1))  # a first start compiles what it loads, which is no part of a look
    one, thousand, most = (look(world, submitted(world, count)) for count in (1, 1000, 10_000))
    assert most.requests <= 101
    assert most.peak_mb < 120, most
    assert most.cpu_s - one.cpu_s < 1.5 * 10 * (thousand.cpu_s - one.cpu_s), (one, thousand, most)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
BATCH: dict[str, Any] = {
    "id": "batch_1",
    "object": "batch",
    "status": "completed",
    "endpoint": "/chat/completions",
    "input_file_id": "file-1",
    "output_file_id": "file-2",
    "error_file_id": "",
    "errors": {"object": "list", "data": [{"code": "a", "message": "b", "param": None, "line": 3}]},
    "created_at": 1_760_000_000,
    "expires_at": "2025-10-10T08:00:00.0000000+00:00",
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "metadata": {"batchkit_job": "x"},
}


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A batch document with fields removed, retyped, nulled, wrapped or recased, or something else altogether."""
    document: Any = dict(BATCH)
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(BATCH)))
        how = draw(st.sampled_from(["remove", "replace", "null", "wrap", "recase", "nest"]))
        if how == "remove":
            document.pop(name, None)
        elif how == "recase":
            document[name.upper()] = document.pop(name, None)
        else:
            old = document.get(name)
            document[name] = {"replace": draw(JSON), "null": None, "wrap": [old], "nest": {"value": old}}[how]
    return draw(st.sampled_from([document, [document], {"data": document}, {"batch": document}]))


@given(mutated())
def test_any_batch_document_is_read_right_or_refused(document: Any) -> None:
    judge_batch(document)


@pytest.mark.deep
@settings(max_examples=5000)
@given(mutated())
def test_5000_batch_documents_are_read_right_or_refused(document: Any) -> None:
    judge_batch(document)


def judge_batch(document: Any) -> None:
    try:
        batch = wire.batch(wire.document(json.dumps(document).encode()))
    except Unintelligible:
        return
    assert isinstance(batch.id, str) and batch.id
    assert batch.status == batch.status.lower()
    assert batch.ended == (batch.status in {"completed", "failed", "expired", "cancelled"} & STATUSES)
    assert batch.counts is None or min(batch.counts.total, batch.counts.completed, batch.counts.failed) >= 0
    assert batch.created_at is None or batch.created_at >= 0
    for name in (batch.output_file_id, batch.error_file_id, batch.input_file_id):
        assert name is None or (isinstance(name, str) and name)


LISTS = st.tuples(st.lists(mutated(), max_size=3) | JSON, JSON, JSON)


@given(LISTS)
def test_any_list_is_read_right_or_refused(parts: tuple[Any, Any, Any]) -> None:
    judge_list(*parts)


@pytest.mark.deep
@settings(max_examples=5000)
@given(LISTS)
def test_5000_lists_are_read_right_or_refused(parts: tuple[Any, Any, Any]) -> None:
    judge_list(*parts)


def judge_list(data: Any, more: Any, last: Any) -> None:
    try:
        entries, after = wire.page(
            wire.document(json.dumps({"data": data, "has_more": more, "last_id": last}).encode())
        )
        for entry in entries:
            wire.batch(entry)
    except Unintelligible:
        return
    assert after is None or (isinstance(after, str) and after)


def test_a_cancelled_batch_whose_file_is_not_named_says_what_is_waited_for(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0)

    def nameless(document: dict[str, Any]) -> dict[str, Any]:
        return document | {"output_file_id": None, "request_counts": {"total": 5, "completed": 2, "failed": 3}}

    class Nameless(Odd):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            if request.method == "GET" and "/batches/" in request.url.path:
                return said(200, nameless(orjson.loads(await answer.aread())))
            return answer

    async def life() -> list[str | None]:
        transport = Nameless(lambda page, _: page)
        ledger = world.home / "ledger.sqlite3"
        async with AsyncClient(world.target(), ledger=ledger, clock=world.clock, transport=transport) as client:
            job = await client.submit(request_lines(5), name="odd")
            await client.cancel(job)
            return [step.held async for step in client.track(job)]

    held = asyncio.run(life())
    assert any(words and "the file of the finished rows is not named yet" in words for words in held)
    assert held[-1] is None
