"""The ledger in domain words: what anybody may read, and what only the holder of a job's lease may write."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from shlex import quote
from typing import Any, TypeVar

import orjson

from batchkit.errors import ConfigError, JobConflict, LeaseLost, LedgerBusy, Unintelligible, UnknownJob
from batchkit.ledger import lease
from batchkit.ledger.sqlite import Row, SqliteStore, Tx
from batchkit.ledger.states import check_move
from batchkit.model import Batch, Counts, Event, Job, Outcome, Part, ServiceError, State
from batchkit.text import visible

T = TypeVar("T")


class Ledger:
    """The durable record of jobs, rounds, parts, batches and events; the only memory there is."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def close(self) -> None:
        await self._store.close()

    async def find(self, name: str) -> Job | None:
        """The job of this name."""
        return await self._store.run(lambda tx: _find(tx, name))

    async def job(self, job: Job | str) -> Job:
        """A job as it stands now, or the job of this name or id; UnknownJob when there is none."""

        def work(tx: Tx) -> Job | None:
            return _by_id(tx, job.id) if isinstance(job, Job) else _find(tx, job) or _by_id(tx, job)

        found = await self._store.run(work)
        if found is None:
            raise UnknownJob(f"there is no job {job.name if isinstance(job, Job) else job!r} in this ledger")
        return found

    async def jobs(self) -> list[Job]:
        """All jobs, newest first."""

        def work(tx: Tx) -> list[Job]:
            rows = tx.rows("SELECT * FROM jobs ORDER BY created_at DESC, id")
            return [_job(tx, row) for row in rows]

        return await self._store.run(work)

    async def events(self, job: Job) -> list[Event]:
        """The job's diary, oldest first."""
        sql = "SELECT at, kind, detail, part FROM events WHERE job_id = :job ORDER BY seq"
        return [Event(**row) for row in await self._store.run(lambda tx: tx.rows(sql, job=job.id))]

    async def add(self, job: Job) -> Job:
        """Write a new job with its first round. A job of this name is returned as it is when its content is the
        same, and is a JobConflict otherwise."""

        def work(tx: Tx) -> Job:
            found = _find(tx, job.name)
            if found is not None:
                check_same(found, job)
                return found
            tx.write(
                "INSERT INTO jobs (id, name, sha256, service, target, url, deployment, created_at)"
                " VALUES (:id, :name, :sha256, :service, :target, :url, :deployment, :created_at)",
                **{key: getattr(job, key) for key in _JOB_COLUMNS},
            )
            _add_round(tx, job.id, job.parts, job.created_at)
            return job

        return await self._store.run(work)

    async def hold(self, job: Job) -> Hold:
        """Take the job's lease. Raises LedgerBusy while another living process has it."""
        owner, token = lease.new_owner(), secrets.token_hex(8)

        def work(tx: Tx) -> None:
            now = time.time()
            row = tx.row("SELECT owner, expires_at FROM leases WHERE job_id = :job", job=job.id)
            if row and not lease.takeable(row["owner"], row["expires_at"], now):
                raise LedgerBusy(
                    f"job {job.name!r} is being worked on by {lease.describe(row['owner'])}",
                    hint=f"batchkit show {quote(job.name)}",
                )
            tx.write(
                "INSERT OR REPLACE INTO leases VALUES (:job, :owner, :token, :expires)",
                job=job.id,
                owner=owner,
                token=token,
                expires=now + lease.TTL_S,
            )

        await self._store.run(work)
        return Hold(self._store, job.id, token)


