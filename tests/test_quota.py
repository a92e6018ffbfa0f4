"""The enqueued-token quota is kept to, waited for and never deadlocks; parts go where there is room."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import AsyncClient, Client, Results, Settings
from batchkit.config import Limits
from batchkit.emulator.app import Emulated
from batchkit.emulator.faults import Faults, made
from batchkit.emulator.settings import Limits as ServiceLimits
from batchkit.errors import BatchkitError, Unauthorized, Unavailable, Unfinished
from batchkit.model import Batch, Counts, Next, Part, Queue, ServiceError, State
from batchkit.uploader import quota
from batchkit.uploader.quota import Admission, Room

from .conftest import World, request_lines
from .test_torture import harmed
from .tools.doors import Bench, Doors, Harm, Killed, Place

LINE = len(json.dumps(request_lines(10)[5], separators=(",", ":"))) + 1
TOKENS = -(-2 * LINE // 4)
"""About what a part of two lines takes of a quota."""


class Watched(Bench):
    """A bench that keeps the emulated services it made, to ask them how often they were asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.apps: list[tuple[str, Emulated]] = []

    def emulated(self, place: Place) -> Emulated:
        app = super().emulated(place)
        self.apps.append((place.name, app))
        return app

    def count(self, status: int, name: str = "create_batch") -> int:
        """How many creations were answered so."""
        return sum(call.name == name and call.status == status for _, app in self.apps for call in app.calls)


def whole(bench: Bench, rows: int = 10) -> Results:
    results: Results = bench.live(Doors())
    assert (results.report.ok, results.report.balanced) == (rows, True)
    return results


@pytest.mark.promise("A9")
@pytest.mark.parametrize("late", [False, True], ids=["at once", "after validation"])
@pytest.mark.parametrize("room", [1, 2, 5])
def test_a_quota_nobody_told_us_of_is_learned_and_kept_to(tmp_path: Path, room: int, late: bool) -> None:
    """The first refusal names the limit; from then on nothing is sent that has no room."""
    limit = room * TOKENS + 1
    bench = Watched(tmp_path, places=(Place(deployments=(f"gpt-4o-batch:::{limit}",), late_quota=late),))
    whole(bench)
    if late:  # those that are sent before the first of them was judged are refused with it
        assert sum(batch["status"] == "failed" for batch in bench.batches()) == 5 - room
    else:
        assert bench.count(400) == (room < 5)
    assert max_enqueued(bench) <= limit


@pytest.mark.promise("A9")
@pytest.mark.parametrize("room", [1, 3])
def test_a_quota_in_the_settings_is_never_run_into(tmp_path: Path, room: int) -> None:
    limit = room * TOKENS + 1
    bench = Watched(tmp_path, places=(Place(deployments=(f"gpt-4o-batch:::{limit}",), configured=limit),))
    whole(bench)
    assert bench.count(400) == 0
    assert max_enqueued(bench) <= limit


@pytest.mark.promise("A9")
def test_the_limit_in_the_answers_headers_is_kept_to(tmp_path: Path) -> None:
    limit = 2 * TOKENS + 1
    bench = Watched(tmp_path, dialect="dated", places=(Place(deployments=(f"gpt-4o-batch:::{limit}",)),))
    whole(bench)
    assert bench.count(400) == 0
    assert max_enqueued(bench) <= limit


