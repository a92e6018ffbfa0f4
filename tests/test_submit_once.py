"""No lost answer and no crash makes a second batch: checked by counting batches at the emulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import httpx
import pytest

from batchkit import AsyncClient, Job, LocalError, ManualClock, Report, Uncertain
from batchkit.errors import Interrupted, Refused, Unavailable
from batchkit.model import Batch, Part, State
from batchkit.uploader import reconcile
from batchkit.uploader.reconcile import Fate

from .conftest import SMALL, World, request_lines

Harm = Callable[[httpx.Request], Exception | httpx.Response | None]


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """A real connection on which things go wrong: `before` acts instead of sending, `after` once it was done."""

    before: Harm = field(default=lambda _: None)
    after: Harm = field(default=lambda _: None)
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        harm = self.before(request)
        if harm is None:
            self.sent.append(f"{request.method} {request.url.path.removeprefix('/openai/v1')}")
            response = await self._inner.handle_async_request(request)
            harm = self.after(request)
            if harm is None:
                return response
            await response.aread()
            await response.aclose()
        if isinstance(harm, Exception):
            raise harm
        return fresh(harm)

    async def aclose(self) -> None:
        await self._inner.aclose()


def fresh(response: httpx.Response) -> httpx.Response:
    """A made-up answer that has not been read yet, as those from the network."""
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def creating(what: str, harm: Callable[[], Exception | httpx.Response], times: int = 1) -> Harm:
    """Harm done to the first `times` POSTs of a kind."""
    left = [times]

    def act(request: httpx.Request) -> Exception | httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith(what) and left[0]:
            left[0] -= 1
            return harm()
        return None

    return act


LOST: dict[str, Callable[[], Exception | httpx.Response]] = {
    "reset": lambda: httpx.ReadError("reset"),
    "timeout": lambda: httpx.ReadTimeout("silence"),
    "closed": lambda: httpx.RemoteProtocolError("closed without an answer"),
    "500": lambda: httpx.Response(500, json={"error": {"code": "internalFailure", "message": "Oops"}}),
    "503": lambda: httpx.Response(503, text="<html>busy</html>"),
    "408": lambda: httpx.Response(408, text=""),
    "409": lambda: httpx.Response(409, json={"error": {"code": "conflict", "message": "again?"}}),
    "unreadable": lambda: httpx.Response(200, text="<html>hello</html>"),
    "no id": lambda: httpx.Response(201, json={"object": "batch"}),
}


async def run(world: World, wire: Wire, count: int = 6, name: str = "nightly") -> int:
    """A whole job over a bad wire, once; how many rows came back good."""
    async with AsyncClient(
        world.target(limits=SMALL), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
    ) as client:
        return (await client.run(request_lines(count), name=name)).report.ok


@pytest.mark.parametrize("kind", LOST)
def test_a_lost_answer_to_create_makes_one_batch(world: World, kind: str) -> None:
    wire = Wire(after=creating("/batches", LOST[kind]))
    assert asyncio.run(run(world, wire)) == 6
    assert len(world.batches()) == 2
    assert wire.sent.count("POST /batches") == 2


@pytest.mark.parametrize("kind", LOST)
def test_a_create_that_never_arrived_is_made_once_it_is_certain(world: World, kind: str) -> None:
    before = world.clock.now()
    wire = Wire(before=creating("/batches", LOST[kind]))
    assert asyncio.run(run(world, wire)) == 6
    assert len(world.batches()) == 2
    assert wire.sent.count("POST /batches") == 2
    assert world.clock.now() - before > 180 + 60


def test_a_connection_refused_is_surely_not_sent_and_repeated_at_once(world: World) -> None:
    wire = Wire(before=creating("/batches", lambda: httpx.ConnectError("refused"), times=2))
    before = world.clock.now()
    assert asyncio.run(run(world, wire, count=3)) == 3
    assert len(world.batches()) == 1
    assert world.clock.now() - before < 600


@pytest.mark.parametrize("kind", LOST)
def test_a_lost_answer_to_an_upload_is_looked_for(world: World, kind: str) -> None:
    wire = Wire(after=creating("/files", LOST[kind]))
    assert asyncio.run(run(world, wire)) == 6
    assert wire.sent.count("POST /files") == 2
    assert len(world.batches()) == 2


def test_a_service_that_forgets_metadata_still_gets_one_batch(world: World) -> None:
    class Forgetful(Wire):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if request.method == "GET" and request.url.path.endswith("/batches"):
                await response.aread()
                document = response.json()
                for batch in document["data"]:
                    batch["metadata"] = None
                return fresh(httpx.Response(200, json=document))
            return response

    wire = Forgetful(after=creating("/batches", LOST["reset"]))
    assert asyncio.run(run(world, wire)) == 6
    assert len(world.batches()) == 2


def test_a_process_killed_right_after_create_finds_its_batch(world: World) -> None:
    class Killed(BaseException):
        pass

    def kill(request: httpx.Request) -> Exception | httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith("/batches"):
            raise Killed
        return None

    async def die() -> None:
        client = AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=Wire(after=kill)
        )
        try:
            await client.run(request_lines(3), name="nightly")
        finally:
            await client.close()

    with pytest.raises(Killed):
        asyncio.run(die())
    with world.client() as client:
        assert client.show("nightly").state is State.SUBMITTING
        assert client.run(request_lines(3), name="nightly").report.ok == 3
    assert len(world.batches()) == 1


def test_an_old_ledger_put_back_finds_the_batch_instead_of_making_another(world: World) -> None:
    """The look before creating finds what no intent tells of."""

    async def uploaded_only() -> Job:
        refusal = lambda: httpx.Response(400, json={"error": {"code": "invalidPayload", "message": "no"}})  # noqa: E731
        wire = Wire(before=creating("/batches", refusal))
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            with pytest.raises(Refused):
                await client.submit(request_lines(2), name="nightly")
            return await client.show("nightly")

    job = asyncio.run(uploaded_only())
    assert job.state is State.UPLOADED
    with world.http() as http:
        body = {"input_file_id": job.parts[0].file_id, "endpoint": "/chat/completions", "completion_window": "24h"}
        made = http.post("/openai/v1/batches", json=body).json()["id"]
    with world.client() as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert [batch["id"] for batch in world.batches()] == [made]


@pytest.mark.parametrize(
    ("code", "message"),
    [("token_limit_exceeded", "full"), ("400", "… token_limit_exceeded for the deployment"), ("quotaExceeded", "500")],
)
def test_a_full_quota_is_waited_for(world: World, code: str, message: str) -> None:
    refusal = httpx.Response(400, json={"error": {"code": code, "message": message}})
    wire = Wire(before=creating("/batches", lambda: refusal, times=3))
    before = world.clock.now()
    assert asyncio.run(run(world, wire, count=3)) == 3
    assert wire.sent.count("POST /batches") == 1
    assert world.clock.now() - before >= 60 + 120 + 240


def test_throttling_is_waited_for_as_long_as_asked(world: World) -> None:
    answer = httpx.Response(429, headers={"Retry-After": "700"}, json={"error": {"code": "429", "message": "slow"}})
    wire = Wire(before=creating("/batches", lambda: answer))
    before = world.clock.now()
    assert asyncio.run(run(world, wire, count=3)) == 3
    assert world.clock.now() - before >= 700


def test_trouble_while_polling_never_ends_a_job(world: World) -> None:
    left = [40]

    def trouble(request: httpx.Request) -> Exception | httpx.Response | None:
        if request.method == "GET" and "/batches/" in request.url.path and left[0]:
            left[0] -= 1
            return httpx.Response(503, text="<html>")
        return None

    assert asyncio.run(run(world, Wire(before=trouble), count=3)) == 3
    assert left == [0]


def test_a_service_that_cannot_be_reached_at_first_is_said_so(world: World) -> None:
    wire = Wire(before=lambda _: httpx.ConnectError("refused"))
    with pytest.raises(Unavailable, match="cannot be reached"):
        asyncio.run(run(world, wire))


def test_a_listing_that_cannot_be_had_is_never_taken_for_an_empty_one(world: World) -> None:
    wire = Wire(after=creating("/batches", LOST["reset"]))

    def blind(request: httpx.Request) -> Exception | httpx.Response | None:
        if request.method == "GET" and request.url.path.endswith("/batches") and wire.sent.count("POST /batches"):
            return httpx.Response(500, text="")
        return None

    wire.before = blind
    with pytest.raises((Uncertain, Unavailable)):
        asyncio.run(run(world, wire, count=2))
    assert wire.sent.count("POST /batches") == 1
    with world.client() as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert len(world.batches()) == 1


def test_dying_between_the_answer_and_the_next_step_never_hides_a_batch(world: World) -> None:
    """Whatever is durable about a batch is durable at once: killed at every look at the clock after its creation."""

    class Killed(BaseException):
        pass

    class Fatal(ManualClock):
        left = -1

        def now(self) -> float:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return world.clock.now()

    killed = 0
    for steps in range(3):
        clock, name = Fatal(), f"nightly-{steps}"

        def arm(request: httpx.Request, clock: Fatal = clock, steps: int = steps) -> None:
            if request.method == "POST" and request.url.path.endswith("/batches"):
                clock.left = steps

        async def die(clock: Fatal = clock, name: str = name, arm: Harm = arm) -> None:
            async with AsyncClient(
                world.target(), ledger=world.home / "ledger.sqlite3", clock=clock, transport=Wire(after=arm)
            ) as client:
                await client.submit(request_lines(2), name=name)

        try:
            asyncio.run(die())
        except Killed:
            killed += 1
        with world.client() as client:
            assert client.run(request_lines(2), name=name).report.ok == 2
        assert len(world.batches()) == steps + 1
    assert killed


def test_a_living_batch_is_preferred_and_its_living_twin_cancelled(world: World) -> None:
    """Two batches exist for one part, as after an old ledger was put back: one is kept, the other stopped."""

    def lose(request: httpx.Request) -> Exception | httpx.Response | None:
        return creating_lost(request)

    creating_lost = creating("/batches", LOST["reset"])

    async def lost() -> Job:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=Wire(after=lose)
        ) as client:
            return await client.submit(request_lines(2), name="nightly", wait=False)

    job = asyncio.run(lost())
    (first,) = world.batches()
    with world.http() as http:
        world.clock.advance(5)
        body = {
            "input_file_id": first["input_file_id"],
            "endpoint": "/chat/completions",
            "completion_window": "24h",
            "metadata": first["metadata"],
        }
        twin = http.post("/openai/v1/batches", json=body).json()["id"]
    with world.client() as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
        events = client.show(job).events
    statuses = {batch["id"]: batch["status"] for batch in world.batches()}
    assert statuses[first["id"]] == "completed"
    assert statuses[twin] in ("cancelling", "cancelled")
    assert [event.kind for event in events].count("twin") == 1


def test_a_dead_batch_is_never_adopted_in_place_of_a_living_one() -> None:
    dead = Batch("b-1", "failed", input_file_id="file-1", created_at=1.0)
    alive = Batch("b-2", "validating", input_file_id="file-1", created_at=2.0)
    assert reconcile.ours(_part(), [dead, alive]) == [alive, dead]


def test_a_late_quota_refusal_is_waited_for_ever_longer(world: World) -> None:
    """The other form of the refusal: the batch is made, and fails minutes later."""
    error = {"code": "token_limit_exceeded", "message": "The number of enqueued tokens has surpassed the limit."}
    left, created = [3], list[float]()

    class Full(Wire):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if request.method == "POST" and request.url.path.endswith("/batches"):
                created.append(world.clock.now())
            if request.method == "GET" and "/batches/" in request.url.path and len(created) <= left[0]:
                document = json.loads(await response.aread()) | {"status": "failed", "errors": {"data": [error]}}
                return fresh(httpx.Response(200, json=document))
            return response

    assert asyncio.run(run(world, Full(), count=3)) == 3
    waits = [after - before for before, after in pairwise(created)]
    assert len(waits) == 3
    assert waits[0] < waits[1] < waits[2]
    assert waits[2] >= 240


def test_a_file_quota_is_waited_for_before_the_upload(world: World) -> None:
    refusal = httpx.Response(400, json={"error": {"code": "quotaExceeded", "message": "The maximum is 500."}})
    wire = Wire(before=creating("/files", lambda: refusal, times=2))
    before = world.clock.now()
    assert asyncio.run(run(world, wire, count=3)) == 3
    assert wire.sent.count("POST /files") == 1
    assert world.clock.now() - before >= 60 + 120


def test_uploads_whose_answers_are_lost_again_and_again_are_no_storm(world: World) -> None:
    wire = Wire(before=creating("/files", LOST["500"], times=8))
    before = world.clock.now()
    assert asyncio.run(run(world, wire, count=3)) == 3
    assert world.clock.now() - before > 3600


def test_the_settle_window_is_counted_from_the_last_attempt(world: World) -> None:
    tries = [lambda: httpx.ConnectError("refused")] * 4 + [LOST["reset"]]
    moments: list[float] = []

    def act(request: httpx.Request) -> Exception | httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith("/batches"):
            moments.append(world.clock.now())
            if tries:
                world.clock.advance(20)
                return tries.pop(0)()
        return None

    assert asyncio.run(run(world, Wire(before=act), count=3)) == 3
    assert moments[5] - moments[4] >= 60 + 180
    assert len(world.batches()) == 1


def test_a_batch_that_the_service_forgot_does_not_stop_the_others(world: World) -> None:
    """Its rows are accounted for; those of the other parts come back."""
    forgotten: list[str] = []

    class Amnesia(Wire):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            path = request.url.path
            if request.method == "POST" and path.endswith("/batches") and not forgotten:
                forgotten.append(json.loads(await response.aread())["id"])
                return fresh(response)
            if request.method == "GET" and path.endswith("/batches"):
                document = json.loads(await response.aread())
                document["data"] = [batch for batch in document["data"] if batch["id"] not in forgotten]
                return fresh(httpx.Response(200, json=document))
            if forgotten and forgotten[0] in path:
                return fresh(httpx.Response(404, json={"error": {"code": "notFound", "message": "no"}}))
            return response

    async def whole() -> Report:
        async with AsyncClient(
            world.target(limits=SMALL), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=Amnesia()
        ) as client:
            return (await client.run(request_lines(8), name="nightly")).report

    report = asyncio.run(whole())
    assert (report.ok, report.errors, report.balanced) == (4, {"batch_lost": 4}, True)


def test_one_refused_part_does_not_keep_the_others_from_running(world: World) -> None:
    refusal = httpx.Response(400, json={"error": {"code": "invalidPayload", "message": "no"}})
    wire = Wire(before=creating("/batches", lambda: refusal))
    with pytest.raises(Refused, match="invalidPayload"):
        asyncio.run(run(world, wire))
    assert len(world.batches()) == 1
    with world.client(limits=SMALL) as client:
        assert client.run(request_lines(6), name="nightly").report.ok == 6
    assert len(world.batches()) == 2


def test_lines_changed_since_they_were_staged_are_not_sent(world: World) -> None:
    refusal = httpx.Response(400, json={"error": {"code": "invalidPayload", "message": "no"}})
    with pytest.raises(Refused):
        asyncio.run(run(world, Wire(before=creating("/files", lambda: refusal)), count=2))
    (lines,) = world.home.glob("ledger.jobs/*/*.lines.jsonl")
    lines.write_bytes(lines.read_bytes().replace(b"hello", b"HELLO"))
    with world.client(limits=SMALL) as client, pytest.raises(LocalError, match="was changed"):
        client.run(request_lines(2), name="nightly")
    assert world.batches() == []


def test_a_wish_to_stop_that_comes_before_the_first_step_is_heard(world: World) -> None:
    async def stopped() -> None:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=Wire()
        ) as client:
            client.interrupt()
            await client.run(request_lines(2), name="nightly")

    with pytest.raises(Interrupted):
        asyncio.run(stopped())
    assert world.batches() == []


def test_a_late_name_of_a_result_file_is_waited_for_but_not_for_ever(world: World) -> None:
    class Late(Wire):
        until = 0.0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if request.method == "GET" and "/batches/" in request.url.path:
                document = json.loads(await response.aread())
                if document["status"] == "completed" and world.clock.now() < self.until:
                    document["output_file_id"] = ""
                return fresh(httpx.Response(200, json=document))
            return response

    wire = Late()
    wire.until = world.clock.now() + 1000
    assert asyncio.run(run(world, wire, count=2)) == 2
    wire = Late()
    wire.until = float("inf")
    before = world.clock.now()
    assert asyncio.run(run(world, wire, count=3, name="never")) == 0
    assert 1800 < world.clock.now() - before < 4000


def test_a_clock_that_steps_back_does_not_stop_the_looking(world: World) -> None:
    with world.client() as client:
        job = client.submit(request_lines(2), name="nightly")
        for _ in client.track(job, once=True):
            world.clock.advance(400)
    world.clock.step(-86_400)
    before = world.clock.now()
    with world.client() as client:
        for _ in client.track(job, once=True):
            break
        looked = client.show(job).parts[0].batches[0].looked_at
    assert looked == pytest.approx(before, abs=5)


def _part(**changes: object) -> Part:
    values = {
        "id": "01" * 8,
        "job_id": "j1",
        "round": 0,
        "number": 0,
        "state": State.SUBMITTING,
        "lines": 1,
        "bytes": 9,
    }
    return Part(**(values | {"sha256": "ab" * 32, "bytes": 9, "file_id": "file-1", "intent_at": 1000.0} | changes))  # type: ignore[arg-type]


def test_that_nothing_was_made_is_believed_only_after_the_window_and_two_looks() -> None:
    from batchkit import Settings

    settings = Settings()
    window = settings.read_timeout_s + settings.settle_window_s
    strangers = [Batch("b-other", "validating", input_file_id="file-2", metadata={"batchkit_part": "02" * 8})]
    assert reconcile.judge(_part(), 1000 + window - 1, settings).fate is Fate.WAIT
    assert reconcile.judge(_part(), 1000 + window, settings).fate is Fate.RELIST
    once = _part(clean_at=1000 + window)
    assert reconcile.judge(once, 1000 + window + 59, settings).fate is Fate.WAIT
    assert reconcile.judge(once, 1000 + window + 60, settings).fate is Fate.NOT_MADE
    late = [*strangers, Batch("b-ours", "validating", metadata={"batchkit_part": "01" * 8})]
    assert reconcile.ours(once, late) == [late[1]]


def test_batches_of_strangers_and_of_earlier_tries_are_not_ours() -> None:
    known = Batch("b-1", "failed", input_file_id="file-1")
    part = _part(batches=(known,))
    newer, older = (Batch(f"b-{n}", "validating", input_file_id="file-1", created_at=float(n)) for n in (3, 2))
    assert reconcile.ours(part, [known, newer, older]) == [older, newer]
    assert reconcile.ours(_part(file_id=None), [Batch("b", "validating", input_file_id=None)]) == []


class Answers(Wire):
    """A wire whose answers to some requests are replaced after they were made."""

    def __init__(
        self, change: Callable[[httpx.Request, bytes], httpx.Response | None], after: Harm = lambda _: None
    ) -> None:
        super().__init__(after=after)
        self._change = change

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        body = await response.aread()
        return fresh(self._change(request, body) or response)


NOT_FOUND = httpx.Response(404, json={"error": {"code": "notFound", "message": "no"}})


def test_one_404_writes_off_neither_a_batch_nor_a_result_file(world: World) -> None:
    left = {"/batches/": 3, "/content": 2}

    def blink(request: httpx.Request, _: bytes) -> httpx.Response | None:
        for what in left:
            if request.method == "GET" and what in request.url.path and left[what]:
                left[what] -= 1
                return NOT_FOUND
        return None

    assert asyncio.run(run(world, Answers(blink), count=3)) == 3
    assert left == {"/batches/": 0, "/content": 0}


def test_an_intent_is_never_forgotten_for_an_earlier_refusal_for_quota(world: World) -> None:
    """A batch failed late for quota, its file is gone, and the answer to the next creation is lost."""
    error = {"code": "token_limit_exceeded", "message": "The number of enqueued tokens has surpassed the limit."}
    refused: list[str] = []
    lost = creating("/batches", LOST["reset"])

    def change(request: httpx.Request, body: bytes) -> httpx.Response | None:
        path = request.url.path
        if request.method == "GET" and "/batches/" in path and (not refused or refused[0] in path):
            refused[:] = [path.rsplit("/", 1)[-1]]
            return httpx.Response(200, json=json.loads(body) | {"status": "failed", "errors": {"data": [error]}})
        if request.method == "GET" and "/files/" in path and len(world.batches()) == 1 and refused:
            return NOT_FOUND
        return None

    def harm(request: httpx.Request) -> Exception | httpx.Response | None:
        return lost(request) if refused else None

    wire = Answers(change, after=harm)
    assert asyncio.run(run(world, wire, count=3)) == 3
    assert wire.sent.count("POST /batches") == 2
    assert wire.sent.count("POST /files") == 2
    assert len(world.batches()) == 2


def test_a_full_quota_does_not_keep_lost_answers_from_being_found(world: World) -> None:
    """The first part waits for quota, the second's creation is uncertain: it is found, fetched and not made again."""
    posts = [0]

    def act(request: httpx.Request) -> Exception | httpx.Response | None:
        if request.method == "POST" and request.url.path.endswith("/batches"):
            posts[0] += 1
            if posts[0] == 1:
                return httpx.ReadError("reset")
        return None

    full = httpx.Response(400, json={"error": {"code": "token_limit_exceeded", "message": "full"}})
    refuse = creating("/batches", lambda: full, times=6)

    def before(request: httpx.Request) -> Exception | httpx.Response | None:
        return refuse(request) if posts[0] else None

    assert asyncio.run(run(world, Wire(before=before, after=act))) == 6
    assert len(world.batches()) == 2


