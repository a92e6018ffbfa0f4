"""Asking again: which rows, with what in their bodies, by itself, and when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from batchkit import AsyncClient, Client, InputError, Limits, Settings
from batchkit.collector import export
from batchkit.collector.account import retryable
from batchkit.collector.merge import changed
from batchkit.emulator import Pace, Reply
from batchkit.engine.pump import Progress
from batchkit.errors import CancelWished, Unavailable, Unfinished
from batchkit.ledger import Ledger, open_ledger
from batchkit.ledger.lease import new_owner
from batchkit.model import Job, Result, document

from .conftest import SMALL, World, request_lines
from .test_schemas import validate
from .tools.doors import Doors, DoorStore


def refused(status: int, code: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": "no"}})


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [
        (429, "429", True),
        (408, "timeout", True),
        (500, "internalFailure", True),
        (503, "http_503", True),
        (None, "missing", True),
        (None, "batch_expired", True),
        (None, "batch_cancelled", True),
        (None, "request_timeout", True),
        (None, "not_submitted", True),
        (None, "unreadable", True),
        (None, "pending", False),
        (400, "content_filter", False),
        (None, "content_filter", False),
        (400, "invalid_value", False),
        (404, "DeploymentNotFound", False),
        (None, "model_not_found", False),
        (None, "invalid_json_line", False),
        (None, "too_many_tasks", False),
    ],
)
def test_what_is_asked_again(status: int | None, code: str, again: bool) -> None:
    result = Result("a", False, status_code=status, error_code=code)
    assert retryable(result) is again
    assert retryable(result, [code]) is (code != "pending")
    assert not retryable(result, ["another"])
    if status:
        assert retryable(result, [str(status)])
        assert retryable(result, [f"{status // 100}xx"])
    assert not retryable(Result("a", True, status_code=200), ["200", "2xx"])


class Moody:
    """A model that fails each row so many times, and remembers the bodies it saw."""

    def __init__(self, times: Callable[[int], int], failure: Reply) -> None:
        self._times, self._failure = times, failure
        self.seen: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, line: dict[str, Any]) -> Any:
        seen = self.seen.setdefault(line["custom_id"], [])
        seen.append(line["body"])
        return self._failure if len(seen) <= self._times(int(line["custom_id"][4:])) else "at last"


def test_run_asks_again_by_itself_until_all_is_well(make_world: Callable[..., World]) -> None:
    model = Moody(lambda number: number % 3, refused(429, "429"))
    world = make_world(fail_rate=0.0, answer=model)
    with world.client(limits=SMALL) as client:
        report = client.run(request_lines(12), name="moody", retries=5).report
        assert (report.ok, report.failed) == (12, 0)
        assert client.show("moody").round == 2
        results = list(client.iter_results("moody"))
        client.run(request_lines(12), name="moody", retries=5)
    assert [len(model.seen[f"row-{n}"]) for n in range(12)] == [1 + n % 3 for n in range(12)]
    assert [result.round for result in results] == [n % 3 for n in range(12)]
    assert [[other.error_code for other in result.other_rounds] for result in results][:3] == [[], ["429"], ["429"] * 2]
    for result in results:
        validate("result-line", export.document(result))


def test_a_row_that_is_asked_again_counts_once_and_is_pending(make_world: Callable[..., World]) -> None:
    broken = refused(400, "content_filter")
    model = Moody(lambda number: int(number < 5), refused(429, "429"))
    world = make_world(
        fail_rate=0.0, answer=lambda line: broken if line["custom_id"] == "row-9" else model(line), pace=Pace(row_s=60)
    )
    with world.client() as client:
        before = client.run(request_lines(20), name="again").report
        assert (before.ok, before.failed, before.pending) == (14, 6, 0)
        job, count = client.retry("again")
        assert (count, job.counts.total) == (5, 5)
        assert _stands(job) == (20, 14, 1, 0, 5)

        partial = client.fetch(job, partial=True)
        rows, numbers = list(partial), partial.report
        assert (numbers.total, numbers.ok, numbers.failed, numbers.missing, numbers.pending) == (20, 14, 1, 0, 5)
        assert (numbers.errors, numbers.balanced) == ({"content_filter": 1}, True)
        assert [(row.error_code, row.round) for row in rows[:5]] == [("pending", 1)] * 5
        assert rows[0].error_message is not None
        assert rows[0].error_message.startswith("being retried: ")
        assert [other.error_code for other in rows[0].other_rounds] == ["429"]
        told = client.report(job)
        assert [told["rows"][kind] for kind in ("total", "ok", "failed", "missing", "pending")] == [20, 14, 1, 0, 5]
        assert [failure["code"] for failure in told["failures"]] == ["content_filter"]
        with pytest.raises(Unfinished, match="5 of 20 rows not back yet"):
            partial.raise_for_failures()

        seen = set()
        for step in client.track(job):
            validate("job", document.job(step))
            seen.add(_stands(step))
        assert seen > {(20, 14, 1, 0, 5), (20, 19, 1, 0, 0)}, "the service counts rows of the round meanwhile"
        client.fetch(job)
        assert _stands(client.show(job)) == (20, 19, 1, 0, 0)


def _stands(job: Job) -> tuple[int, ...]:
    rows = job.so_far
    assert rows.ok + rows.failed + rows.missing + rows.pending == rows.total == 20
    assert rows.ok >= 14
    return rows.total, rows.ok, rows.failed, rows.missing, rows.pending


def test_run_asks_at_most_so_often(make_world: Callable[..., World]) -> None:
    model = Moody(lambda number: 9 if number == 1 else number % 2, refused(500, "oops"))
    world = make_world(fail_rate=0.0, answer=model)
    with world.client() as client:
        report = client.run(request_lines(20), name="stubborn", retries=2).report
        assert (report.ok, report.errors) == (19, {"oops": 1})
        client.run(request_lines(20), name="stubborn", retries=2)
        assert client.show("stubborn").round == 2
    assert len(model.seen["row-1"]) == 3
    assert len(model.seen["row-0"]) == 1


def test_all_rounds_of_a_run_share_its_timeout(make_world: Callable[..., World]) -> None:
    model = Moody(lambda number: 9 * (number == 1), refused(429, "429"))
    world = make_world(fail_rate=0.0, answer=model, pace=Pace(running_s=600, row_s=0))
    with world.client() as client:
        began = world.clock.now()
        with pytest.raises(Unfinished):
            client.run(request_lines(20), name="slow", retries=5, timeout_s=1800)
        assert world.clock.now() - began <= 1800
        assert 1 <= client.show("slow").round < 5


def test_a_row_that_grew_too_large_is_named(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, answer=lambda _: refused(429, "429"))
    with world.client(limits=Limits(max_bytes=500)) as client:
        client.run(request_lines(2), name="grown")
        with pytest.raises(InputError, match=r"larger than a file may be .* row-0"):
            client.retry("grown", params={"user": "x" * 500})


def test_run_stops_when_hardly_any_row_succeeds(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, answer=lambda _: refused(500, "oops"))
    with world.client() as client:
        report = client.run(request_lines(20), name="hopeless", retries=9).report
        assert report.retryable == 20
        assert client.show("hopeless").round == 0


def test_rows_that_never_ran_are_asked_again_however_many(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["expire,0,nth=1"])
    with world.client(poll_interval_s=1800.0) as client:
        assert client.run(request_lines(20), name="expired", retries=1).report.ok == 20
    assert len(world.batches()) == 2


def test_a_cancelled_job_is_not_asked_again_by_itself(world: World) -> None:
    with world.client() as client:
        job = client.submit(request_lines(20), name="stopped")
        client.cancel(job)
        report = client.run(request_lines(20), name="stopped", retries=3).report
        assert report.retryable == 20
        assert client.show("stopped").round == 0


def test_a_wish_to_cancel_just_before_the_next_round_stays_and_nothing_is_asked_again(
    make_world: Callable[..., World],
) -> None:
    world = make_world(fail_rate=0.0, answer=Moody(lambda number: number % 2, refused(500, "oops")))
    book = world.home / "ledger.sqlite3"

    def cancel(progress: Progress) -> None:
        if progress.job.collected:
            with world.client() as other, pytest.raises(CancelWished):
                other.cancel("moody")

    with Client(world.target(), ledger=book, clock=world.clock, on_progress=cancel) as client:
        report = client.run(request_lines(20), name="moody", retries=3).report
        job = client.show("moody")
    assert (report.retryable, job.round, job.cancelled_at is not None) == (10, 0, True)
    assert len(world.batches()) == 1
    with world.client() as client:
        assert client.retry("moody")[0].cancelled_at is None, "who asks again does not want it cancelled"


def test_a_wish_to_cancel_while_rows_are_gathered_for_a_retry_is_heard(make_world: Callable[..., World]) -> None:
    """Also where the job was cancelled before, which the retry takes back."""
    world = make_world(fail_rate=0.0, answer=Moody(lambda number: 9 * (number % 2), refused(500, "oops")))
    with world.client() as client:
        client.run(request_lines(20), name="moody")

    def plan(_: int, what: str) -> None:
        if what == "ledger" and wishes and any(world.home.glob("ledger.jobs/*-*/1-000.lines.jsonl")):
            wishes.pop()
            world.clock.advance(1)
            with world.client() as other, pytest.raises(CancelWished, match="ask for no row of it again"):
                other.cancel("moody")

    async def work() -> None:
        made, workdir = open_ledger(world.home / "ledger.sqlite3")
        book = Ledger(DoorStore(Doors(plan), made.store)), workdir
        async with AsyncClient(world.target(), ledger=book, clock=world.clock) as client:
            for _ in range(2):
                wishes.append("cancel")
                with pytest.raises(CancelWished, match="cancelled while its rows were gathered"):
                    await client.retry("moody")
                job = await client.show("moody")
                assert (wishes, job.round, job.cancelled_at) == ([], 0, world.clock.now())
            assert (await client.cancel("moody")).cancelled_at == world.clock.now(), "nobody works on it"
            assert (await client.retry("moody"))[0].cancelled_at is None

    wishes: list[str] = []
    asyncio.run(work())
    assert len(world.batches()) == 2


def counted(world: World, leases: list[str]) -> AsyncClient:
    """A client that counts the leases it takes."""

    def owner() -> str:
        leases.append(new_owner())
        return leases[-1]

    made, workdir = open_ledger(world.home / "ledger.sqlite3")
    book = Ledger(made.store, owner=owner), workdir
    return AsyncClient(world.target(), ledger=book, clock=world.clock, settings=Settings(max_attempts=1))


def test_a_round_is_asked_and_submitted_under_one_lease(make_world: Callable[..., World]) -> None:
    """Nobody comes in between, whom the command would have to make room for."""
    world = make_world(fail_rate=0.0, answer=Moody(lambda number: 9 * (number == 1), refused(500, "oops")))
    leases: list[str] = []

    async def work() -> None:
        async with counted(world, leases) as client:
            await client.run(request_lines(20), name="moody", retries=1)
            assert (len(leases), (await client.show("moody")).round) == (1, 1)
            await client.run(request_lines(20), name="moody", retries=2)
            assert (len(leases), (await client.show("moody")).round) == (2, 2), "it was settled before"
            await client.retry("moody")
            assert (len(leases), (await client.show("moody")).round) == (3, 3)

    asyncio.run(work())


def test_a_job_that_was_never_sent_is_ended_under_one_lease(make_world: Callable[..., World]) -> None:
    world, leases = make_world(faults=["html,502,call=any"]), list[str]()

    async def work() -> None:
        async with counted(world, leases) as client:
            with pytest.raises(Unavailable):
                await client.submit(request_lines(2), name="nightly", wait=False)
            await client.cancel("nightly")
            leases.clear()
            assert (await client.fetch("nightly")).report.failed == 2
            assert (len(leases), (await client.show("nightly")).settled_at is not None) == (1, True)

    asyncio.run(work())


def test_bodies_are_changed_on_the_way_and_stay_changed(make_world: Callable[..., World]) -> None:
    model = Moody(lambda number: 2 if number == 3 else 0, refused(400, "length"))
    world = make_world(fail_rate=0.0, answer=model)
    with world.client() as client:
        job = client.submit(
            [line | {"body": line["body"] | {"user": "me"}} for line in request_lines(5)], name="longer"
        )
        list(client.track(job))
        client.fetch(job)
        with pytest.raises(InputError, match="no row"):
            client.retry(job)
        assert client.retry(job, only=["length"], dry_run=True)[1] == 1
        for params in ({"max_tokens": 4000, "user": None}, {"top_p": 0.5}):
            _, count = client.retry(job, only=["4xx"], params=params)
            assert count == 1
            list(client.track(job))
            client.fetch(job)
        assert client.fetch(job).report.ok == 5
    first, second, third = model.seen["row-3"]
    assert "max_tokens" not in first
    asked = request_lines(5)[3]["body"]
    assert orjson.dumps(first) == orjson.dumps(asked | {"user": "me"})
    assert second == asked | {"max_tokens": 4000}
    assert third == asked | {"max_tokens": 4000, "top_p": 0.5}
    number = 123456789012345678901234567890
    assert b'"seed":%d,' % number in changed(b'{"body":{"seed":%d,"n":1}}' % number, {"n": 2})


def test_of_the_two_names_of_a_limit_a_body_has_one() -> None:
    line = b'{"body":{"max_tokens":20,"n":1}}'
    assert changed(line, {"max_completion_tokens": 400}) == b'{"body":{"n":1,"max_completion_tokens":400}}\n'
    assert changed(line, {"max_tokens": 400}) == b'{"body":{"max_tokens":400,"n":1}}\n'


def test_a_job_whose_batches_ended_is_to_be_fetched_before_rows_are_asked_again(world: World) -> None:
    with world.client() as client:
        client.submit(request_lines(2), name="nightly")
        with pytest.raises(Unfinished) as running:
            client.retry("nightly")
        list(client.track("nightly"))
        with pytest.raises(Unfinished) as ended:
            client.retry("nightly")
    assert (running.value.hint, ended.value.hint) == (
        "batchkit track nightly",
        "batchkit fetch nightly -o results.csv",
    )


def test_a_later_answer_never_loses_a_good_or_a_real_one(make_world: Callable[..., World]) -> None:
    replies: dict[str, Any] = {"row-0": "a", "row-1": refused(429, "first")}
    world = make_world(fail_rate=0.0, answer=lambda line: replies[line["custom_id"]], faults=["drop_rows,1,nth=3"])
    with world.client() as client:
        job = client.submit(request_lines(2), name="rounds")
        list(client.track(job))
        client.fetch(job)
        replies["row-1"] = refused(500, "second")
        for _ in range(2):
            client.retry(job)
            list(client.track(job))
            client.fetch(job)
        good, bad = client.iter_results(job)
    assert (good.ok, good.round, good.other_rounds) == (True, 0, ())
    assert (bad.error_code, bad.round) == ("second", 1)
    assert [(other.error_code, other.round) for other in bad.other_rounds] == [("first", 0), ("missing", 2)]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"messages": None}, "row 'row-0'.*messages"),
        ({"stream": True}, "row 'row-0'.*stream"),
        ({"temperature": "hot"}, "row 'row-0'.*temperature"),
        ({"temperature": float("nan")}, "cannot be written as JSON"),
        ({"user": {1, 2}}, "cannot be written as JSON"),
        ({"model": "another"}, "goes to the job's deployment, gpt-4o-batch"),
    ],
)
def test_bodies_that_no_service_takes_are_not_asked_again(
    make_world: Callable[..., World], params: dict[str, Any], said: str
) -> None:
    world = make_world(fail_rate=0.0, answer=lambda _: refused(429, "429"))
    with world.client() as client:
        client.run(request_lines(2), name="again")
        with pytest.raises(InputError, match=said):
            client.retry("again", params=params)
        assert client.show("again").round == 0
    assert len(world.batches()) == 1


def test_what_a_later_round_owes_is_not_asked_again_unwished(make_world: Callable[..., World]) -> None:
    model = Moody(lambda number: 1 if number < 4 else 0, refused(429, "429"))
    world = make_world(fail_rate=0.0, answer=model, faults=["drop_rows,1.0,nth=2"])
    with world.client() as client:
        assert client.run(request_lines(6), name="owed", retries=3).report.ok == 2
    assert len(world.batches()) == 2


def test_rows_that_are_known_not_to_have_run_are_asked_again_beside_one_that_is_owed(
    make_world: Callable[..., World],
) -> None:
    world = make_world(fail_rate=0.0, faults=["expire,0.5,nth=1", "drop_rows,0.05,nth=1"])
    with world.client() as client:
        report = client.run(request_lines(20), name="half", retries=1).report
    assert (report.ok, report.failed, len(world.batches())) == (19, 1, 2)