@pytest.mark.promise("A9")
@pytest.mark.parametrize("configured", [None, LINE // 4 + 2], ids=["learned", "configured"])
def test_a_part_larger_than_the_whole_quota_is_cut_and_stays_in_order(tmp_path: Path, configured: int | None) -> None:
    limit = LINE // 4 + 2
    place = Place(deployments=(f"gpt-4o-batch:::{limit}",), configured=configured)
    bench = Watched(tmp_path, rows=6, limits=Limits(max_lines=3), places=(place,))
    results = whole(bench, rows=6)
    assert len(results.job.parts) == 6
    written = [json.loads(line)["custom_id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [f"row-{number}" for number in range(6)]
    assert bench.files() == []
    assert len(list((tmp_path / "ledger.jobs" / results.job.id).glob("*.lines.jsonl"))) == 6
    assert bench.count(400) <= (1 if configured is None else 0)


@pytest.mark.promise("A10")
def test_the_file_of_a_part_that_was_cut_goes_though_we_died_over_it(tmp_path: Path) -> None:
    limit = LINE // 4 + 2
    bench = Bench(
        tmp_path, rows=6, limits=Limits(max_lines=3), places=(Place(deployments=(f"gpt-4o-batch:::{limit}",)),)
    )
    with pytest.raises(Killed):
        bench.live(Doors(lambda _, what: Harm.KILL if what.startswith("DELETE") else None))
    assert len(bench.files()) >= 1
    whole(bench, rows=6)
    assert bench.files() == []


def max_enqueued(bench: Watched, place: int = 0) -> int:
    """The most tokens that were enqueued at once, by the service's own count, from the batches' lives."""
    moments: list[tuple[float, int]] = []
    for batch in bench.batches(place):
        if batch["status"] == "failed":
            continue
        size = TOKENS - 1
        moments += [(batch["created_at"], size), (batch["completed_at"] or batch["cancelled_at"], -size)]
    enqueued = most = 0
    for _, change in sorted(moments):
        enqueued += change
        most = max(most, enqueued)
    return most


@pytest.mark.promise("A9")
def test_parts_go_where_there_is_room_under_the_name_that_is_used_there(tmp_path: Path) -> None:
    limit = 2 * TOKENS + 8
    east = Place("east", deployments=(f"gpt-4o-batch:::{limit}",), configured=limit)
    west = Place("west", deployments=(f"other-name:::{limit}",), configured=limit, deployment="other-name")
    bench = Watched(tmp_path, rows=16, places=(east, west))
    results = whole(bench, rows=16)
    went = Counter(part.target for part in results.job.parts)
    assert set(went) == {"east", "west"}
    assert min(went.values()) >= 2
    assert {part.deployment for part in results.job.parts if part.target == "west"} == {"other-name"}
    assert {part.service for part in results.job.parts if part.target == "west"} == {"http://127.0.0.1:2"}
    written = [json.loads(line)["custom_id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written == [f"row-{number}" for number in range(16)]
    assert len(bench.batches(0)) + len(bench.batches(1)) == 8
    assert bench.count(400) == 0
    assert bench.files(0) == bench.files(1) == []


@pytest.mark.promise("A9")
def test_a_target_that_fails_definitely_is_set_aside_and_said_so(tmp_path: Path) -> None:
    bench = Watched(tmp_path, places=(Place("east", key_fits=False), Place("west")))
    results = whole(bench)
    assert {part.target for part in results.job.parts} == {"west"}
    events = bench.live(Doors(), lambda client: client.show("nightly")).events
    assert [event.detail for event in events if event.kind == "set aside" and "target east" in event.detail]
    assert bench.count(401, "upload") + bench.count(401, "list_files") == 1


@pytest.mark.promise("A9")
def test_where_no_target_will_do_it_is_said_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, places=(Place("east", key_fits=False), Place("west", key_fits=False)))
    with pytest.raises(Unauthorized):
        bench.live(Doors())


@pytest.mark.promise("A9")
def test_where_no_target_will_do_it_is_said_each_turn(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rows=4, places=(Place("east", key_fits=False), Place("west", key_fits=False)))
    for _ in range(20):
        with pytest.raises(Unauthorized):
            bench.live(Doors(), once)
        bench.clock.advance(60)


async def once(client: AsyncClient) -> Results:
    """What cron does each minute."""
    return await client.run(request_lines(4), name="nightly", once=True)


@pytest.mark.promise("A9", "C7")
@pytest.mark.parametrize("bad_first", [False, True])
def test_a_part_too_large_for_the_good_target_is_cut_and_not_kept_for_a_bad_one(
    tmp_path: Path, bad_first: bool
) -> None:
    limit = LINE // 4 + 2
    good = Place("good", deployments=(f"gpt-4o-batch:::{limit}",), configured=limit)
    places = (good, Place("bad", key_fits=False))
    bench = Watched(tmp_path, rows=4, places=places[::-1] if bad_first else places)
    began = bench.clock.now()
    results = whole(bench, rows=4)
    assert {part.target for part in results.job.parts} == {"good"}
    assert bench.clock.now() - began < 6 * 3600


@pytest.mark.promise("A9")
def test_the_pieces_of_a_part_name_the_deployment_where_they_go(tmp_path: Path) -> None:
    """Also where the limit is learned after the part had its place."""
    limit = LINE // 4 + 2
    names = ("name-e", "name-w")
    places = tuple(Place(name, deployments=(f"{name}:::{limit}",), deployment=name) for name in names)
    bench = Watched(tmp_path, rows=4, places=places)
    results = whole(bench, rows=4)
    assert {part.lines for part in results.job.parts} == {1}
    assert all(part.sent_sha256 for part in results.job.parts)


@pytest.mark.promise("A9", "C3")
def test_services_that_are_silent_are_asked_once_a_turn(tmp_path: Path) -> None:
    asked: Counter[int | None] = Counter()

    class Down(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked[request.url.port] += 1
            raise httpx.ConnectTimeout("no answer")

    bench = Bench(tmp_path, rows=20, places=(Place("east"), Place("west")), settings=Settings(max_attempts=1))
    bench.wrap = lambda _: Down()
    with pytest.raises(Unavailable):
        bench.live(Doors(), lambda client: client.run(request_lines(20), name="nightly", once=True))
    assert asked == {1: 1, 2: 1}


@pytest.mark.promise("A9")
def test_a_target_that_cannot_be_reached_does_not_keep_parts_from_the_other(tmp_path: Path) -> None:
    east = Place("east", faults=Faults(made(["html,502,call=any"])))
    bench = Watched(tmp_path, places=(east, Place("west")))
    bench.live(Doors())
    assert len(bench.batches(1)) == 5
    assert len(bench.batches(0)) == 0


@pytest.mark.promise("A10")
def test_the_cap_on_files_is_counted_before_the_upload(tmp_path: Path) -> None:
    """With room for two files the others wait until parts are done and their files gone; nobody is refused."""
    place = Place(limits=ServiceLimits(expiring_files=2))
    bench = Watched(tmp_path, rows=6, limits=Limits(max_lines=2, files=2), places=(place,))
    began = bench.clock.now()
    whole(bench, rows=6)
    assert bench.clock.now() - began < 2 * 3600
    assert bench.count(400, "upload") == 0
    assert bench.files() == []


@pytest.mark.promise("A9", "C3")
def test_strangers_in_the_queue_are_waited_for_with_patience(tmp_path: Path) -> None:
    """A queue that others fill for half a day: ever fewer tries, a state that says why, and in the end the job."""
    place = Place(faults=Faults(made(["quota,call=create_batch,times=30"])))
    bench = Watched(tmp_path, rows=2, places=(place,))
    before = bench.clock.now()
    whole(bench, rows=2)
    assert bench.count(400) == 30
    assert bench.clock.now() - before > 60 * (1 + 2 + 4 + 8 + 16) + 24 * 1800


QUEUES = st.builds(
    Queue,
    bytes=st.integers(0, 1000),
    tokens=st.none() | st.integers(1, 300),
    tries=st.integers(0, 9),
    next_try_at=st.none() | st.floats(0, 5000),
    why=st.none() | st.just("full"),
)


@pytest.mark.promise("A9")
@given(st.integers(1, 2000), st.integers(1, 50), QUEUES, st.none() | st.integers(1, 300), st.floats(0, 5000))
def test_who_is_let_in_fits(size: int, lines: int, queue: Queue, configured: int | None, now: float) -> None:
    found = quota.admit(size, lines, queue, configured, now)
    limit = min((known for known in (configured, queue.tokens) if known), default=None)
    if found.room is Room.GO:
        waiting = queue.next_try_at is not None and queue.next_try_at > now
        assert not waiting
        fits = limit is None or quota.tokens(size) + quota.tokens(queue.bytes) <= limit
        assert fits or (queue.bytes == 0 and (lines == 1 or quota.tokens(size) <= limit))  # type: ignore[operator]
    elif found.room is Room.TOO_LARGE:
        assert lines > 1
        assert limit is not None
        assert quota.tokens(size) > limit or (queue.tries >= quota.HOPELESS and queue.bytes == 0)
        assert 2 <= quota.pieces(size, lines, limit) <= lines
    else:
        assert found.why
        assert found.at is None or found.at > now


@pytest.mark.promise("A9")
def test_a_part_that_is_refused_again_and_again_may_be_too_large_after_all() -> None:
    """Its tokens are only estimated. With nothing of ours in the queue, and not far from the limit, it is cut."""
    alone = Queue(bytes=0, tokens=1000, tries=quota.HOPELESS)
    assert quota.admit(3000, 9, alone, None, 0.0).room is Room.TOO_LARGE
    assert quota.admit(3000, 1, alone, None, 0.0).room is Room.GO
    assert quota.admit(900, 9, alone, None, 0.0).room is Room.GO
    assert quota.admit(3000, 9, replace(alone, tries=quota.HOPELESS - 1), None, 0.0).room is Room.GO
    assert quota.admit(3000, 9, replace(alone, bytes=4), None, 0.0).room is Room.GO
    assert quota.admit(3000, 9, replace(alone, next_try_at=9.0), None, 0.0).room is Room.WAIT
    assert quota.admit(3000, 9, replace(alone, next_try_at=2 * quota.LONGEST_WAIT_S), None, 0.0).room is Room.TOO_LARGE


def test_one_request_that_no_queue_can_take_says_so_while_it_waits(tmp_path: Path) -> None:
    bench = Watched(tmp_path, rows=1, places=(Place(deployments=("gpt-4o-batch:::3",)),))
    with pytest.raises(Unfinished):
        bench.live(Doors(), lambda client: client.run(request_lines(1), name="nightly", once=True))
    assert bench.live(Doors(), lambda client: client.show("nightly")).held == (
        f"waiting for quota: one request of about {-(-LINE // 4)} tokens is more than the whole quota of 3,"
        " and waits for a larger one"
    )


def test_exactly_full_is_not_over() -> None:
    """The numbers of our conduct, and the borders they draw."""
    assert (quota.LONGEST_WAIT_S, quota.BYTES_PER_TOKEN, quota.HOPELESS, quota.OFF_BY) == (86_400.0, 4, 5, 4)
    assert quota.admit(400, 9, Queue(bytes=400), 200, 0.0).room is Room.GO
    assert quota.admit(404, 9, Queue(bytes=400), 200, 0.0).room is Room.WAIT
    assert quota.admit(800, 9, Queue(), 200, 0.0).room is Room.GO
    assert quota.admit(801, 9, Queue(), 200, 0.0).room is Room.TOO_LARGE
    assert quota.admit(801, 1, Queue(), 200, 0.0).room is Room.GO
    assert quota.admit(400, 9, Queue(bytes=400, tokens=150), 200, 0.0).room is Room.WAIT
    assert quota.admit(400, 9, Queue(bytes=400, tokens=300), 150, 0.0).room is Room.WAIT
    assert (quota.tokens(1), quota.tokens(4), quota.tokens(5)) == (1, 1, 2)


def test_a_part_waits_until_its_time_and_no_longer_than_a_day() -> None:
    part = Part("p", "j", 0, 0, State.STAGED, 1, 9, "ab", held="full", next_try_at=100.0)
    assert quota.waits(part, 99.0) == Next(100.0, "full")
    assert quota.waits(part, 100.0) is None
    assert quota.waits(replace(part, next_try_at=None), 0.0) is None
    assert quota.waits(replace(part, next_try_at=quota.LONGEST_WAIT_S), 0.0) is not None
    assert quota.waits(replace(part, next_try_at=quota.LONGEST_WAIT_S + 1), 0.0) is None


def test_of_those_with_room_the_emptiest_is_chosen() -> None:
    go, wait = Admission(Room.GO), Admission(Room.WAIT, "full", 9.0)
    assert quota.choose([go, go], [Queue(400), Queue(100)], [1000, 1000]) == 1
    assert quota.choose([go, go], [Queue(400), Queue(300)], [1000, 100]) == 0
    assert quota.choose([go, go], [Queue(8), Queue(4)], [None, None]) == 1
    assert quota.choose([go, go], [Queue(), Queue()], [None, None]) == 0
    assert quota.choose([wait, go], [Queue(), Queue(900)], [1000, 1000]) == 1
    assert quota.choose([wait, wait], [Queue(), Queue()], [None, None]) is None
    assert quota.choose([go, go], [Queue(400, tokens=100), Queue(400, tokens=1000)], [None, None]) == 1


def test_into_how_many_pieces() -> None:
    assert quota.pieces(4000, 100, 250) == 4
    assert quota.pieces(4001, 100, 250) == 5
    assert quota.pieces(4000, 100, 5000) == 2
    assert quota.pieces(4000, 3, 10) == 3
    assert quota.pieces(4000, 100, None) == 2
    assert quota.files_left(499, 500)
    assert not quota.files_left(500, 500)
    assert quota.files_left(10**6, None)


def refusing(name: str) -> Place:
    """A service where the deployment that jobs name is none of its own."""
    return Place(name, deployments=("another-one",))


@pytest.mark.promise("A9")
@pytest.mark.parametrize("rows", [2, 16])
def test_a_target_whose_validation_refuses_a_batch_is_set_aside_for_the_job(tmp_path: Path, rows: int) -> None:
    """Its parts go where they are taken, those that were never sent there included; the next job tries it again."""
    bench = Watched(tmp_path, rows=rows, places=(refusing("east"), Place("west")))
    results = whole(bench, rows=rows)
    assert {part.target for part in results.job.parts} == {"west"}
    assert {batch["status"] for batch in bench.batches(0)} == {"failed"}
    assert {batch["status"] for batch in bench.batches(1)} == {"completed"}
    assert len(bench.batches(1)) == rows / 2
    assert bench.files(0) == bench.files(1) == []
    events = bench.live(Doors(), lambda client: client.show("nightly")).events
    said = [event.detail for event in events if event.kind == "set aside"]
    assert said
    assert said[0].startswith("target east: model_not_found: The deployment 'gpt-4o-batch' does not exist")


@pytest.mark.deep
@pytest.mark.promise("A1", "A2", "A9")
@pytest.mark.parametrize("harm", Harm)
def test_a_target_is_set_aside_whatever_befalls_us(tmp_path: Path, harm: Harm) -> None:
    places = (refusing("east"), Place("west"))
    doors = Doors()
    Watched(tmp_path / "whole", rows=4, places=places).live(doors)
    for at in range(len(doors.passed)):
        bench = Watched(tmp_path / str(at), rows=4, places=places)
        with suppress(Killed, BatchkitError, OSError):
            bench.live(Doors(harmed(at, harm)))
        whole(bench, rows=4)
        assert {batch["status"] for batch in bench.batches(0)} == {"failed"}
        assert [batch["status"] for batch in bench.batches(1)] == ["completed"] * 2


@pytest.mark.promise("A9", "C7")
def test_a_job_that_every_target_refuses_ends_and_says_what_they_said(tmp_path: Path) -> None:
    bench = Watched(tmp_path, rows=6, places=(refusing("east"), refusing("west")))
    results: Results = bench.live(Doors())
    assert (results.report.failed, results.report.balanced) == (6, True)
    assert results.report.errors == {"model_not_found": 6}
    assert {batch["status"] for place in (0, 1) for batch in bench.batches(place)} == {"failed"}
    assert len(bench.batches(0)) + len(bench.batches(1)) <= 2 * 3


@pytest.mark.promise("A9")
def test_what_is_wrong_with_the_lines_is_no_targets_fault() -> None:
    def refused(*errors: ServiceError, status: str = "failed") -> bool:
        return Batch("b", status, errors=errors).refused_by_target

    missing = ServiceError("model_not_found", "no such deployment")
    assert refused(missing)
    assert refused(ServiceError("invalid_request", "the SKU is none for batches"))
    assert not refused(replace(missing, line=3))
    assert not refused(missing, ServiceError("duplicate_custom_id", "twice", 4))
    assert not refused(ServiceError("batch_lost", "the service does not know this batch"))
    assert not refused(missing, status="expired")
    assert not refused()


@pytest.mark.promise("A9")
def test_a_job_that_was_given_to_one_target_stays_there_though_a_pool_turns_it(
    make_world: Callable[..., World],
) -> None:
    """Whoever names a region means it: neither a refusal nor an outage sends its rows to another."""
    refuses, takes = make_world(fail_rate=0.0, deployments=("other",)), make_world(fail_rate=0.0)
    east, west = replace(refuses.target(), name="east"), replace(takes.target(), name="west")
    pool = replace(east, name="everywhere", pool=(east, west))
    ledger = refuses.home / "ledger.sqlite3"
    with Client(east, ledger=ledger, clock=refuses.clock) as client:
        client.submit(request_lines(4), name="nightly")
    with Client(pool, ledger=ledger, clock=refuses.clock) as client:
        for _ in range(6):
            refuses.clock.advance(2000)
            client.run_due()
        job = client.show("nightly")
    assert (job.settled_at is not None, {part.target for part in job.parts}) == (True, {"east"})
    assert (len(refuses.batches()), takes.batches()) == (1, [])


@pytest.mark.promise("A9")
def test_an_outage_sends_no_job_away_that_was_given_to_one_target(make_world: Callable[..., World]) -> None:
    down, up = make_world(faults=["html,502,call=any"]), make_world(fail_rate=0.0)
    east, west = replace(down.target(), name="east"), replace(up.target(), name="west")
    ledger = down.home / "ledger.sqlite3"
    with (
        Client(east, ledger=ledger, clock=down.clock, settings=Settings(max_attempts=1)) as client,
        pytest.raises(Unavailable),
    ):
        client.submit(request_lines(4), name="nightly", wait=False)
    pool = replace(east, name="everywhere", pool=(east, west))
    with Client(pool, ledger=ledger, clock=down.clock, settings=Settings(max_attempts=1)) as client:
        with suppress(Unavailable):
            client.run_due()
        assert {part.target for part in client.show("nightly").parts} == {"east"}
    assert up.batches() == []


@pytest.mark.promise("A2", "A9")
@pytest.mark.parametrize("code", ["model_not_found", "token_limit_exceeded"])
def test_a_batch_that_failed_after_it_did_rows_was_not_refused(code: str) -> None:
    """Its rows are paid for: asking them again elsewhere, or once more, would pay them twice."""
    failed = Batch("b", "failed", errors=(ServiceError(code, "gone meanwhile"),), counts=Counts(4, 0, 4))
    for done in (replace(failed, counts=Counts(4, 1, 3)), replace(failed, output_file_id="file-out")):
        assert failed.refused_by_target or failed.refused_for_quota
        assert not (done.refused_by_target or done.refused_for_quota)


def test_why_a_part_waits_is_said_in_these_words() -> None:
    """They stand in `show`, in the diary and in the metrics."""
    full = Queue(bytes=400, tokens=1000, next_try_at=50.0)
    words = "waiting for quota: the deployment's queue is full"
    assert quota.admit(40, 2, full, None, 49.5) == Admission(Room.WAIT, words, 50.0)
    assert quota.admit(40, 2, replace(full, why="429"), None, 49.5) == Admission(Room.WAIT, "429", 50.0)
    assert quota.admit(40, 2, full, None, 50.0) == Admission(Room.GO, "", None)
    day = replace(full, next_try_at=quota.LONGEST_WAIT_S)
    assert quota.admit(40, 2, day, None, 0.0).room is Room.WAIT
    large = "about 1,001 tokens are more than the whole quota of 1,000"
    assert quota.admit(4004, 2, Queue(), 1000, 0.0) == Admission(Room.TOO_LARGE, large)
    hopeless = Queue(tokens=1000, tries=5)
    refused = "refused 5 times while nothing of ours was in the queue of 1,000 tokens"
    assert quota.admit(1004, 2, hopeless, None, 0.0) == Admission(Room.TOO_LARGE, refused)
    assert quota.admit(1000, 2, hopeless, None, 0.0) == Admission(Room.GO), "exactly a quarter is too far off"
    busy = "waiting for quota: about 1,000 of 1,200 tokens were enqueued, and 250 more are to go"
    assert quota.admit(1000, 2, Queue(bytes=4000), 1200, 0.0) == Admission(Room.WAIT, busy)
    assert quota.admit(1000, 2, Queue(bytes=4000, tokens=1200), 1200, 0.0) == Admission(Room.WAIT, busy)
    learned = busy.replace("tokens were", "tokens, as the service named them, were")
    assert quota.admit(1000, 2, Queue(bytes=4000, tokens=1200), None, 0.0) == Admission(Room.WAIT, learned)
    assert quota.waits(Part("p", "j", 0, 0, State.STAGED, 1, 9, "ab", next_try_at=9.0), 0.0) == Next(9.0, "")


def test_the_smaller_of_two_limits_is_the_measure_of_a_queue() -> None:
    """Half of 1,000 learned is more than a third of 1,500 configured elsewhere, though it says 10,000."""
    go = Admission(Room.GO)
    assert quota.choose([go, go], [Queue(2000, tokens=1000), Queue(2000)], [10_000, 1500]) == 1
    assert quota.choose([go, go], [Queue(4), Queue(8)], [None, 10**9]) == 0
