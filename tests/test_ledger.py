"""The ledger: what it keeps, whom it lets write, and what it refuses to touch."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import LocalError, Settings
from batchkit.engine.pump import holding
from batchkit.errors import (
    ConfigError,
    JobConflict,
    LeaseLost,
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    LedgerRefused,
    LedgerTooNew,
    LedgerTooOld,
    LedgerUnreachable,
    Unintelligible,
)
from batchkit.ledger import Ledger, Terms, deeds, open_ledger
from batchkit.ledger.lease import new_owner, takeable
from batchkit.ledger.postgres import PostgresStore
from batchkit.ledger.sql import Store, Tx
from batchkit.ledger.states import LEGAL, check_move
from batchkit.model import Batch, Counts, Job, Outcome, Part, Queue, ServiceError, State

from .conftest import World, request_lines
from .tools.doors import Doors, DoorStore, Harm
from .tools.postgres import database

T = TypeVar("T")
ELSEWHERE = "elsewhere/boot/1/?/00"


@asynccontextmanager
async def opened(url: str, terms: Terms = Terms(), owner: str | None = None) -> AsyncIterator[Ledger]:
    """A ledger of its own, as another process has it; `owner` as one on another host."""
    ledger, _ = open_ledger(url, terms=terms)
    if owner is not None:
        ledger = Ledger(ledger.store, owner=lambda: owner, terms=terms)
    try:
        yield ledger
    finally:
        await ledger.close()


def job(name: str = "nightly", sha256: str = "a" * 64) -> Job:
    parts = tuple(Part(f"{name}-{n}", name, 0, n, State.STAGED, 10, 100, "b" * 64, place=n) for n in range(2))
    return Job(name, name, sha256, "https://x", "t", "/v1/chat/completions", "d", 1000.0, parts)


def test_what_is_written_is_read_again(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            added = await ledger.add(job())
            hold = await ledger.hold(added)
            part = await hold.move(added.parts[1], State.UPLOADING, at=1001.0, intent="i", intent_at=1001.0)
            part = await hold.move(part, State.UPLOADED, at=1002.0, event="file-1", file_id="file-1")
            batch = Batch("b-1", "failed", "file-1", counts=Counts(10, 1, 2), errors=(ServiceError("c", "m", 3),))
            part = await hold.move(part, part.state, batch=batch, at=1003.0)
            part = await hold.move(part, part.state, batch=Batch("b-2", "validating", "file-1"), at=1760000000.123)
            await hold.release()
        async with opened(ledger_url) as again:
            found = await again.job("nightly")
            assert found.parts == (added.parts[0], part)
            assert (await again.alike("a" * 64), await again.alike("c" * 64)) == ([found], [])
            assert [known.id for known in found.parts[1].batches] == ["b-1", "b-2"]
            assert found.parts[1].batches[0].errors == (ServiceError("c", "m", 3),)
            assert found.parts[1].batches[0].counts == Counts(10, 1, 2)
            assert found.parts[1].batches[1].looked_at == 1760000000.123
            kinds = [event.kind for event in await again.events(found)]
            assert kinds == ["staged", "uploading", "uploaded", "batch", "batch"]

    asyncio.run(work())


@pytest.mark.promise("A7")
def test_a_name_has_one_content(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            first = await ledger.add(job())
            assert await ledger.add(job()) == first
            with pytest.raises(JobConflict):
                await ledger.add(job(sha256="c" * 64))

    asyncio.run(work())


@pytest.mark.promise("A7", "A8")
def test_of_many_who_add_the_same_job_at_once_one_does(ledger_url: str) -> None:
    async def one(number: int) -> str:
        async with opened(ledger_url) as ledger:
            await ledger.jobs()
            return (await ledger.add(replace(job(f"id-{number}"), name="nightly"))).id

    async def work() -> list[str]:
        async with opened(ledger_url) as ledger:
            await ledger.jobs()
        return await asyncio.gather(*map(one, range(6)))

    assert len(set(asyncio.run(work()))) == 1


@pytest.mark.promise("A8")
def test_only_the_holder_writes(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            added = await ledger.add(job())
            hold = await ledger.hold(added)
            with pytest.raises(LedgerBusy, match="another call in this process"):
                await ledger.hold(added)
            await hold.release()
            with pytest.raises(LedgerBusy):
                await hold.move(added.parts[0], State.UPLOADING, at=1.0)
            other = await ledger.hold(added)
            moved = await other.move(added.parts[0], State.UPLOADING, at=1.0)
            with pytest.raises(LedgerBusy, match="moved by somebody else"):
                await other.move(added.parts[0], State.DROPPED, at=1.0)
            with pytest.raises(ValueError, match="cannot go"):
                await other.move(moved, State.SETTLED, at=1.0)

    asyncio.run(work())


def test_a_lease_is_let_go_also_by_who_is_cancelled_meanwhile(ledger_url: str) -> None:
    async def work() -> int:
        gate = threading.Event()
        async with opened(ledger_url) as ledger:
            hold = await ledger.hold(await ledger.add(job()))
            busy = asyncio.ensure_future(ledger.store.run(lambda tx: gate.wait(30)))
            going = asyncio.ensure_future(hold.release())
            for _ in range(2):
                await asyncio.sleep(0)
                going.cancel()
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await going
            await busy
            row = await ledger.store.run(lambda tx: tx.row("SELECT count(*) AS leases FROM leases"))
            assert row is not None
            return int(row["leases"])

    assert asyncio.run(work()) == 0


def test_a_lease_whose_release_failed_is_let_go_when_its_process_asks_next(ledger_url: str) -> None:
    """To others it looks like that of a living process, for as long as it lives."""

    async def work() -> None:
        doors = Doors()
        async with opened(ledger_url) as plain, opened(ledger_url, owner=ELSEWHERE) as other:
            added = await plain.add(job())
            hold = await Ledger(DoorStore(doors, plain.store)).hold(added)
            doors.plan = lambda _, what: Harm.ERROR
            with pytest.raises(LedgerUnreachable):
                await hold.release()
            leases = []
            for _ in range(2):
                leases.append(await plain.store.run(lambda tx: len(tx.rows("SELECT * FROM leases"))))
                await plain.job(added)
            assert leases == [1, 0]
            held = await other.hold(added)
            await plain.job(added)
            await held.note("kept", "", at=1.0)

    asyncio.run(work())


class Late:
    """A store whose answers do not come while it is `late`, though all was done."""

    def __init__(self, inner: Store) -> None:
        self._inner, self.name, self.late, self.done = inner, inner.name, False, asyncio.Event()

    async def run(self, work: Callable[[Tx], T]) -> T:
        result = await self._inner.run(work)
        if self.late:
            self.done.set()
            await asyncio.Event().wait()
        return result

    async def close(self) -> None:
        await self._inner.close()


@pytest.mark.parametrize("verb", ["hold", "claim"])
def test_who_is_cancelled_while_taking_a_lease_leaves_none(ledger_url: str, verb: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as plain:
            store = Late(plain.store)
            ledger = Ledger(store)
            added = await ledger.add(job())
            store.late = True
            going = asyncio.ensure_future(ledger.hold(added) if verb == "hold" else ledger.claim([added]))
            await store.done.wait()
            store.late = False
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going
            assert await plain.store.run(lambda tx: len(tx.rows("SELECT * FROM leases"))) == 0

    asyncio.run(work())


def test_of_many_of_one_process_who_want_a_lease_at_once_one_gets_it(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            nightly, weekly = await ledger.add(job()), await ledger.add(job("weekly"))
            held = await asyncio.gather(*(ledger.hold(nightly) for _ in range(6)), return_exceptions=True)
            assert sorted(type(one).__name__ for one in held) == ["Hold", *["LedgerBusy"] * 5]
            claimed = await asyncio.gather(*(ledger.claim([nightly, weekly]) for _ in range(6)))
            assert [found[0].name for found in claimed if found] == ["weekly"]

    asyncio.run(work())


def test_settling_is_written_with_its_numbers(ledger_url: str) -> None:
    async def work() -> Job:
        async with opened(ledger_url) as ledger:
            hold = await ledger.hold(await ledger.add(job()))
            return await hold.settle(Outcome(20, 18, 1, 1), at=2000.0)

    settled = asyncio.run(work())
    assert settled.outcome == Outcome(20, 18, 1, 1)
    assert settled.settled_at == 2000.0


def test_a_wish_to_cancel_needs_no_lease_and_reaches_the_holder(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger, opened(ledger_url) as other:
            hold = await ledger.hold(await ledger.add(job()))
            await other.wish_cancelled(await other.job("nightly"), at=5.0)
            await other.wish_cancelled(await other.job("nightly"), at=6.0)
            assert (await hold.job()).cancelled_at == 5.0

    asyncio.run(work())


@pytest.mark.promise("A9")
def test_a_queue_is_never_filled_by_two_at_once(ledger_url: str) -> None:
    """Whoever announces a batch sees the room that the others took, in the same moment."""

    async def one(ledger: Ledger, name: str) -> bool:
        hold = await ledger.hold(await ledger.job(name))
        part = (await hold.job()).parts[0]
        part = await hold.move(part, State.UPLOADING, at=1.0, service="s", deployment="d")
        part = await hold.move(part, State.UPLOADED, at=1.0, file_id=f"file-{name}")
        announced = await deeds.announce(hold, part, intent=name, at=1.0, fits=lambda queue: queue.bytes + 100 <= 200)
        return announced is not None

    async def work() -> list[bool]:
        names = [f"job-{number}" for number in range(5)]
        async with AsyncExitStack() as stack:
            ledgers = [await stack.enter_async_context(opened(ledger_url)) for _ in names]
            for name in names:
                await ledgers[0].add(job(name))
            return list(await asyncio.gather(*map(one, ledgers, names)))

    assert sum(asyncio.run(work())) == 2


def test_a_full_queue_is_left_alone_ever_longer_by_every_job(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            first, second = [await ledger.hold(await ledger.add(job(name))) for name in ("one", "two")]
            part = replace((await first.job()).parts[0], service="s", deployment="d")
            part = await first.move(part, State.UPLOADING, at=1.0, service="s", deployment="d")
            for tries, wait_s in ((1, 60.0), (2, 120.0)):
                part = await deeds.refused(
                    first, part, State.UPLOADED, at=1000.0, why="full", wait_s=Settings().quota_wait, tokens=30_000
                )
                queue = await deeds.queue_of(second, "s", "d")
                assert queue == Queue(0, 30_000, tries, 1000.0 + wait_s, "full")
                assert part.next_try_at == queue.next_try_at
            assert await deeds.queue_of(second, "s", "other") == Queue()
            part = await first.move(part, State.RUNNING, at=1.0, batch=Batch("b", "validating"))
            assert (await deeds.queue_of(second, "s", "d")).tries == 2
            part = await first.move(part, State.RUNNING, at=1.0, batch=Batch("b", "in_progress"))
            assert await deeds.queue_of(second, "s", "d") == Queue(100, 30_000, 0, None, "full")
            other = replace((await second.job()).parts[0], service="s", deployment="d")
            await deeds.refused(second, other, State.STAGED, at=1000.0, why="slow down", wait_s=lambda _: 1800.0)
            await first.move(part, State.RUNNING, at=1.0, batch=Batch("b", "in_progress"))
            patient = Queue(100, 30_000, 1, 2800.0, "slow down")
            assert await deeds.queue_of(second, "s", "d") == patient, (
                "what was known of a batch is no news of the queue"
            )

    asyncio.run(work())


def test_the_room_for_files_is_no_more_full_once_a_file_was_taken(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            hold = await ledger.hold(await ledger.add(job()))
            part = replace((await hold.job()).parts[0], service="s", deployment="d")
            for _ in range(3):
                part = await hold.move(part, State.UPLOADING, at=1.0, service="s", deployment="d")
                part = await deeds.refused(
                    hold, part, State.STAGED, at=1.0, why="full", wait_s=Settings().quota_wait, files=True
                )
            assert (await deeds.queue_of(hold, "s", deeds.FILES)).tries == 3
            part = await hold.move(part, State.UPLOADING, at=1.0)
            await hold.move(part, State.UPLOADED, at=1.0, file_id="file-1")
            assert await deeds.queue_of(hold, "s", deeds.FILES) == Queue(why="full")

    asyncio.run(work())


def test_smaller_parts_take_the_place_of_one(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            hold = await ledger.hold(await ledger.add(job()))
            before = (await hold.job()).parts
            part = await hold.move(before[0], State.UPLOADING, at=1.0, service="s")
            part = await hold.move(part, State.UPLOADED, at=1.0, batch=Batch("dead", "failed"))
            pieces = [replace(part, id=f"piece-{n}", number=n, state=State.STAGED, batches=()) for n in (2, 3)]
            await deeds.cut(hold, part, pieces, at=2.0, why="too large")
            after = (await hold.job()).parts
            assert [known.number for known in after] == [2, 3, 1]
            assert [known.id for known in after[0].batches] == ["dead"]
            with pytest.raises(LedgerBusy):
                await deeds.cut(hold, part, pieces, at=2.0, why="again")

    asyncio.run(work())


def test_two_services_may_give_the_same_id_but_one_may_not(ledger_url: str) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            hold = await ledger.hold(await ledger.add(job()))
            first, second = (await hold.job()).parts
            first = await hold.move(first, first.state, at=1.0, service="east", batch=Batch("b", "validating"))
            await hold.move(second, second.state, at=1.0, service="west", batch=Batch("b", "validating"))
            with pytest.raises(Unintelligible, match="two batches"):
                await hold.move(second, second.state, at=1.0, service="east", batch=Batch("b", "validating"))

    asyncio.run(work())


@pytest.mark.promise("A8")
def test_a_lease_is_renewed_while_it_is_held_and_lost_when_it_is_not(ledger_url: str) -> None:
    """In real time, with a short lease: another host never gets in while the holder renews, and does once it stops."""
    terms = Terms(ttl_s=0.5, renew_s=0.1, retry_s=0.05, takeover_s=0.2)

    async def work() -> None:
        async with opened(ledger_url, terms) as ledger, opened(ledger_url, terms, ELSEWHERE) as other:
            found = await ledger.add(job())
            async with holding(ledger, found) as hold:
                for _ in range(12):
                    with pytest.raises(LedgerBusy):
                        await other.hold(found)
                    await asyncio.sleep(0.1)
                assert hold.left_s > 0.2
                assert not hold.lost.is_set()
            dead = await other.hold(found)  # whose process nobody here can see
            assert await other.store.run(lambda tx: len(tx.rows("SELECT * FROM leases"))) == 1
            with pytest.raises(LedgerBusy, match="process 1 on elsewhere"):
                await ledger.hold(found)
            await asyncio.sleep(0.75)
            assert dead.left_s < 0
            async with holding(ledger, found) as hold:
                with pytest.raises(LeaseLost):
                    await dead.renew()
                with pytest.raises(LeaseLost):
                    await dead.note("late", "", at=1.0)
                thief = await other.store.run(lambda tx: tx.write("UPDATE leases SET token = 'stolen'"))
                assert thief == 1
                await asyncio.wait_for(hold.lost.wait(), 2)

    asyncio.run(work())


class Apart:
    """A ledger whose database has another clock than this machine."""

    def __init__(self, inner: Store, ahead_s: float) -> None:
        self._inner, self._ahead_s, self.name = inner, ahead_s, inner.name

    async def run(self, work: Callable[[Tx], T]) -> T:
        def there(tx: Tx) -> T:
            now = tx.now
            tx.now = lambda: now() + self._ahead_s  # type: ignore[method-assign]
            return work(tx)

        return await self._inner.run(there)

    async def close(self) -> None:
        await self._inner.close()


@pytest.mark.promise("A8")
@pytest.mark.parametrize(("ahead_s", "said"), [(7230, "2 h 00 min behind"), (-90, "ahead of"), (30, None)])
def test_a_machine_whose_clock_is_not_the_ledgers_takes_no_job(
    ledger_url: str, ahead_s: float, said: str | None
) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            found = await ledger.add(job())
            apart = Ledger(Apart(ledger.store, ahead_s))
            if said is None:
                await (await apart.hold(found)).release()
                return
            for take in (lambda: apart.hold(found), lambda: apart.claim([found])):
                with pytest.raises(LedgerRefused, match=said):
                    await take()
            await (await ledger.hold(found)).release()

    asyncio.run(work())


@pytest.mark.promise("C7")
def test_a_lease_outlives_a_ledger_that_is_away_for_longer_than_it_lasts(ledger_url: str) -> None:
    terms = Terms(ttl_s=0.2, renew_s=0.05, retry_s=0.02, takeover_s=5.0)

    async def work() -> None:
        left_s: list[float] = []
        back = asyncio.Event()

        def plan(_: int, what: str) -> Harm | None:
            left_s.append(hold.left_s)
            if left_s[-1] < -2 * terms.ttl_s:
                back.set()
            return None if back.is_set() else Harm.ERROR

        async with opened(ledger_url, terms) as ledger:
            doors = Doors()
            found = await ledger.add(job())
            async with holding(Ledger(DoorStore(doors, ledger.store), terms=terms), found) as hold:
                doors.plan = plan
                await asyncio.wait_for(back.wait(), 10)
                assert not hold.lost.is_set()
                await hold.note("back", "", at=1.0)
        assert len(left_s) > 10

    asyncio.run(work())


@pytest.mark.promise("D4")
@pytest.mark.parametrize(("version", "refusal"), [(1, LedgerTooOld), (2, LedgerTooOld), (99, LedgerTooNew)])
def test_an_older_or_newer_format_is_refused(ledger_url: str, version: int, refusal: type[LedgerError]) -> None:
    async def work() -> None:
        async with opened(ledger_url) as ledger:
            await ledger.jobs()
            sqlite = "://" not in ledger_url
            other = f"PRAGMA user_version = {version}" if sqlite else f"UPDATE format SET version = {version}"
            if "://" in ledger_url:
                await ledger.store.run(lambda tx: tx.write(other))
        if "://" not in ledger_url:
            with sqlite3.connect(ledger_url) as connection:
                connection.execute(other)
            connection.close()
        async with opened(ledger_url) as ledger:
            with pytest.raises(refusal, match=f"format {version}"):
                await ledger.jobs()

    asyncio.run(work())


def test_a_database_that_is_not_there_is_said_so_without_its_password() -> None:
    async def work() -> None:
        async with opened("postgresql://me:hunter2@127.0.0.1:9/none?connect_timeout=2") as ledger:
            await ledger.jobs()

    with pytest.raises(LedgerUnreachable, match=r"127\.0\.0\.1:9/none cannot be reached") as caught:
        asyncio.run(work())
    assert caught.value.exit == 6
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def silent(url: str) -> psycopg.Connection[Any]:
    """A connection that keeps others of this database from any answer about jobs, until it is rolled back."""
    connection = psycopg.connect(url)
    connection.execute("LOCK TABLE batchkit.jobs")
    return connection


def test_a_database_that_falls_silent_is_not_waited_for_for_ever(postgres: str) -> None:
    url = database(postgres, "silent")

    async def work() -> None:
        ledger = Ledger(PostgresStore(url, answer_s=0.3))
        added = await ledger.add(job())
        with silent(url), pytest.raises(LedgerError, match=r"cannot be reached: the server does not answer"):
            await ledger.jobs()
        assert await ledger.job("nightly") == added
        await ledger.close()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_who_closes_does_not_wait_for_a_database_that_fell_silent(postgres: str) -> None:
    url = database(postgres, "silent-at-the-end")

    async def work() -> None:
        ledger, _ = open_ledger(url)
        await ledger.jobs()
        with silent(url):
            asking = asyncio.ensure_future(ledger.jobs())
            await asyncio.sleep(0)
            await ledger.close()
        with pytest.raises(LedgerError, match="does not answer"):
            await asking

    asyncio.run(asyncio.wait_for(work(), 20))


@pytest.mark.promise("F2")
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2%zz@127.0.0.1:9/none",
        "postgresql://me:hunter2%@127.0.0.1:9/none",
        "postgresql://me:x@hunter2@127.0.0.1:9/none",
        "postgresql://me:x/hunter2@127.0.0.1:9/none",
        "postgresql://me:hunter2#x@127.0.0.1:9/none",
        "postgresql://me:hunter2?x@127.0.0.1:9/none",
        "postgresql://me:hunter2/none",
        "postgresql://127.0.0.1:9/none?hunter2=x",
        "postgresql://[hunter2/none",
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(url: str) -> None:
    async def work() -> None:
        async with opened(url) as ledger:
            await ledger.jobs()

    with pytest.raises(ConfigError, match="none that PostgreSQL can read") as caught:
        asyncio.run(work())
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "url",
    [
        "postgres:///none",
        "postgresql://me:a%25%2Fb%40@[::1]:9/none?sslmode=require",
        "postgresql://one:1,two:2/none?host=/run/postgresql",
    ],
)
def test_addresses_that_postgresql_can_read_are_taken(url: str) -> None:
    open_ledger(url)


@pytest.mark.promise("A8")
@pytest.mark.parametrize("shared", [False, True], ids=["one host", "several hosts"])
def test_a_lease_is_never_taken_from_a_living_process_and_always_from_a_dead_one(shared: bool) -> None:
    mine = new_owner()
    assert not takeable(mine, expires_at=0.0, now=1e12, shared=shared)
    child = subprocess.run(
        [sys.executable, "-c", "from batchkit.ledger.lease import new_owner; print(new_owner())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert takeable(child.stdout.strip(), expires_at=1e12, now=0.0, shared=shared)
    host, boot, rest = mine.split("/", 2)
    assert takeable(f"{host}/another-boot/{rest}", expires_at=1e12, now=0.0, shared=shared) is not shared
    namesakes = [f"{host}/another-boot/{rest}", f"{host}/-/1/?/00"] if shared else []
    for other in (f"elsewhere/{boot}/{rest}", *namesakes):
        assert not takeable(other, expires_at=10.0, now=9.0, shared=shared)
        assert not takeable(other, expires_at=10.0, now=189.0, shared=shared)
        assert takeable(other, expires_at=10.0, now=191.0, shared=shared)


@pytest.mark.promise("A8")
def test_a_host_of_the_same_name_keeps_its_lease_where_hosts_share_a_ledger(ledger_url: str) -> None:
    """Where they do not, another boot of this host is one that has ended."""
    namesake = f"{new_owner().split('/')[0]}/another-boot/77/1234/00"

    async def work() -> None:
        async with opened(ledger_url) as ledger, opened(ledger_url, owner=namesake) as other:
            added = await ledger.add(job())
            await other.hold(added)
            if "://" in ledger_url:
                with pytest.raises(LedgerBusy, match="process 77"):
                    await ledger.hold(added)
                assert await ledger.claim([added]) is None
            else:
                await ledger.hold(added)

    asyncio.run(work())


def test_the_legal_moves_are_these() -> None:
    """Written down once more, by hand."""
    moves = """
        staged uploading dropped
        uploading uploaded staged
        uploaded submitting running staged dropped
        submitting running uploaded
        running ended uploaded staged
        ended fetched
        fetched settled
        settled fetched
        dropped
    """
    table = {before: set(after) for before, *after in (line.split() for line in moves.split("\n") if line.strip())}
    assert table == {str(before): {str(state) for state in after} for before, after in LEGAL.items()}


@given(st.sampled_from(State), st.sampled_from(State))
def test_states_change_only_as_the_table_says(before: State, after: State) -> None:
    if after is before or after in LEGAL[before]:
        check_move(before, after)
    else:
        with pytest.raises(ValueError, match=f"^a part cannot go from {before} to {after}$"):
            check_move(before, after)
    assert set(LEGAL) == set(State)


def test_the_ledger_is_private_and_holds_no_content(world: World) -> None:
    before = os.umask(0)
    try:
        with world.client() as client:
            client.run(request_lines(3), name="nightly")
    finally:
        os.umask(before)
    files = [*world.home.glob("ledger*"), *world.home.glob("ledger.jobs/**/*")]
    assert len(files) > 3
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}
    kept = b"".join(path.read_bytes() for path in world.home.glob("ledger.sqlite3*"))
    assert b"hello" not in kept
    assert b"test-key" not in kept


def open_and_read(path: Path) -> None:
    async def work() -> None:
        ledger, _ = open_ledger(path)
        try:
            await ledger.jobs()
        finally:
            await ledger.close()

    asyncio.run(work())


@pytest.mark.parametrize(("version", "refusal"), [(1, LedgerTooOld), (2, LedgerTooOld), (99, LedgerTooNew)])
def test_an_older_or_newer_ledger_is_refused_untouched(
    tmp_path: Path, version: int, refusal: type[LedgerError]
) -> None:
    path = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(refusal, match=f"format {version}") as caught:
        open_and_read(path)
    assert path.read_bytes() == before
    if version < 3:
        assert "made by a batchkit before 0.1.0" in str(caught.value)
        assert "finish its jobs, then move the file" in caught.value.hint


def test_a_new_ledger_has_format_3(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    open_and_read(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


def test_a_damaged_ledger_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"this is no ledger" * 100)
    with pytest.raises(LedgerRefused, match="is no ledger"):
        open_and_read(path)
    assert path.read_bytes() == b"this is no ledger" * 100
    path.unlink()
    open_and_read(path)
    path.write_bytes(damaged := path.read_bytes()[:5000].ljust(5000, b"x"))
    with pytest.raises(LedgerCorrupt) as caught:
        open_and_read(path)
    assert (caught.value.exit, path.read_bytes()) == (12, damaged)


def test_a_ledger_where_nobody_may_write(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(LocalError):
        open_and_read(blocked / "ledger.sqlite3")


def test_other_kinds_of_ledgers_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="mysql://"):
        open_ledger("mysql://localhost/batchkit")


def test_ledgers_in_one_directory_have_working_files_of_their_own(tmp_path: Path) -> None:
    names = ["nightly", "nightly.sqlite3", "nightly.db", "nightly.2025", "nightly.2026"]
    assert len({open_ledger(tmp_path / name)[1].root for name in names}) == len(names)


def test_opening_touches_nothing_on_disk(tmp_path: Path) -> None:
    _, workdir = open_ledger(tmp_path / "a" / "ledger.sqlite3")
    assert workdir.root == tmp_path / "a" / "ledger.jobs"
    assert not (tmp_path / "a").exists()