def test_a_part_whose_results_cannot_be_had_does_not_keep_the_others_from_theirs(world: World) -> None:
    broken: list[str] = []

    def change(request: httpx.Request, _: bytes) -> httpx.Response | None:
        path = request.url.path
        if path.endswith("/content"):
            broken[:] = broken or [path]
            if path == broken[0]:
                return httpx.Response(403, content=b"{}")
        return None

    with pytest.raises(Refused):
        asyncio.run(run(world, Answers(change)))
    with world.client(limits=SMALL) as client:
        states = sorted(part.state for part in client.show("nightly").parts)
        assert states == [State.ENDED, State.FETCHED]
        assert client.run(request_lines(6), name="nightly").report.ok == 6
    assert len(world.batches()) == 2


def test_lost_results_fetched_again_never_harm_those_that_are_here(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.6)
    with world.client() as client:
        before = client.run(request_lines(30), name="nightly").report
        assert before.ok
        assert before.failed
    for path in world.home.glob("ledger.jobs/*/*.error.jsonl"):
        path.unlink()
    gone = Answers(lambda request, _: NOT_FOUND if "/files/" in request.url.path else None)

    async def fetch() -> None:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=gone
        ) as client:
            await client.fetch("nightly")

    for _ in range(3):
        with pytest.raises(LocalError, match="on another machine, or lost"):
            asyncio.run(fetch())
    with world.client() as client:
        assert client.fetch("nightly").report == before
        assert client.show("nightly").state is State.SETTLED


