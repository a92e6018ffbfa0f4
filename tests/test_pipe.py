"""The whole pipe through the library, against the emulator."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

import batchkit
from batchkit import AsyncClient, InputError, Job, LocalError, Query, Unavailable, Unfinished
from batchkit.config import Dialect
from batchkit.emulator import Limits as ServiceLimits
from batchkit.errors import ConfigError, JobConflict, Unauthorized, UnknownJob, UsageError
from batchkit.ledger import Hold, Ledger, open_ledger
from batchkit.model import State

from .conftest import EXAMPLES, SMALL, World, request_line, request_lines


@pytest.mark.parametrize("dialect", ["v1", "dated", "openai"])
def test_rows_come_back_in_input_order_in_every_dialect(
    make_world: Callable[..., World], dialect: Dialect, tmp_path: Path
) -> None:
    world = make_world(fail_rate=0.2)
    lines = batchkit.lines(
        batchkit.read_rows(EXAMPLES / "packages.csv"),
        deployment="gpt-4o-batch",
        custom_id="package",
        body=(EXAMPLES / "prompt.txt").read_text("utf-8"),
    )
    with world.client(dialect) as client:
        results = client.run(lines, name="packages", out=tmp_path / "answers.csv")
        found = list(results)
    with (EXAMPLES / "packages.csv").open(encoding="utf-8", newline="") as file:
        asked = [row["package"] for row in csv.DictReader(file)]
    assert [result.custom_id for result in found] == asked
    report = results.report
    assert report.balanced
    assert report.ok + report.failed == report.total == 240
    assert 20 < report.failed < 80
    for result in found:
        if result.ok:
            assert result.text
            assert result.input_tokens
        else:
            assert result.error_code in ("content_filter", "429", "internalFailure")
            assert result.error_message
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["custom_id"] for row in written] == asked
    assert [row["ok"] for row in written] == ["true" if result.ok else "false" for result in found]


def test_running_again_resumes_and_submits_nothing_twice(world: World, tmp_path: Path) -> None:
    outs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for out in outs:
        with world.client(limits=SMALL) as client:
            client.run(request_lines(10), name="nightly", out=out)
    assert len(world.batches()) == 3
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert [orjson.loads(line)["custom_id"] for line in outs[0].read_bytes().splitlines()] == [
        f"row-{number}" for number in range(10)
    ]


def test_the_same_name_with_other_content_is_refused(world: World) -> None:
    with world.client() as client:
        client.submit(request_lines(2), name="nightly")
        with pytest.raises(JobConflict, match="other content"):
            client.submit(request_lines(3), name="nightly")
    assert len(world.batches()) == 1


def change(number: int, **body: Any) -> list[dict[str, Any]]:
    """Ten request lines, one of them with other parameters."""
    lines = request_lines(10)
    lines[number]["body"] |= body
    return lines


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (request_lines(12), "10 rows there, 12 rows here"),
        (request_lines(9), "10 rows there, 9 rows here"),
        (
            [request_line(n, model="gpt-5") for n in range(10)],
            "deployment 'gpt-4o-batch' there, deployment 'gpt-5' here",
        ),
        (request_lines(10)[::-1], "row 1 is 'row-0' there, 'row-9' here"),
        (change(6, temperature=0.5), "row 7, 'row-6', has another temperature (none there, 0.5 here)"),
        (
            change(0, messages=[{"role": "user", "content": "x"}], seed=1),
            "row 1, 'row-0', has another messages, seed (none there, 1 here)",
        ),
        (change(3, temperature=1)[:8], "10 rows there, 8 rows here; row 4, 'row-3', has another temperature"),
    ],
)
def test_a_conflict_says_what_differs(world: World, other: list[dict[str, Any]], said: str) -> None:
    with world.client(limits=SMALL) as client:
        client.submit(request_lines(10), name="nightly")
        with pytest.raises(JobConflict) as caught:
            client.submit(other, name="nightly")
        assert str(caught.value).startswith(f"job 'nightly' exists with other content: {said}")
        shutil.rmtree(world.home / "ledger.jobs")  # as on another host
        with pytest.raises(JobConflict) as caught:
            client.submit(other, name="nightly")
        assert ("here" in str(caught.value)) is ("rows there" in said or "deployment" in said)
    assert "batchkit show nightly" in caught.value.hint


def test_a_job_stays_with_its_service(world: World, make_world: Callable[..., World]) -> None:
    other = make_world(fail_rate=0.0)
    with world.client() as client:
        client.submit(request_lines(2), name="nightly")
    with other.client() as client, pytest.raises(ConfigError, match="belongs to"):
        client.submit(request_lines(2), name="nightly")
    assert other.batches() == []


def test_a_job_that_is_sent_while_it_is_moved_stays(world: World, make_world: Callable[..., World]) -> None:
    other, book = make_world(fail_rate=0.0), world.home / "ledger.sqlite3"

    class Late(Ledger):
        """Somebody else has the job for a last moment, and sends it."""

        async def hold(self, job: Job) -> Hold:
            async with AsyncClient(world.target(), ledger=book, clock=world.clock) as first:
                await first.submit(request_lines(2), name="nightly")
            return await super().hold(job)

    async def work() -> Job:
        world.service.inject("error,401,call=list_files", "error,401,call=upload")
        async with AsyncClient(world.target(), ledger=book, clock=world.clock) as first:
            with pytest.raises(Unauthorized):
                await first.submit(request_lines(2), name="nightly")
        world.service.mend()
        ledger, workdir = open_ledger(book)
        late = Late(ledger.store), workdir
        async with AsyncClient(other.target(), ledger=late, clock=world.clock) as second:
            with pytest.raises(ConfigError, match="belongs to"):
                await second.submit(request_lines(2), name="nightly")
            return await second.show("nightly")

    job = asyncio.run(work())
    assert job.service == job.parts[0].service == world.target().service
    assert len(world.batches()) == 1
    assert other.batches() == []


def test_the_dialects_of_a_resource_share_a_job(world: World) -> None:
    with world.client("dated") as client:
        client.submit(request_lines(2), name="nightly")
    with world.client("v1") as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert len(world.batches()) == 1


def test_the_verbs_one_by_one(world: World, tmp_path: Path) -> None:
    with world.client(limits=SMALL) as client:
        job = client.submit(request_lines(6), name="steps")
        assert job.state is State.RUNNING
        with pytest.raises(Unfinished):
            client.fetch(job)
        snapshots = list(client.track(job))
        assert [snapshot.status for snapshot in snapshots][-1] == "completed"
        assert any(snapshot.status == "in_progress" for snapshot in snapshots)
        results = client.fetch(job, tmp_path / "out.jsonl")
        assert len(results) == 6
        assert client.show("steps").state is State.SETTLED
        kinds = [event.kind for event in client.show("steps").events]
        assert kinds.index("uploading") < kinds.index("submitting") < kinds.index("running") < kinds.index("settled")


def test_polling_is_never_faster_than_its_interval(world: World) -> None:
    with world.client() as client:
        job = client.submit(request_lines(3), name="patient")
        looks = [world.clock.now() for _ in client.track(job)]
    assert len(looks) > 3
    assert min(after - before for before, after in pairwise(looks)) >= 60.0


def test_a_job_without_a_name_is_called_after_its_file_and_content(world: World, tmp_path: Path) -> None:
    path = tmp_path / "my rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in request_lines(3)))
    with world.client() as client:
        first, again = client.submit(path), client.submit(path)
    assert first.id == again.id
    assert first.name.startswith("my-rows-")


def test_retry_asks_only_for_rows_that_may_succeed(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world(fail_rate=0.4)
    with world.client() as client:
        before = client.run(request_lines(60), name="nightly").report
        assert before.errors["429"] and before.errors["content_filter"]
        job, count = client.retry("nightly")
        assert count == before.errors["429"] + before.errors["internalFailure"] == before.retryable
        list(client.track(job))
        results = client.fetch(job, tmp_path / "out.csv")
        after = results.report
    assert after.total == 60
    assert after.errors["content_filter"] == before.errors["content_filter"]
    assert after.errors.get("429", 0) < before.errors["429"]
    assert after.balanced
    assert {result.round for result in results if result.ok} == {0, 1}
    assert [result.custom_id for result in results] == [f"row-{number}" for number in range(60)]


def test_cancel_keeps_what_was_finished(world: World) -> None:
    with world.client() as client:
        job = client.submit(request_lines(40), name="stopped")
        for snapshot in client.track(job):
            if 0 < snapshot.counts.completed < 40:
                break
        job = client.cancel(job)
        assert job.status == "cancelling"
        list(client.track(job))
        report = client.fetch(job).report
    assert report.balanced
    assert 0 < report.ok < 40
    assert report.errors == {"batch_cancelled": 40 - report.ok}


def test_an_existing_file_is_not_overwritten_and_nothing_is_submitted(world: World, tmp_path: Path) -> None:
    out = tmp_path / "precious.csv"
    out.write_text("mine")
    with world.client() as client:
        with pytest.raises(UsageError, match="already"):
            client.run(request_lines(2), name="nightly", out=out)
        assert out.read_text() == "mine"
        assert world.batches() == []
        client.run(request_lines(2), name="nightly", out=out, overwrite=True)
    assert out.read_text().startswith("custom_id,")


def test_our_own_earlier_answers_are_replaced_after_a_retry(make_world: Callable[..., World], tmp_path: Path) -> None:
    world, out = make_world(fail_rate=0.4), tmp_path / "answers.csv"
    with world.client() as client:
        client.run(request_lines(40), name="nightly", out=out)
        before = out.read_bytes()
        job, _ = client.retry("nightly")
        assert job.outcome is None
        client.run(request_lines(40), name="nightly", out=out)
        assert out.read_bytes() != before
        out.write_bytes(before + b"a note of mine\n")
        with pytest.raises(UsageError, match="already"):
            client.fetch("nightly", out)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_sent(world: World, tmp_path: Path) -> None:
    with world.client() as client:
        for place in (tmp_path / "nowhere" / "out.csv", tmp_path):
            with pytest.raises(LocalError):
                client.run(request_lines(2), name="nightly", out=place, overwrite=True)
    assert world.batches() == []


def test_a_job_of_which_nothing_was_sent_may_change_its_service(world: World) -> None:
    wrong = world.target()
    wrong = replace(wrong, base_url="http://127.0.0.1:9/openai/v1")
    settings = replace(batchkit.Settings(), max_attempts=1)
    ledger = world.home / "ledger.sqlite3"
    with (
        batchkit.Client(wrong, ledger=ledger, clock=world.clock, settings=settings) as client,
        pytest.raises(Unavailable, match="cannot be reached"),
    ):
        client.submit(request_lines(2), name="nightly")
    with world.client() as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2


def test_a_client_may_be_closed_twice_and_not_be_called_from_its_own_thread(world: World) -> None:
    heard: list[Exception] = []

    def nosy(_: object) -> None:
        try:
            client.show("nightly")
        except RuntimeError as error:
            heard.append(error)

    client = batchkit.Client(world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, on_progress=nosy)
    client.submit(request_lines(2), name="nightly")
    client.close()
    client.close()
    assert heard
    assert "on_progress" in str(heard[0])


def test_once_does_what_is_due_and_says_that_there_is_more(world: World) -> None:
    with world.client() as client:
        for _ in range(20):
            try:
                report = client.run(request_lines(2), name="cron", once=True).report
                break
            except Unfinished:
                world.clock.advance(61)
    assert report.ok == 2
    assert len(world.batches()) == 1


def test_a_client_works_inside_a_running_loop(world: World) -> None:
    async def notebook() -> int:
        with world.client() as client:
            return client.run(request_lines(2), name="cell").report.ok

    assert asyncio.run(notebook()) == 2


def test_the_async_client_has_the_same_words(world: World) -> None:
    async def work() -> list[str]:
        target, ledger = world.target(), world.home / "ledger.sqlite3"
        async with batchkit.AsyncClient(target, ledger=ledger, clock=world.clock) as client:
            job = await client.submit(request_lines(3), name="async")
            async for snapshot in client.track(job):
                job = snapshot
            results = await client.fetch(job)
            return [result.text or "" for result in results]

    texts = asyncio.run(work())
    assert texts == [f"The emulator read: “hello {number}”" for number in range(3)]


def test_list_filters_orders_and_pages(world: World) -> None:
    with world.client() as client:
        for number in range(5):
            client.submit(request_lines(number + 1), name=f"job-{number}")
            world.clock.advance(3600)
        client.run(request_lines(5), name="job-4")
        assert [job.name for job in client.list(Query()).jobs] == [f"job-{n}" for n in (4, 3, 2, 1, 0)]
        page = client.list(Query(limit=2, oldest_first=True))
        assert [job.name for job in page.jobs] == ["job-0", "job-1"]
        rest = client.list(Query(limit=9, oldest_first=True, after=page.after))
        assert [job.name for job in rest.jobs] == ["job-2", "job-3", "job-4"]
        assert rest.after is None
        assert [job.name for job in client.list(Query(status="completed")).jobs] == ["job-4"]
        assert [job.name for job in client.list(Query(state="running", name="job-[01]")).jobs] == ["job-1", "job-0"]
        recent = client.list(Query(since=world.clock.now() - 2.5 * 3600)).jobs
        assert [job.name for job in recent] == ["job-4", "job-3"]
        with pytest.raises(UnknownJob):
            client.show("job-9")


def test_two_deployments_in_one_job_are_refused(world: World) -> None:
    lines = [request_line(0), request_line(1, model="other")]
    with world.client() as client, pytest.raises(InputError, match=r"line 2: model_mismatch: body.model is 'other'"):
        client.submit(lines, name="mixed")
    assert world.batches() == []


def test_a_batch_the_service_refuses_accounts_for_every_row(make_world: Callable[..., World]) -> None:
    world = make_world(limits=ServiceLimits(max_lines=3))
    with world.client() as client:
        results = client.run(request_lines(5), name="long")
        rows = list(results)
    assert results.report.errors == {"too_many_tasks": 5}
    assert [row.custom_id for row in rows] == [f"row-{number}" for number in range(5)]
    assert rows[0].error_message == "The input file has more than 3 requests."


def test_nothing_is_left_in_the_working_directory_of_a_refused_job(world: World) -> None:
    with world.client() as client:
        client.submit(request_lines(2), name="nightly")
        with pytest.raises(JobConflict):
            client.submit(request_lines(3), name="nightly")
        with pytest.raises(InputError):
            client.submit([], name="empty")
    names = sorted(path.name for path in (world.home / "ledger.jobs").iterdir())
    assert len(names) == 1
