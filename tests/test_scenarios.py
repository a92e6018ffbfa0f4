"""The eight situations in which tools of this kind lose rows or pay twice, ten rows each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from batchkit import AsyncClient
from batchkit.emulator import Reply

from .conftest import World, request_lines
from .test_submit_once import Wire

TEN = request_lines(10)


def failing(share: int) -> Callable[[dict[str, Any]], Any]:
    """A model that refuses the last rows for good."""

    def answer(line: dict[str, Any]) -> Any:
        if int(line["custom_id"].removeprefix("row-")) >= 10 - share:
            return Reply(400, {"error": {"code": "invalid_value", "message": "max_tokens is too large"}})
        return "fine"

    return answer


def polling(status: int, times: int) -> Callable[[httpx.Request], httpx.Response | None]:
    """The first looks at batches after the creation are answered with a status."""
    left = [times]

    def act(request: httpx.Request) -> httpx.Response | None:
        if request.method == "GET" and "/batches" in request.url.path and left[0]:
            left[0] -= 1
            return httpx.Response(status, text="busy")
        return None

    return act


@pytest.mark.parametrize(
    ("options", "ok", "failed"),
    [
        ({"answer": failing(3)}, 7, 3),
        ({"answer": failing(10)}, 0, 10),
        ({"faults": ["expire,0.5"]}, 5, 5),
        ({"faults": ["status,recased"]}, 10, 0),
        ({"faults": ["lose_answer,call=create_batch,nth=1,how=500"]}, 10, 0),
        ({"faults": ["error,503,call=list_batches,times=4"]}, 10, 0),
    ],
    ids=["mixed", "allfail", "expired", "recased", "create500", "poll500"],
)
def test_ten_rows_are_all_accounted_for_and_paid_once(
    make_world: Callable[..., World], options: dict[str, Any], ok: int, failed: int
) -> None:
    world = make_world(**{"fail_rate": 0.0, **options})
    with world.client(poll_interval_s=600.0) as client:
        results = client.run(TEN, name="ten")
        rows = list(client.iter_results("ten"))
    assert (results.report.ok, results.report.failed, results.report.missing) == (ok, failed, 0)
    assert results.report.balanced
    assert [row.custom_id for row in rows] == [line["custom_id"] for line in TEN]
    assert all(row.text if row.ok else row.error_code and row.error_message for row in rows)
    assert len(world.batches()) == 1


def test_cancelled_keeps_what_was_done(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0)
    with world.client() as client:
        job = client.submit(TEN, name="ten")
        for snapshot in client.track(job):
            if snapshot.counts.completed >= 5:
                break
        client.cancel(job)
        list(client.track(job))
        report = client.fetch(job).report
    assert report.ok >= 5
    assert report.errors == {"batch_cancelled": 10 - report.ok}
    assert report.balanced
    assert report.retryable == 10 - report.ok


def test_killed_while_the_batch_is_made_and_run_again(world: World) -> None:
    class Killed(BaseException):
        pass

    def kill(request: httpx.Request) -> None:
        if request.method == "POST" and request.url.path.endswith("/batches"):
            raise Killed

    async def run(wire: Wire) -> int:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            return (await client.run(TEN, name="ten")).report.ok

    with pytest.raises(Killed):
        asyncio.run(run(Wire(after=kill)))
    assert len(world.batches()) == 1
    assert asyncio.run(run(Wire())) == 10
    assert len(world.batches()) == 1