def test_a_retry_that_was_cancelled_hides_no_real_answer(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.6)
    with world.client() as client:
        before = client.run(request_lines(30), name="nightly").report
    refusal = httpx.Response(400, json={"error": {"code": "invalidPayload", "message": "no"}})

    async def retry() -> None:
        wire = Wire(before=creating("/batches", lambda: refusal))
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            await client.retry("nightly", only=["content_filter"])

    with pytest.raises(Refused):
        asyncio.run(retry())
    with world.client() as client:
        client.cancel("nightly")
        after = client.fetch("nightly").report
        assert after.errors == before.errors
    with world.http() as http:
        assert len(http.get("/openai/v1/files", params={"purpose": "batch"}).json()["data"]) == 0


def test_an_intent_from_a_wrong_clock_is_not_waited_for_for_years(world: World) -> None:
    wire = Wire(before=creating("/batches", LOST["reset"]))
    world.clock.step(365 * 86_400)

    async def start() -> None:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            await client.submit(request_lines(2), name="nightly", wait=False)

    asyncio.run(start())
    world.clock.step(-365 * 86_400)
    before = world.clock.now()
    with world.client() as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert world.clock.now() - before < 3600


def test_a_twin_that_cannot_be_cancelled_does_not_keep_the_batch_from_being_adopted(world: World) -> None:
    wire = Wire(after=creating("/batches", LOST["reset"]), before=creating("/cancel", LOST["409"], times=9))

    async def start(wait: bool) -> int:
        async with AsyncClient(
            world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock, transport=wire
        ) as client:
            if not wait:
                await client.submit(request_lines(2), name="nightly", wait=False)
                return 0
            return (await client.run(request_lines(2), name="nightly")).report.ok

    asyncio.run(start(False))
    (first,) = world.batches()
    with world.http() as http:
        body = {key: first[key] for key in ("input_file_id", "endpoint", "completion_window", "metadata")}
        http.post("/openai/v1/batches", json=body)
    assert asyncio.run(start(True)) == 2
