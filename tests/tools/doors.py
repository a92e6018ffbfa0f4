"""The doors through which every effect passes, wrapped so that any one of them can fail, kill, or keep its answer."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import httpx

from batchkit import AsyncClient, ManualClock, Results, Target
from batchkit.config import Dialect, Limits, Settings, make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.emulator.app import Emulated
from batchkit.emulator.disturb import ConnectionCut
from batchkit.emulator.faults import Faults
from batchkit.emulator.replies import Model
from batchkit.emulator.service import Service
from batchkit.emulator.settings import Deployment, Pace
from batchkit.emulator.settings import Limits as ServiceLimits
from batchkit.errors import LedgerUnreachable
from batchkit.ledger import Ledger, open_ledger
from batchkit.ledger.lease import new_owner
from batchkit.ledger.sql import Store, Tx

from ..conftest import KEY, VERSION, request_lines

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
GONE = "/".join((new_owner().split("/")[0], "an-earlier-boot", "1", "1", "00"))
"""An owner whose process is known to be dead, so that the next one may take its lease."""


class Killed(BaseException):
    """The process is dead: nothing it would do afterwards happens."""


class Harm(StrEnum):
    """What befalls one operation."""

    ERROR = "an error, and nothing was done"
    KILL = "killed before it"
    LOST = "done, but the answer is lost"
    KILL_AFTER = "done, then killed"


Plan = Callable[[int, str], Harm | None]
"""What befalls the operation of this number and name."""


@dataclass
class Doors:
    """Counts operations, and does them harm by plan. Once killed, every door stays shut."""

    plan: Plan = field(default=lambda _number, _what: None)
    passed: list[str] = field(default_factory=list)
    dead: bool = False

    def knock(self, what: str) -> Harm | None:
        """Called before an operation: raises Killed, or says what is to befall it."""
        if self.dead:
            raise Killed
        self.passed.append(what)
        harm = self.plan(len(self.passed) - 1, what)
        if harm is Harm.KILL:
            self.die()
        return harm

    def die(self) -> None:
        self.dead = True
        raise Killed

    def synced(self, descriptor: int) -> None:
        """Called before a file or a directory becomes durable."""


class Wire(httpx.AsyncBaseTransport):
    """HTTP, in process."""

    def __init__(self, doors: Doors, inner: httpx.AsyncBaseTransport) -> None:
        self._doors, self._inner = doors, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        harm = self._doors.knock(f"{request.method} {request.url.path}")
        if harm is Harm.ERROR:
            raise httpx.ReadError("reset before anything arrived")
        response = await self._inner.handle_async_request(request)
        if harm is Harm.KILL_AFTER:
            self._doors.die()
        if harm is Harm.LOST:
            raise httpx.ReadError("reset before the answer arrived")
        return response


class DoorStore:
    """A ledger's store."""

    def __init__(self, doors: Doors, inner: Store) -> None:
        self._doors, self._inner, self.name = doors, inner, inner.name

    async def run(self, work: Callable[[Tx], T]) -> T:
        harm = self._doors.knock("ledger")
        if harm is Harm.ERROR:
            raise LedgerUnreachable("the ledger is locked")
        result = await self._inner.run(work)
        if harm is Harm.KILL_AFTER:
            self._doors.die()
        if harm is Harm.LOST:
            raise LedgerUnreachable("the connection to the ledger broke")
        return result

    async def close(self) -> None:
        await self._inner.close()


class Threadless(asyncio.SelectorEventLoop):
    """A loop that does at once what others leave to threads: a life is the same each time, and costs half."""

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits gets it
            future.set_exception(error)
        return future


