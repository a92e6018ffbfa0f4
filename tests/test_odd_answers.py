"""Answers that come late, say less than there is, show a thing twice, or are of something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest

from batchkit import AsyncClient, Client
from batchkit.config import Limits
from batchkit.emulator import Pace
from batchkit.errors import BatchkitError
from batchkit.model import Report

from .conftest import SMALL, World, request_lines
from .test_submit_once import fresh

ROWS = request_lines(8)
Document = dict[str, Any]
Change = Callable[[httpx.Request, Document], Document]


class Retold(httpx.AsyncBaseTransport):
    """A service of whose answers something else is told; that to the first creation is `lost`."""

    def __init__(self, change: Change, lost: str | None = None) -> None:
        self._inner, self._change, self._lost = httpx.AsyncHTTPTransport(), change, lost

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        if request.url.path.endswith("/content") or response.status_code >= 400:
            return fresh(httpx.Response(response.status_code, content=content))
        if request.method == "POST" and self._lost and request.url.path.endswith(self._lost):
            self._lost = None
            raise httpx.ReadError("the answer was lost")
        return fresh(httpx.Response(200, json=self._change(request, orjson.loads(content))))

    async def aclose(self) -> None:
        await self._inner.aclose()


def told(world: World, change: Change, *, lost: str | None = None, **changes: Any) -> AsyncClient:
    return AsyncClient(
        world.target(**changes),
        ledger=world.home / "ledger.sqlite3",
        clock=world.clock,
        transport=Retold(change, lost),
    )


async def to_the_end(world: World, every_s: float, client: Callable[[], AsyncClient]) -> Report:
    """The job as cron moves it, until it is settled."""
    for _ in range(60):
        async with client() as cron:
            with suppress(BatchkitError):
                await cron.run_due()
            if (await cron.show("nightly")).settled_at is not None:
                return (await cron.fetch("nightly")).report
        world.clock.advance(every_s)
    raise AssertionError("the job does not end")


def as_it_is(_: httpx.Request, document: Document) -> Document:
    return document


@pytest.mark.promise("B1", "C7")
@pytest.mark.parametrize("every_s", [60, 3600])
def test_a_name_that_comes_late_is_had_however_rarely_it_is_asked_for(
    make_world: Callable[..., World], every_s: float
) -> None:
    world = make_world(fail_rate=0.0, faults=["late_output,200"], pace=Pace(running_s=300.0))

    async def work() -> Report:
        async with told(world, as_it_is) as client:
            await client.submit(ROWS, name="nightly")
        while world.batches()[0]["status"] != "completed":
            world.clock.advance(20)
        return await to_the_end(world, every_s, lambda: told(world, as_it_is))

    assert asyncio.run(work()).ok == 8


BARE: Document = {"status": "cancelled"}
UNNAMED = BARE | {"output_file_id": None, "error_file_id": None, "request_counts": {"total": 8, "completed": 5}}


@pytest.mark.promise("B1")
@pytest.mark.parametrize("said", [BARE, UNNAMED], ids=["no counts", "no names"])
@pytest.mark.parametrize("every_s", [60, 3600])
def test_what_the_answer_to_a_cancel_leaves_out_is_asked_for(
    make_world: Callable[..., World], said: Document, every_s: float
) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=2000.0))

    def change(request: httpx.Request, document: Document) -> Document:
        return {"id": document["id"], "object": "batch"} | said if request.url.path.endswith("/cancel") else document

    async def work() -> Report:
        async with told(world, change) as client:
            await client.submit(ROWS, name="nightly")
            world.clock.advance(1500)
            await client.cancel("nightly")
        world.clock.advance(every_s)
        return await to_the_end(world, every_s, lambda: told(world, change))

    report = asyncio.run(work())
    assert 0 < report.ok == world.batches()[0]["request_counts"]["completed"] < 8


LATE: dict[str, Any] = {
    "null": {"total": 8, "completed": None, "failed": None},
    "zero": {"total": 0, "completed": 0, "failed": 0},
    "absent": None,
}


@pytest.mark.promise("B1")
@pytest.mark.parametrize("counts", LATE.values(), ids=LATE)
def test_a_completed_batch_without_counts_and_names_is_looked_at_again(
    make_world: Callable[..., World], counts: Any
) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=300.0))
    since: dict[str, float] = {}

    def change(_: httpx.Request, document: Document) -> Document:
        for batch in document.get("data", [document]):
            ended = batch.get("status") == "completed"
            if ended and world.clock.now() - since.setdefault(batch["id"], world.clock.now()) < 90:
                batch |= {"output_file_id": "", "error_file_id": None, "request_counts": counts}
        return document

    async def work() -> Report:
        async with told(world, change, limits=SMALL) as client:
            return (await client.run(ROWS, name="nightly")).report

    assert asyncio.run(work()).ok == 8


@pytest.mark.promise("B1")
def test_what_a_list_leaves_out_of_ended_batches_is_asked_for_by_id(make_world: Callable[..., World]) -> None:
    """Of thirty batches, more than one look asks for."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=300.0))

    def change(_: httpx.Request, document: Document) -> Document:
        for batch in document.get("data", []):
            for name in ("output_file_id", "error_file_id", "request_counts"):
                batch.pop(name, None)
        return document

    async def work() -> Report:
        async with told(world, change, limits=Limits(max_lines=1)) as client:
            return (await client.run(request_lines(30), name="nightly")).report

    assert asyncio.run(work()).ok == 30


@pytest.mark.promise("A5")
@pytest.mark.parametrize("lost", ["/batches", "/files"])
def test_what_a_list_shows_twice_is_one(make_world: Callable[..., World], lost: str) -> None:
    """A batch is no twin of itself, and a file no copy."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=300.0))

    def change(_: httpx.Request, document: Document) -> Document:
        return document | {"data": document["data"] * 2} if "data" in document else document

    async def work() -> Report:
        async with told(world, change, lost=lost) as client:
            return (await client.run(ROWS, name="nightly")).report

    assert asyncio.run(work()).ok == 8
    assert [batch["status"] for batch in world.batches()] == ["completed"]


@pytest.mark.promise("A4", "A5")
@pytest.mark.parametrize("mark", ["", "***"])
def test_a_batch_whose_marks_are_blanked_is_known_by_its_file(make_world: Callable[..., World], mark: str) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=2000.0))

    def change(_: httpx.Request, document: Document) -> Document:
        for batch in document.get("data", [document]):
            batch["metadata"] = dict.fromkeys(batch.get("metadata") or {}, mark)
        return document

    async def work() -> Report:
        async with told(world, change, lost="/batches") as client:
            return (await client.run(ROWS, name="nightly")).report

    assert asyncio.run(work()).ok == 8
    assert [batch["status"] for batch in world.batches()] == ["completed"]


@pytest.mark.promise("B1")
def test_an_answer_about_another_batch_is_none(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(running_s=300.0))
    with Client(world.target(), ledger=world.home / "other.sqlite3", clock=world.clock) as other:
        other.submit(request_lines(3), name="stranger")
    world.clock.advance(2000)
    (stranger,) = world.batches()
    mixed_up: list[Document] = []

    def change(request: httpx.Request, document: Document) -> Document:
        if request.method == "GET" and "/batches/" in request.url.path and not mixed_up:
            mixed_up.append(document)
            return stranger
        return document

    async def work() -> Report:
        async with told(world, change) as client:
            return (await client.run(ROWS, name="nightly")).report

    assert asyncio.run(work()).ok == 8
    assert mixed_up
