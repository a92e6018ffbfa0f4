"""The tracker's turn: one look at every running batch, at most once per interval."""

from __future__ import annotations

import random
from contextlib import aclosing
from dataclasses import replace

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import NotFound
from batchkit.ledger import Hold
from batchkit.model import DONE, Batch, Counts, Next, Part, ServiceError, State

NEWBORN_S = 600.0
"""How long after its creation a batch may be unknown to the service without being lost."""
LATE_S = 1800.0
"""How long after its end the names of a batch's result files are waited for."""
JITTER = 0.05


async def turn(*, api: Service, hold: Hold, clock: Clock) -> Next:
    """Look at the batches whose last look is an interval ago; say when the next look is due.

    Raises Unavailable when the service cannot be asked now. A batch that it has forgotten for good ends as failed.
    """
    interval = api.target.poll_interval_s
    running = [part for part in (await hold.job()).parts if part.state is State.RUNNING]
    known = [part for part in running if part.batch and final(part.batch, part.batch.ended_at or 0.0, clock.now())]
    for part in known:  # a cancel that came too late was told so
        await _record(part, part.batches[-1], hold, clock)
    running = [part for part in running if part not in known]
    due = [part for part in running if not clock.now() - interval < _looked_at(part) <= clock.now()]
    if due:
        seen = [await _record(part, batch, hold, clock) for part, batch in await _look(due, api, clock)]
        if any(part.state is State.UPLOADED for part in seen):
            return Next(clock.now(), "the deployment's queue is full")
        running = [part for part in running if part not in due] + seen
    still = [_looked_at(part) for part in running if part.state is State.RUNNING]
    if not still:
        return DONE
    return Next(min(still) + interval * (1 + JITTER * random.random()))


async def _look(due: list[Part], api: Service, clock: Clock) -> list[tuple[Part, Batch]]:
    """Each part's batch as the service shows it now: one list for many, a single look for one or for the unlisted."""
    wanted = {part.batch.id: part for part in due if part.batch}
    seen: dict[str, Batch] = {}
    if len(wanted) > 1:
        async with aclosing(api.batches()) as listed:
            async for batch in listed:
                if batch.id in wanted:
                    seen[batch.id] = batch
                    if len(seen) == len(wanted):
                        break
    for batch_id, part in wanted.items():
        if batch_id not in seen and part.batch:
            seen[batch_id] = await _one(part.batch, api, clock)
    return [(part, seen[batch_id]) for batch_id, part in wanted.items()]


async def _one(batch: Batch, api: Service, clock: Clock) -> Batch:
    try:
        return await api.batch(batch.id)
    except NotFound as error:
        if clock.now() - (batch.created_at or 0.0) < NEWBORN_S:
            return batch
        words = f"the service no longer knows this batch: {error}"
        return replace(batch, status="failed", errors=(ServiceError("batch_lost", words),))


async def _record(part: Part, seen: Batch, hold: Hold, clock: Clock) -> Part:
    """Write the look down; move the part on when its batch ended."""
    now, ended_at = clock.now(), part.batch.ended_at if part.batch else None
    if not final(seen, now if ended_at is None else ended_at, now):
        return await hold.move(part, part.state, at=now, batch=seen)
    if seen.refused_for_quota:
        return await hold.move(part, State.UPLOADED, at=now, batch=seen, event="the deployment's queue is full")
    return await hold.move(part, State.ENDED, at=now, batch=seen, tries=0, event=seen.status)


def final(batch: Batch, ended_at: float, now: float) -> bool:
    """Whether nothing more is to come of a batch first seen ended at `ended_at`.

    An ended batch that counts rows for a file it does not name yet is not final, for a while: names appear late.
    """
    counts = batch.counts or Counts()
    awaited = (counts.completed and batch.output_file_id is None) or (counts.failed and batch.error_file_id is None)
    return batch.ended and not (awaited and now - ended_at < LATE_S)


def _looked_at(part: Part) -> float:
    return (part.batch.looked_at if part.batch else None) or 0.0
