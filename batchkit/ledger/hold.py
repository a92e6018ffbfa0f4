"""What only the holder of a job's lease may write. Every write checks the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from batchkit.errors import BatchkitError, CancelWished, LeaseLost, LedgerBusy
from batchkit.ledger import rows
from batchkit.ledger.lease import Terms, elapsed
from batchkit.ledger.sql import Store, Tx
from batchkit.ledger.states import check_move
from batchkit.model import Batch, Job, Outcome, Part, State
from batchkit.text import plural

T = TypeVar("T")
ACTIVE: set[str] = set()
"""The tokens of this process's leases. One of ours in the ledger that is not among them is left from a release that
failed, and free to take."""
LEFT: set[tuple[str, str]] = set()
"""The tokens left like that, each behind its store's name. Others take such a lease for that of a living process: who
asks the ledger next in this one lets it go."""
LET_GO = "DELETE FROM leases WHERE token = :token"

_INTENTS = frozenset({State.UPLOADING, State.SUBMITTING})


class Hold:
    """The right to write about one job. Raises LeaseLost, a LedgerBusy, once the lease is another's."""

    def __init__(self, store: Store, job_id: str, token: str, terms: Terms) -> None:
        self._store, self.job_id, self._token, self.terms = store, job_id, token, terms
        self._renewed = elapsed()
        self._service: str | None = None
        self.lost = asyncio.Event()

    @property
    def left_s(self) -> float:
        """Seconds for which the lease surely is ours yet, counted on this machine since it was last renewed."""
        return 0.0 if self.lost.is_set() else self._renewed + self.terms.ttl_s - elapsed()

    async def job(self, *, everywhere: bool = False) -> Job:
        """The job as it stands now: with the parts of the service this hold is of, or those `everywhere`."""
        job = await self.write(lambda tx: rows.must(rows.by_id(tx, self.job_id)))
        if self._service is None or everywhere:
            return job
        return replace(job, parts=tuple(part for part in job.parts if part.service == self._service))

    def of(self, service: str) -> Hold:
        """The same hold, for which the job has only the parts whose files and batches are at this service."""
        view = Hold(self._store, self.job_id, self._token, self.terms)
        view._service, view.lost, view._renewed = service, self.lost, self._renewed
        return view

    async def move(
        self, part: Part, to: State, *, at: float, event: str = "", batch: Batch | None = None, **changes: Any
    ) -> Part:
        """Move a part to another state, with its batch as just seen, the fields that change and a line in the diary.

        All of it is durable when this returns, or none of it ever happened.
        """
        check_move(part.state, to)
        return await self.write(lambda tx: self.moved(tx, part, to, at=at, event=event, batch=batch, **changes))

    def moved(
        self, tx: Tx, part: Part, to: State, *, at: float, event: str = "", batch: Batch | None = None, **changes: Any
    ) -> Part:
        """`move` as a piece of a larger transaction. Raises CancelWished for an intent of a job that was cancelled."""
        check_move(part.state, to)
        cancelled = "SELECT 1 AS found FROM jobs WHERE id = :job AND cancelled_at IS NOT NULL"
        if to in _INTENTS and to is not part.state and tx.row(cancelled, job=self.job_id):
            raise CancelWished(f"part {part.number} is not sent: its job is cancelled")
        part = replace(part, **changes)
        seen = part if batch is None else rows.record(tx, part, batch, at)
        columns = ", ".join(f"{name} = :{name}" for name in ("state", *changes))
        sql = f"UPDATE parts SET {columns} WHERE id = :id AND state = :before"
        if tx.write(sql, id=part.id, before=part.state, state=to, **changes) != 1:
            raise LedgerBusy(f"part {part.number} was moved by somebody else", hint="run the same command again")
        if (part.state, to) == (State.UPLOADING, State.UPLOADED):
            rows.had_room(tx, part.service or "", rows.FILES)
        if event or to is not part.state:
            rows.add_event(tx, self.job_id, at, to, event, part.number)
        return replace(seen, state=to)

    async def note(self, kind: str, detail: str, *, at: float, part: int | None = None) -> None:
        """A line in the diary."""
        await self.write(lambda tx: rows.add_event(tx, self.job_id, at, kind, detail, part))

    async def add_round(self, parts: Iterable[Part], *, at: float, cancelled_at: float | None) -> bool:
        """Write a further round: rows that failed, to be asked again. It takes back the wish to cancel that was known
        when it was begun, of `cancelled_at`; beside a later one it is not written: False."""

        def work(tx: Tx) -> bool:
            if rows.must(rows.by_id(tx, self.job_id)).cancelled_at not in (None, cancelled_at):
                return False
            rows.add_round(tx, self.job_id, parts, at)
            sql = "UPDATE jobs SET settled_at = NULL, cancelled_at = NULL, total = NULL, aside = '[]' WHERE id = :job"
            tx.write(sql, job=self.job_id)
            return True

        parts = list(parts)
        return await self.write(work)

    async def settle(self, outcome: Outcome, *, at: float) -> Job:
        """End the job: every row is accounted for."""

        def work(tx: Tx) -> Job:
            tx.write(
                "UPDATE jobs SET settled_at = :at, total = :total, ok = :ok, failed = :failed, missing = :missing,"
                " balanced = :balanced"
                " WHERE id = :job",
                job=self.job_id,
                at=at,
                total=outcome.total,
                ok=outcome.ok,
                failed=outcome.failed,
                missing=outcome.missing,
                balanced=int(outcome.balanced),
            )
            tx.write(
                "UPDATE parts SET state = :settled WHERE job_id = :job AND state = :fetched",
                job=self.job_id,
                settled=State.SETTLED,
                fetched=State.FETCHED,
            )
            words = (
                f"{plural(outcome.total, 'row')}: {outcome.ok} ok, {outcome.failed} failed, {outcome.missing} missing"
            )
            rows.add_event(tx, self.job_id, at, State.SETTLED, words, None)
            return rows.must(rows.by_id(tx, self.job_id))

        return await self.write(work)

    async def renew(self) -> None:
        """Make the lease last its whole time again, by the ledger's clock."""
        sql = "UPDATE leases SET expires_at = :expires WHERE job_id = :job AND token = :token"
        before = elapsed()
        await self.write(
            lambda tx: tx.write(sql, job=self.job_id, token=self._token, expires=tx.now() + self.terms.ttl_s)
        )
        self._renewed = before

    async def release(self) -> None:
        """Let the job go, also when cancelled meanwhile."""
        await release(self._store, self._token)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in one transaction, in which the lease is ours."""

        def guarded(tx: Tx) -> T:
            row = tx.row("SELECT token FROM leases WHERE job_id = :job", job=self.job_id)
            if row is None or row["token"] != self._token:
                raise LeaseLost
            return work(tx)

        return await self._store.run(guarded)


async def release(store: Store, token: str) -> None:
    """Let go of the lease under this token, also when cancelled meanwhile: who is in a hurry leaves no lease behind."""
    ACTIVE.discard(token)
    going = asyncio.ensure_future(_let_go(store, token))
    try:
        await asyncio.shield(going)
    except asyncio.CancelledError:
        await asyncio.wait({going})
        raise


async def _let_go(store: Store, token: str) -> None:
    try:
        await store.run(lambda tx: tx.write(LET_GO, token=token))
    except BatchkitError:
        LEFT.add((store.name, token))
        raise
