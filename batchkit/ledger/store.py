"""The ledger in domain words: what anybody may read, and how the right to write is taken."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable, Sequence
from shlex import quote
from typing import TypeVar

from batchkit.errors import ConfigError, JobConflict, LedgerBusy, UnknownJob
from batchkit.ledger import lease, rows
from batchkit.ledger.hold import ACTIVE, LEFT, LET_GO, Hold, release
from batchkit.ledger.lease import Terms
from batchkit.ledger.sql import Store, Tx
from batchkit.model import Event, Job
from batchkit.text import plural

T = TypeVar("T")
WROTE = "wrote"
"""The kind of event that keeps the hash of a file of results, and a word on how it was written."""


class Ledger:
    """The durable record of jobs, rounds, parts, batches and events; the only memory there is.

    `owner` names this process in the leases it takes, `terms` are their numbers.
    """

    def __init__(self, store: Store, *, owner: Callable[[], str] = lease.new_owner, terms: Terms = Terms()) -> None:
        self.store, self.terms, self._owner = store, terms, owner

    async def close(self) -> None:
        await self.store.close()

    async def find(self, name: str) -> Job | None:
        """The job of this name."""
        return await self._run(lambda tx: rows.find(tx, name))

    async def job(self, job: Job | str) -> Job:
        """A job as it stands now, or the job of this name or id; UnknownJob when there is none."""

        def work(tx: Tx) -> Job | None:
            return rows.by_id(tx, job.id) if isinstance(job, Job) else rows.find(tx, job) or rows.by_id(tx, job)

        found = await self._run(work)
        if found is None:
            raise UnknownJob(f"there is no job {job.name if isinstance(job, Job) else job!r} in this ledger")
        return found

    async def jobs(self, *, unfinished: bool = False) -> list[Job]:
        """All jobs, newest first; or only those that are not settled."""
        where = " WHERE settled_at IS NULL" if unfinished else ""

        def work(tx: Tx) -> list[Job]:
            return [rows.job_of(tx, row) for row in tx.rows(f"SELECT * FROM jobs{where} ORDER BY created_at DESC, id")]

        return await self._run(work)

    async def alike(self, sha256: str) -> list[Job]:
        """The jobs of this content, newest first."""

        def work(tx: Tx) -> list[Job]:
            sql = "SELECT * FROM jobs WHERE sha256 = :sha256 ORDER BY created_at DESC, id"
            return [rows.job_of(tx, row) for row in tx.rows(sql, sha256=sha256)]

        return await self._run(work)

    async def events(self, job: Job, *, latest: int = sys.maxsize) -> list[Event]:
        """The job's diary, oldest first, or so many of its latest lines."""
        sql = "SELECT at, kind, detail, part FROM events WHERE job_id = :job ORDER BY seq DESC LIMIT :latest"
        found = await self._run(lambda tx: tx.rows(sql, job=job.id, latest=latest))
        return [Event(row["at"], sys.intern(row["kind"]), row["detail"], row["part"]) for row in reversed(found)]

    async def add(self, job: Job) -> Job:
        """Write a new job with its first round. A job of this name is returned as it is when its content is the
        same, and is a JobConflict otherwise."""

        def work(tx: Tx) -> Job:
            found = rows.find(tx, job.name)
            if found is not None:
                check_same(found, job)
                return found
            columns = ", ".join(rows.JOB_COLUMNS)
            values = ", ".join(f":{name}" for name in rows.JOB_COLUMNS)
            tx.write(
                f"INSERT INTO jobs ({columns}) VALUES ({values})",
                **{key: getattr(job, key) for key in rows.JOB_COLUMNS},
            )
            rows.add_round(tx, job.id, job.parts, job.created_at)
            return job

        return await self._run(work)

    async def hold(self, job: Job) -> Hold:
        """Take the job's lease. Raises LedgerBusy while another living process has it."""
        owner, token = self._owner(), secrets.token_hex(8)

        def work(tx: Tx) -> None:
            if (other := self._take(tx, job, owner, token)) is not None:
                ours = lease.same_process(other, owner)
                holder = "another call in this process" if ours else lease.describe(other)
                raise LedgerBusy(
                    f"job {job.name!r} is being worked on by {holder}",
                    hint=f"batchkit show {quote(job.name)}",
                )

        await self._taking(token, work)
        return Hold(self.store, job.id, token, self.terms)

    async def wrote(self, job: Job, what: str, *, at: float) -> None:
        """Keep the hash of a file of results, so that it may be written over later. A line in the diary that needs no
        lease: it moves nothing."""
        await self._run(lambda tx: rows.add_event(tx, job.id, at, WROTE, what, None))

    async def wish_cancelled(self, job: Job, *, at: float) -> Job:
        """Write down that the user wants this job stopped; the job as it then stands. One that is settled only where
        somebody works on it, who may ask its rows again. It needs no lease: whoever holds it hears the wish before it
        sends anything, and before a further round."""
        owner = self._owner()

        def work(tx: Tx) -> Job:
            found = rows.must(rows.by_id(tx, job.id))
            moves = found.cancelled_at is None if found.settled_at is None else self._keeper(tx, job, owner) is not None
            if moves:
                tx.write("UPDATE jobs SET cancelled_at = :at WHERE id = :job", job=job.id, at=at)
                rows.add_event(tx, job.id, at, "cancel", "the user wants this job stopped", None)
            return rows.must(rows.by_id(tx, job.id))

        return await self._run(work)

    async def claim(self, jobs: Sequence[Job]) -> tuple[Job, Hold] | None:
        """The lease of the first of these jobs that nobody holds; workers that ask at once get different ones."""
        owner, token = self._owner(), secrets.token_hex(8)

        def work(tx: Tx) -> Job | None:
            for job in jobs:
                free = tx.row(f"SELECT id FROM jobs WHERE id = :id{tx.skip_locked}", id=job.id)
                if free and self._take(tx, job, owner, token) is None:
                    return job
            return None

        taken = await self._taking(token, work)
        if taken is None:
            ACTIVE.discard(token)
            return None
        return taken, Hold(self.store, taken.id, token, self.terms)

    async def unknown(self, ids: Sequence[str]) -> list[str]:
        """Those of these job ids that this ledger has never had."""
        known = await self._run(rows.job_ids) if ids else set()
        return [job_id for job_id in ids if job_id not in known]

    async def known_source(self, fingerprint: str) -> tuple[Job, str | None] | None:
        """The job that was made of exactly this input, and the stamp of the file of its latest round's results."""

        def work(tx: Tx) -> tuple[Job, str | None] | None:
            sql = "SELECT job_id, written FROM sources WHERE fingerprint = :fingerprint"
            row = tx.row(sql, fingerprint=fingerprint)
            if row is None:
                return None
            job = rows.must(rows.by_id(tx, row["job_id"]))
            wrote, _, stamp = (row["written"] or "").partition(" ")
            return job, stamp if wrote == str(job.round) else None

        return await self._run(work)

    async def remember_source(self, fingerprint: str, job: Job, written: str | None = None) -> None:
        """From now on this input is known to be this job, and the results of its rounds so far to be written."""
        sql = (
            "INSERT INTO sources (fingerprint, job_id, written) VALUES (:fingerprint, :job, :written)"
            " ON CONFLICT (fingerprint) DO UPDATE SET job_id = excluded.job_id, written = excluded.written"
        )
        wrote = None if written is None else f"{job.round} {written}"
        await self._run(lambda tx: tx.write(sql, fingerprint=fingerprint, job=job.id, written=wrote))

    async def _run(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in one transaction, in which the leases are let go whose release failed."""
        left = {(name, token) for name, token in LEFT if name == self.store.name}

        def tidied(tx: Tx) -> T:
            for _, token in left:
                tx.write(LET_GO, token=token)
            return work(tx)

        result = await self.store.run(tidied)
        LEFT.difference_update(left)
        return result

    async def _taking(self, token: str, work: Callable[[Tx], T]) -> T:
        """Run what takes a lease under this token; who is cancelled meanwhile leaves none behind."""
        ACTIVE.add(token)  # before anybody of this process can see it in the ledger
        try:
            return await self._run(work)
        except asyncio.CancelledError:
            await release(self.store, token)  # it may have been taken all the same
            raise
        except BaseException:
            ACTIVE.discard(token)
            raise

    def _take(self, tx: Tx, job: Job, owner: str, token: str) -> str | None:
        """Take a lease, or name the owner who keeps it."""
        lease.check_clock(tx.now())
        if (keeper := self._keeper(tx, job, owner)) is not None:
            return keeper
        tx.write(
            "INSERT INTO leases (job_id, owner, token, expires_at) VALUES (:job, :owner, :token, :expires)"
            " ON CONFLICT (job_id) DO UPDATE SET owner = excluded.owner, token = excluded.token,"
            " expires_at = excluded.expires_at",
            job=job.id,
            owner=owner,
            token=token,
            expires=tx.now() + self.terms.ttl_s,
        )
        return None

    def _keeper(self, tx: Tx, job: Job, owner: str) -> str | None:
        """Who has a job's lease, and keeps it from this owner."""
        row = tx.row("SELECT owner, token, expires_at FROM leases WHERE job_id = :job", job=job.id)
        left = row is not None and lease.same_process(row["owner"], owner) and row["token"] not in ACTIVE
        if (
            row is None
            or left
            or lease.takeable(row["owner"], row["expires_at"], tx.now(), self.terms, shared=tx.shared)
        ):
            return None
        return str(row["owner"])


def check_same(found: Job, asked: Job) -> None:
    """Refuse what would mix two jobs under one name: other content, or another service."""
    if found.sha256 != asked.sha256:
        raise conflict(found, asked)
    if found.service != asked.service:
        raise ConfigError(
            f"job {asked.name!r} belongs to {found.service}, not to {asked.service}",
            hint="use the same target, or another --name",
        )


def conflict(found: Job, asked: Job, of_rows: str | None = None) -> JobConflict:
    """What differs between two jobs of one name, by what the ledger knows of them and, `of_rows`, their lines say."""
    differs = [
        f"{was} there, {now} here"
        for was, now in (
            (plural(found.lines, "row"), plural(asked.lines, "row")),
            (f"deployment {found.deployment!r}", f"deployment {asked.deployment!r}"),
            (found.url, asked.url),
        )
        if was != now
    ]
    words = "; ".join([*differs, *filter(None, [of_rows])])
    hint = f"{JobConflict.hint}; batchkit show {quote(found.name)} tells of the one that is there"
    return JobConflict(f"job {asked.name!r} exists with other content{words and ': ' + words}", hint=hint)
