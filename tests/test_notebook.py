"""What an analyst meets in a notebook: rows joined as the lines named them, slips said, calls beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import polars
import pytest

import batchkit
from batchkit import AsyncClient, InputError, LedgerBusy, MissingExtra, Query, UsageError

from .conftest import KEY, SMALL, World, request_lines

ROWS = [{"id": n, "t": f"text {n}"} for n in range(4)]


@pytest.mark.parametrize("custom_id", ["{id}-{t}", "@hash", "id", lambda row: f"x{row['id']}", None])
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_lines_know_the_names_of_joined_rows(world: World, custom_id: Any, format: str) -> None:
    made = batchkit.lines(ROWS, deployment="d", body="{t}", custom_id=custom_id)
    with world.client() as client:
        results = client.run(made, name="known", join=ROWS, format=format)
        first = b"".join(results.pieces())
        assert b"text 3" in first
        later = client.fetch("known", join=ROWS, format=format, custom_id=custom_id)
        assert b"".join(later.pieces()) == first


def test_joined_rows_that_do_not_fit_say_why(world: World) -> None:
    made = batchkit.lines(ROWS, deployment="d", body="{t}", custom_id="{id}-{t}")
    with world.client() as client:
        client.run(made, name="known")
        for rows, said in (
            (ROWS[::-1], "in another order than the job's: that of '1-text 1' comes too early"),
            ([{"t": "text 0"}], "is '0-text 0' .row 1 cannot be named: column 'id' is missing"),
        ):
            with pytest.raises(InputError, match=said):
                list(client.fetch("known", join=rows, custom_id="{id}-{t}").pieces())


async def later(progress: object) -> None:
    raise AssertionError(progress)


@pytest.mark.parametrize(("given", "said"), [(later, "not awaited"), (lambda: None, "one value"), (True, "a function")])
def test_a_callback_that_cannot_be_called(world: World, given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        batchkit.Client(world.target(), ledger=world.home / "ledger.sqlite3", on_progress=given)


def test_words_of_a_retry_that_no_row_has(make_world: Callable[..., World], caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(fail_rate=1.0)
    with world.client() as client:
        code = next(iter(client.run(request_lines(3), name="failed"))).status_code
        assert code is not None
        only: list[Any] = [code, "contnt_filter"]
        assert client.retry("failed", only=only, dry_run=True)[1] == 3
        assert "no row failed with contnt_filter" in caplog.text
        with pytest.raises(InputError, match="no row failed with contnt_filter"):
            client.retry("failed", only="contnt_filter", dry_run=True)


def test_a_status_that_there_is_not(world: World) -> None:
    with world.client() as client:
        client.run(request_lines(1), name="one")
        with pytest.raises(UsageError, match="there is no status 'complete'") as caught:
            client.list(Query(status="complete"))
        assert "'completed'" in caught.value.hint
        assert not client.list(Query(status="failed")).jobs


def test_two_calls_of_one_process_for_one_job(world: World) -> None:
    async def both() -> list[Any]:
        async with AsyncClient(world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock) as client:
            calls = (client.run(request_lines(2), name="one") for _ in range(2))
            return await asyncio.gather(*calls, return_exceptions=True)

    busy = [item for item in asyncio.run(both()) if isinstance(item, LedgerBusy)]
    assert ["by another call in this process" in str(error) for error in busy] == [True]


def test_what_a_notebook_shows_is_one_short_line(world: World) -> None:
    rows = [{"id": n, "t": "long " * 1000} for n in range(300)]
    made = batchkit.lines(rows, deployment="d", body="{t}", custom_id="id")
    path = world.home / "bad.jsonl"
    path.write_text("{}\n" * 300)
    with world.client(limits=SMALL) as client:
        results = client.run(made, name="shown", join=rows)
        job, (watched,) = client.show("shown"), next(iter(client.watch("shown")))
        page = client.list()
        shown = [made, next(iter(made)), client, results, results.report, next(iter(results)), job, *job.parts[:1]]
        for thing in (*shown, watched, page, batchkit.check(path)):
            assert len(repr(thing)) < 260, repr(thing)
            assert "\n" not in repr(thing)
            assert " object at 0x" not in repr(thing)
            assert KEY not in repr(thing)
    assert (
        repr(results) == "<Results of 'shown': rows: 300 = 300 ok + 0 failed + 0 missing; .to_pandas() makes a table>"
    )
    assert repr(job) == "<Job 'shown': completed; rows: 300 = 300 ok + 0 failed + 0 missing>"
    assert repr(client) == "<Client of the target 'test'>"


def test_no_way_of_reading_joined_results_loses_columns(world: World) -> None:
    made = batchkit.lines(ROWS, deployment="d", body="{t}", custom_id="id")
    with world.client() as client:
        results = client.run(made, name="joined", join=ROWS, columns=["text", "ok"])
        assert [result.row for result in results] == ROWS
        assert polars.DataFrame(results).columns == results.to_arrow().column_names == ["id", "t", "text", "ok"]
        assert [result.row for result in client.fetch("joined")] == [None] * 4
    if find_spec("pandas") is None:
        with pytest.raises(MissingExtra, match="pandas is not installed"):
            results.to_pandas()
    else:
        assert list(results.to_pandas().columns) == ["id", "t", "text", "ok"]


def test_columns_that_there_are_not_are_said_by_the_call(world: World) -> None:
    with world.client() as client:
        client.run(request_lines(2), name="one")
        with pytest.raises(UsageError, match="there is no column 'txt'") as caught:
            client.fetch("one", columns=["custom_id", "txt"])
        assert "custom_id, ok, text" in caught.value.hint