_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
_WRITING = os.O_WRONLY | os.O_RDWR
_watched: list[tuple[tuple[str, ...], Doors]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """The interpreter's own hook, which sees every file operation before it is done."""
    if not _watched or (event not in _EVENTS and event != "batchkit.fsync"):
        return
    roots, doors = _watched[-1]
    if event == "batchkit.fsync":
        doors.synced(arguments[0])
        return
    if not str(arguments[0]).startswith(roots) or "sqlite3" in str(arguments[0]):
        return
    if event == "open" and not arguments[2] & _WRITING:
        event = "read"
    harm = doors.knock(f"{event} {Path(str(arguments[0])).name}")
    if harm is Harm.ERROR:
        raise OSError(errno.EIO, "input/output error", str(arguments[0]))


sys.addaudithook(_audit)


OURS = ("ledger.jobs", "out.jsonl", ".out.jsonl")
"""How what we write in a bench's home begins, but for the ledger."""


@dataclass
class Place:
    """One emulated service, and what our settings say of it."""

    name: str = "test"
    faults: Faults = field(default_factory=Faults)
    deployments: tuple[str, ...] = ()
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    late_quota: bool = False
    key_fits: bool = True
    deployment: str | None = None
    configured: int | None = None
    """The quota that the targets file states."""


class Switch(httpx.AsyncBaseTransport):
    """Several services, by their ports."""

    def __init__(self, apps: Sequence[Emulated]) -> None:
        self._inner = [httpx.ASGITransport(app=app) for app in apps]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._inner[(request.url.port or 1) - 1].handle_async_request(request)
        except ConnectionCut:
            raise httpx.RemoteProtocolError("the connection was cut") from None


@dataclass
class Bench:
    """An emulated service in process, a ledger and a clock; each life is a process of its own."""

    home: Path
    clock: ManualClock = field(default_factory=ManualClock)
    settings: Settings = field(default_factory=Settings)
    rows: int = 10
    limits: Limits = field(default_factory=lambda: Limits(max_lines=2))
    ledger: str | None = None
    fail_rate: float = 0.0
    places: tuple[Place, ...] = field(default_factory=lambda: (Place(),))
    dialect: Dialect = "v1"
    poll_interval_s: float = 60.0
    pace: Pace = field(default_factory=Pace)
    wrap: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = field(default=lambda inner: inner)
    """The way to the service, with whatever is wrong on it."""
    watched: tuple[str, ...] = OURS
    """Where file operations are counted: what their paths begin with, under `home`."""

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)

    @property
    def target(self) -> Target:
        """The one target, or the pool of them."""
        credential = Credential(Secret(KEY), bearer=False)
        members = [
            make_target(
                place.name,
                f"http://127.0.0.1:{port}",
                credential,
                dialect=self.dialect,
                api_version=VERSION if self.dialect == "dated" else None,
                limits=replace(self.limits, enqueued_tokens=place.configured),
                poll_interval_s=self.poll_interval_s,
                deployment=place.deployment,
            )
            for port, place in enumerate(self.places, 1)
        ]
        return members[0] if len(members) == 1 else replace(members[0], name="pool", pool=tuple(members))

    def emulated(self, place: Place) -> Emulated:
        """A service, opened anew; what it keeps is on disk, but for the faults it has played."""
        known = [Deployment.parse(text) for text in place.deployments]
        service = Service(
            self.home / place.name,
            self.clock,
            Model(None, self.fail_rate),
            deployments={deployment.name: deployment for deployment in known},
            limits=place.limits,
            pace=self.pace,
            late_quota=place.late_quota,
        )
        return Emulated(service, KEY if place.key_fits else "another-key", self.clock, place.faults)

    def live(self, doors: Doors, verb: Callable[[AsyncClient], Any] | None = None) -> Any:
        """A process's life: run the job as far as the doors let it, and close."""
        with asyncio.Runner(loop_factory=Threadless) as runner:
            return runner.run(self._live(doors, verb or self.run))

    async def run(self, client: AsyncClient) -> Results:
        return await client.run(request_lines(self.rows), name="nightly", out=self.home / "out.jsonl")

    async def _live(self, doors: Doors, verb: Callable[[AsyncClient], Any]) -> Any:
        transport = Wire(doors, self.wrap(Switch([self.emulated(place) for place in self.places])))
        ledger, workdir = open_ledger(self.ledger or self.home / "ledger.sqlite3")
        ledger = Ledger(DoorStore(doors, ledger.store), owner=lambda: GONE)
        client = AsyncClient(
            self.target, ledger=(ledger, workdir), clock=self.clock, settings=self.settings, transport=transport
        )
        _watched.append((tuple(str(self.home / name) for name in self.watched), doors))
        try:
            return await verb(client)
        finally:
            _watched.pop()
            await client.close()

    def batches(self, place: int = 0) -> list[dict[str, Any]]:
        """All batches at a service, oldest first."""

        return self._ask(place, "/openai/v1/batches", {"limit": "100"})[::-1]

    def files(self, place: int = 0) -> list[dict[str, Any]]:
        """The input files at a service."""
        return self._ask(place, "/openai/v1/files", {"purpose": "batch"})

    def _ask(self, place: int, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
        """A list as a stranger sees it."""

        async def work() -> list[dict[str, Any]]:
            app = self.emulated(replace(self.places[place], faults=Faults(), key_fits=True))
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                found: list[dict[str, Any]] = []
                while True:
                    after = {"after": found[-1]["id"]} if found else {}
                    answer = await http.get(path, params={**params, **after}, headers={"api-key": KEY})
                    document = answer.json()
                    found += document["data"]
                    if not document.get("has_more"):
                        return found

        return asyncio.run(work())
