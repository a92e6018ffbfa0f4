"""No lost answer and no crash makes a second batch: checked by counting batches at the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from batchkit import AsyncClient, Job, Uncertain
from batchkit.errors import Refused, Unavailable
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


def _part(**changes: object) -> Part:
    values = {"id": "p1", "job_id": "j1", "round": 0, "number": 0, "state": State.SUBMITTING, "lines": 1, "bytes": 9}
    return Part(**(values | {"sha256": "ab" * 32, "file_id": "file-1", "intent_at": 1000.0} | changes))  # type: ignore[arg-type]


def test_that_nothing_was_made_is_believed_only_after_the_window_and_two_looks() -> None:
    from batchkit import Settings

    settings = Settings()
    window = settings.read_timeout_s + settings.settle_window_s
    strangers = [Batch("b-other", "validating", input_file_id="file-2", metadata={"batchkit_part": "p2"})]
    assert reconcile.judge(_part(), strangers, 1000 + window - 1, settings).fate is Fate.WAIT
    assert reconcile.judge(_part(), strangers, 1000 + window, settings).fate is Fate.RELIST
    once = _part(clean_at=1000 + window)
    assert reconcile.judge(once, strangers, 1000 + window + 59, settings).fate is Fate.WAIT
    assert reconcile.judge(once, strangers, 1000 + window + 60, settings).fate is Fate.NOT_MADE
    late = [*strangers, Batch("b-ours", "validating", metadata={"batchkit_part": "p1"})]
    found = reconcile.judge(once, late, 1000 + window + 60, settings)
    assert found.fate is Fate.ADOPT
    assert found.batch == late[1]


def test_batches_of_strangers_and_of_earlier_tries_are_not_ours() -> None:
    known = Batch("b-1", "failed", input_file_id="file-1")
    part = _part(batches=(known,))
    newer, older = (Batch(f"b-{n}", "validating", input_file_id="file-1", created_at=float(n)) for n in (3, 2))
    assert reconcile.ours(part, [known, newer, older]) == [older, newer]
    assert reconcile.ours(_part(file_id=None), [Batch("b", "validating", input_file_id=None)]) == []
