"""The ledger: what it keeps, whom it lets write, and what it refuses to touch."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import LocalError
from batchkit.errors import ConfigError, JobConflict, LedgerBusy, LedgerCorrupt, LedgerTooNew
from batchkit.ledger import open_ledger
from batchkit.ledger.lease import new_owner, takeable
from batchkit.ledger.states import LEGAL, check_move
from batchkit.model import Batch, Counts, Job, Outcome, Part, ServiceError, State

from .conftest import World, request_lines


def job(name: str = "nightly", sha256: str = "a" * 64) -> Job:
    parts = tuple(Part(f"{name}-{n}", name, 0, n, State.STAGED, 10, 100, "b" * 64) for n in range(2))
    return Job(name, name, sha256, "https://x", "t", "/v1/chat/completions", "d", 1000.0, parts)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    async def work() -> None:
        ledger, _ = open_ledger(tmp_path / "ledger.sqlite3")
        added = await ledger.add(job())
        hold = await ledger.hold(added)
        part = await hold.move(added.parts[1], State.UPLOADING, at=1001.0, intent="i", intent_at=1001.0)
        part = await hold.move(part, State.UPLOADED, at=1002.0, event="file-1", file_id="file-1")
        batch = Batch("b-1", "failed", "file-1", counts=Counts(10, 1, 2), errors=(ServiceError("c", "m", 3),))
        part = await hold.move(part, part.state, batch=batch, at=1003.0)
        part = await hold.move(part, part.state, batch=Batch("b-2", "validating", "file-1"), at=1004.0)
        await hold.release()
        await ledger.close()

        again, _ = open_ledger(f"sqlite://{tmp_path / 'ledger.sqlite3'}")
        found = await again.job("nightly")
        assert found.parts == (added.parts[0], part)
        assert [known.id for known in found.parts[1].batches] == ["b-1", "b-2"]
        assert found.parts[1].batches[0].errors == (ServiceError("c", "m", 3),)
        assert found.parts[1].batches[0].counts == Counts(10, 1, 2)
        assert [event.kind for event in await again.events(found)] == [
            "staged",
            "uploading",
            "uploaded",
            "batch",
            "batch",
        ]
        await again.close()

    asyncio.run(work())


def test_a_name_has_one_content(tmp_path: Path) -> None:
    async def work() -> None:
        ledger, _ = open_ledger(tmp_path / "ledger.sqlite3")
        first = await ledger.add(job())
        assert await ledger.add(job()) == first
        with pytest.raises(JobConflict):
            await ledger.add(job(sha256="c" * 64))
        await ledger.close()

    asyncio.run(work())


def test_only_the_holder_writes(tmp_path: Path) -> None:
    async def work() -> None:
        ledger, _ = open_ledger(tmp_path / "ledger.sqlite3")
        added = await ledger.add(job())
        hold = await ledger.hold(added)
        with pytest.raises(LedgerBusy, match=f"process {os.getpid()}"):
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
        await ledger.close()

    asyncio.run(work())


def test_settling_is_written_with_its_numbers(tmp_path: Path) -> None:
    async def work() -> Job:
        ledger, _ = open_ledger(tmp_path / "ledger.sqlite3")
        hold = await ledger.hold(await ledger.add(job()))
        settled = await hold.settle(Outcome(20, 18, 1, 1), at=2000.0)
        await ledger.close()
        return settled

    settled = asyncio.run(work())
    assert settled.outcome == Outcome(20, 18, 1, 1)
    assert settled.settled_at == 2000.0


def test_a_lease_is_never_taken_from_a_living_process_and_always_from_a_dead_one() -> None:
    mine = new_owner()
    assert not takeable(mine, expires_at=0.0, now=1e12)
    child = subprocess.run(
        [sys.executable, "-c", "from batchkit.ledger.lease import new_owner; print(new_owner())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert takeable(child.stdout.strip(), expires_at=1e12, now=0.0)
    host, boot, rest = mine.split("/", 2)
    assert takeable(f"{host}/another-boot/{rest}", expires_at=1e12, now=0.0)
    assert not takeable(f"elsewhere/{boot}/{rest}", expires_at=10.0, now=9.0)
    assert takeable(f"elsewhere/{boot}/{rest}", expires_at=10.0, now=11.0)


@given(st.sampled_from(State), st.sampled_from(State))
def test_states_change_only_as_the_table_says(before: State, after: State) -> None:
    if after is before or after in LEGAL[before]:
        check_move(before, after)
    else:
        with pytest.raises(ValueError, match="cannot go"):
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


def test_a_newer_ledger_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew, match="99"):
        open_and_read(path)
    assert path.read_bytes() == before


def test_a_damaged_ledger_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"this is no ledger" * 100)
    with pytest.raises(LedgerCorrupt):
        open_and_read(path)
    assert path.read_bytes() == b"this is no ledger" * 100


def test_a_ledger_where_nobody_may_write(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(LocalError):
        open_and_read(blocked / "ledger.sqlite3")


def test_other_kinds_of_ledgers_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="postgresql://"):
        open_ledger("postgresql://localhost/batchkit")


def test_opening_touches_nothing_on_disk(tmp_path: Path) -> None:
    _, workdir = open_ledger(tmp_path / "a" / "ledger.sqlite3")
    assert workdir.root == tmp_path / "a" / "ledger.jobs"
    assert not (tmp_path / "a").exists()