class Hold:
    """The right to write about one job. Every write checks the lease; LedgerBusy once it is lost."""

    def __init__(self, store: SqliteStore, job_id: str, token: str) -> None:
        self._store, self._job_id, self._token = store, job_id, token
        self.lost = asyncio.Event()

    async def job(self) -> Job:
        """The job as it stands now."""
        return await self._write(lambda tx: _must(_by_id(tx, self._job_id)))

    async def move(
        self, part: Part, to: State, *, at: float, event: str = "", batch: Batch | None = None, **changes: Any
    ) -> Part:
        """Move a part to another state, with its batch as just seen, the fields that change and a line in the diary.

        All of it is durable when this returns, or none of it ever happened.
        """
        check_move(part.state, to)

        def work(tx: Tx) -> Part:
            seen = part if batch is None else _record(tx, part, batch, at)
            columns = ", ".join(f"{name} = :{name}" for name in ("state", *changes))
            written = tx.write(
                f"UPDATE parts SET {columns} WHERE id = :id AND state = :before",
                id=part.id,
                before=part.state,
                state=to,
                **changes,
            )
            if written != 1:
                raise LedgerBusy(f"part {part.number} was moved by somebody else", hint="run the same command again")
            if event or to is not part.state:
                _add_event(tx, self._job_id, at, to, event, part.number)
            return replace(seen, state=to, **changes)

        return await self._write(work)

    async def note(self, kind: str, detail: str, *, at: float, part: int | None = None) -> None:
        """A line in the diary."""
        await self._write(lambda tx: _add_event(tx, self._job_id, at, kind, detail, part))

    async def add_round(self, parts: Iterable[Part], *, at: float) -> None:
        """Write a further round: rows that failed, to be asked again."""

        def work(tx: Tx) -> None:
            _add_round(tx, self._job_id, parts, at)
            tx.write(
                "UPDATE jobs SET settled_at = NULL, cancelled_at = NULL, total = NULL WHERE id = :job", job=self._job_id
            )

        await self._write(work)

    async def rehome(self, service: str, target: str) -> Job:
        """Give a job of which nothing was sent another service."""

        def work(tx: Tx) -> Job:
            sql = "UPDATE jobs SET service = :service, target = :target WHERE id = :job"
            tx.write(sql, job=self._job_id, service=service, target=target)
            return _must(_by_id(tx, self._job_id))

        return await self._write(work)

    async def cancelled(self, *, at: float) -> None:
        """Write down that the user wants this job stopped."""
        sql = "UPDATE jobs SET cancelled_at = coalesce(cancelled_at, :at) WHERE id = :job"
        await self._write(lambda tx: tx.write(sql, job=self._job_id, at=at))

    async def settle(self, outcome: Outcome, *, at: float) -> Job:
        """End the job: every row is accounted for."""

        def work(tx: Tx) -> Job:
            tx.write(
                "UPDATE jobs SET settled_at = :at, total = :total, ok = :ok, failed = :failed, missing = :missing"
                " WHERE id = :job",
                job=self._job_id,
                at=at,
                total=outcome.total,
                ok=outcome.ok,
                failed=outcome.failed,
                missing=outcome.missing,
            )
            tx.write(
                "UPDATE parts SET state = :settled WHERE job_id = :job AND state = :fetched",
                job=self._job_id,
                settled=State.SETTLED,
                fetched=State.FETCHED,
            )
            words = f"{outcome.total} rows: {outcome.ok} ok, {outcome.failed} failed, {outcome.missing} missing"
            _add_event(tx, self._job_id, at, State.SETTLED, words, None)
            return _must(_by_id(tx, self._job_id))

        return await self._write(work)

    async def renew(self) -> None:
        sql = "UPDATE leases SET expires_at = :expires WHERE job_id = :job"
        await self._write(lambda tx: tx.write(sql, job=self._job_id, expires=time.time() + lease.TTL_S))

    async def release(self) -> None:
        sql = "DELETE FROM leases WHERE job_id = :job AND token = :token"
        await self._store.run(lambda tx: tx.write(sql, job=self._job_id, token=self._token))

    async def _write(self, work: Callable[[Tx], T]) -> T:
        def guarded(tx: Tx) -> T:
            row = tx.row("SELECT token FROM leases WHERE job_id = :job", job=self._job_id)
            if row is None or row["token"] != self._token:
                raise LeaseLost
            return work(tx)

        return await self._store.run(guarded)


def check_same(found: Job, asked: Job) -> None:
    """Refuse what would mix two jobs under one name: other content, or another service."""
    if found.sha256 != asked.sha256:
        raise JobConflict(f"job {asked.name!r} exists with other content")
    if found.service != asked.service:
        raise ConfigError(
            f"job {asked.name!r} belongs to {found.service}, not to {asked.service}",
            hint="use the same target, or another --name",
        )


_JOB_COLUMNS = ("id", "name", "sha256", "service", "target", "url", "deployment", "created_at")
_PART_COLUMNS = (
    "id job_id round number state lines bytes sha256 file_id intent intent_at clean_at held next_try_at tries".split()
)


def _find(tx: Tx, name: str) -> Job | None:
    row = tx.row("SELECT * FROM jobs WHERE name = :name", name=name)
    return _job(tx, row) if row else None


def _by_id(tx: Tx, job_id: str) -> Job | None:
    row = tx.row("SELECT * FROM jobs WHERE id = :id", id=job_id)
    return _job(tx, row) if row else None


def _must(job: Job | None) -> Job:
    if job is None:
        raise UnknownJob("the job is gone from this ledger")
    return job


