"""The tracker's turn: one look at every running batch, at most once per interval."""

from __future__ import annotations

import random
from contextlib import aclosing

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import NotFound, Unavailable
from batchkit.ledger import Hold
from batchkit.model import DONE, Batch, Next, Part, State

NEWBORN_S = 600.0
"""How long after its creation a batch may be unknown to the service without being lost."""
JITTER = 0.05


async def turn(*, api: Service, hold: Hold, clock: Clock) -> Next:
    """Look at the batches whose last look is an interval ago; say when the next look is due.

    Trouble at the service never ends a job, it only moves the next look. Raises NotFound when the service has
    forgotten a batch for good.
    """
    interval = api.target.poll_interval_s
    running = [part for part in (await hold.job()).parts if part.state is State.RUNNING]
    due = [part for part in running if _looked_at(part) + interval <= clock.now()]
    if due:
        try:
            looks = await _look(due, api, clock)
        except Unavailable as error:
            return Next(clock.now() + interval, str(error))
        seen = [await _record(part, batch, hold, clock) for part, batch in looks]
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
        raise NotFound(f"the service no longer knows batch {batch.id}: {error}") from None


async def _record(part: Part, seen: Batch, hold: Hold, clock: Clock) -> Part:
    """Write the look down; move the part on when its batch ended."""
    part = await hold.record(part, seen, at=clock.now())
    if not final(seen):
        return part
    if seen.refused_for_quota:
        return await hold.move(part, State.UPLOADED, at=clock.now(), event="the deployment's queue is full")
    return await hold.move(part, State.ENDED, at=clock.now(), event=seen.status)


def final(batch: Batch) -> bool:
    """Whether nothing more is to come. A completed batch that counts finished rows but names no output file yet is
    not final: the name appears a little later."""
    awaited = batch.counts is not None and batch.counts.completed > 0 and batch.output_file_id is None
    return batch.ended and not (batch.status == "completed" and awaited)


def _looked_at(part: Part) -> float:
    return (part.batch.looked_at if part.batch else None) or 0.0