def _job(tx: Tx, row: Row) -> Job:
    batches: dict[str, list[Batch]] = {}
    for item in tx.rows(
        "SELECT batches.* FROM batches JOIN parts ON parts.id = part_id WHERE job_id = :job ORDER BY seq", job=row["id"]
    ):
        batches.setdefault(item["part_id"], []).append(_batch(item))
    parts = tx.rows("SELECT * FROM parts WHERE job_id = :job ORDER BY round, number", job=row["id"])
    settled = row["total"] is not None
    return Job(
        **{key: row[key] for key in (*_JOB_COLUMNS, "settled_at", "cancelled_at")},
        parts=tuple(_part(item, batches.get(item["id"], [])) for item in parts),
        outcome=Outcome(row["total"], row["ok"], row["failed"], row["missing"]) if settled else None,
    )


def _part(row: Row, batches: list[Batch]) -> Part:
    values = {key: row[key] for key in _PART_COLUMNS} | {"state": State(row["state"])}
    return Part(**values, batches=tuple(batches))


def _batch(row: Row) -> Batch:
    keys = ("id", "status", "input_file_id", "output_file_id", "error_file_id", "created_at", "looked_at", "ended_at")
    return Batch(
        **{key: row[key] for key in keys},
        counts=None if row["total"] is None else Counts(row["total"], row["completed"], row["failed"]),
        errors=tuple(ServiceError(*error) for error in orjson.loads(row["errors"])),
    )


def _record(tx: Tx, part: Part, batch: Batch, at: float) -> Part:
    """Write down a batch of this part as just seen; a new one becomes the part's current batch."""
    owner = tx.row("SELECT part_id FROM batches WHERE id = :id", id=batch.id)
    if owner is not None and owner["part_id"] != part.id:
        raise Unintelligible(f"the service gave the id {batch.id} to two batches")
    before = next((known for known in part.batches if known.id == batch.id), None)
    ended_at = (before.ended_at if before else None) or (at if batch.ended else None)
    seen = replace(batch, looked_at=at, ended_at=ended_at)
    counts = seen.counts or Counts()
    tx.write(
        "INSERT INTO batches VALUES (:id, :part, (SELECT count(*) FROM batches WHERE part_id = :part), :status,"
        " :input, :output, :error, :total, :completed, :failed, :errors, :created_at, :looked_at, :ended_at)"
        " ON CONFLICT (id) DO UPDATE SET status = :status, output_file_id = :output, error_file_id = :error,"
        " total = :total, completed = :completed, failed = :failed, errors = :errors, looked_at = :looked_at,"
        " ended_at = :ended_at",
        id=seen.id,
        part=part.id,
        status=seen.status,
        input=seen.input_file_id,
        output=seen.output_file_id,
        error=seen.error_file_id,
        total=counts.total if seen.counts else None,
        completed=counts.completed if seen.counts else None,
        failed=counts.failed if seen.counts else None,
        errors=orjson.dumps([[e.code, e.message, e.line] for e in seen.errors]).decode(),
        created_at=seen.created_at,
        looked_at=at,
        ended_at=ended_at,
    )
    if before is None or before.status != seen.status:
        _add_event(tx, part.job_id, at, "batch", f"{seen.id} is {seen.status or 'without status'}", part.number)
    others = tuple(known for known in part.batches if known.id != seen.id)
    return replace(part, batches=(*others, seen))


def _add_round(tx: Tx, job_id: str, parts: Iterable[Part], at: float) -> None:
    parts = list(parts)
    number = parts[0].round
    tx.write(
        "INSERT INTO rounds VALUES (:job, :number, :lines, :at)",
        job=job_id,
        number=number,
        lines=sum(part.lines for part in parts),
        at=at,
    )
    columns, values = ", ".join(_PART_COLUMNS), ", ".join(f":{name}" for name in _PART_COLUMNS)
    for part in parts:
        tx.write(
            f"INSERT INTO parts ({columns}) VALUES ({values})", **{name: getattr(part, name) for name in _PART_COLUMNS}
        )
    rows, noun = sum(part.lines for part in parts), "part" if len(parts) == 1 else "parts"
    _add_event(tx, job_id, at, State.STAGED, f"round {number}: {rows} rows in {len(parts)} {noun}", None)


def _add_event(tx: Tx, job_id: str, at: float, kind: str, detail: str, part: int | None) -> None:
    tx.write(
        "INSERT INTO events (job_id, part, at, kind, detail) VALUES (:job, :part, :at, :kind, :detail)",
        job=job_id,
        part=part,
        at=at,
        kind=kind,
        detail=visible(detail),
    )
