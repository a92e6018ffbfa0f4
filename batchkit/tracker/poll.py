"""The tracker's turn: one look at every running batch, at most once per interval."""

from __future__ import annotations

import random
from collections.abc import Collection
from contextlib import aclosing
from dataclasses import replace

from batchkit import wire
from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Settings
from batchkit.errors import NotFound
from batchkit.ledger import Hold, deeds
from batchkit.model import DONE, Batch, Counts, Next, Part, ServiceError, State

LOST_S = 900.0
"""How long a batch may be unknown to the service before it is given up: new ones show late, and a gateway's 404 is no
proof."""
LATE_S = 1800.0
"""How long after its end the names of a batch's result files are waited for."""
JITTER = 0.05


async def turn(*, api: Service, hold: Hold, clock: Clock, settings: Settings) -> Next:
    """Look at the batches whose last look is an interval ago; say when the next look is due.

    Raises Unavailable when the service cannot be asked now. A batch that it has forgotten for good ends as failed.
    """
    interval = api.target.poll_interval_s
    running = [part for part in (await hold.job()).parts if part.state is State.RUNNING]
    known = [part for part in running if part.batch and final(part.batch, part.batch.ended_at or 0.0, clock.now())]
    for part in known:  # a cancel that came too late was told so
        await _record(part, part.batches[-1], hold, clock.now(), settings)
    running = [part for part in running if part not in known]
    due = [part for part in running if not clock.now() - interval < _looked_at(part) <= clock.now()]
    if due:
        looks = await _look(due, api)
        seen = [await _record(part, batch, hold, clock.now(), settings) for part, batch in looks]
        if any(part.state is State.UPLOADED for part in seen):
            return Next(clock.now(), "the deployment's queue is full")
        running = [part for part in running if part not in due] + seen
    still = [_looked_at(part) for part in running if part.state is State.RUNNING]
    if not still:
        return DONE
    return Next(min(still) + interval * (1 + JITTER * random.random()))


async def _look(due: list[Part], api: Service) -> list[tuple[Part, Batch | None]]:
    """Each part's batch as the service shows it now, None where it knows none.

    One list for many, a single look for one and for the unlisted. What a single look does not find is looked for in
    the list before it is called unknown.
    """
    wanted = {part.batch.id: part for part in due if part.batch}
    seen = await _listed(wanted, api) if len(wanted) > 1 else {}
    for batch_id in wanted:
        if batch_id not in seen:
            try:
                seen[batch_id] = await api.batch(batch_id)
            except NotFound:
                seen |= await _listed([batch_id], api) if len(wanted) == 1 else {}
    return [(part, seen.get(batch_id)) for batch_id, part in wanted.items()]


async def _listed(wanted: Collection[str], api: Service) -> dict[str, Batch]:
    seen: dict[str, Batch] = {}
    async with aclosing(api.batches()) as batches:
        async for batch in batches:
            if batch.id in wanted:
                seen[batch.id] = batch
                if len(seen) == len(wanted):
                    break
    return seen


async def _record(part: Part, seen: Batch | None, hold: Hold, now: float, settings: Settings) -> Part:
    """Write the look down; move the part on when its batch ended."""
    held, clean_at = None, None
    if seen is None:
        held, clean_at = "the service does not know this batch", part.clean_at or now
        seen = part.batches[-1]
        if now - clean_at >= LOST_S:
            seen = replace(seen, status="failed", errors=(ServiceError("batch_lost", held),))
    ended_at = part.batches[-1].ended_at or now
    if not final(seen, ended_at, now):
        return await hold.move(part, part.state, at=now, batch=seen, held=held, clean_at=clean_at)
    if seen.refused_for_quota:
        held = "waiting for quota: the deployment's queue is full"
        limit = next(filter(None, (wire.token_limit(error.message) for error in seen.errors)), None)
        return await deeds.refused(
            hold, part, State.UPLOADED, at=now, why=held, wait_s=settings.quota_wait, tokens=limit, batch=seen
        )
    return await hold.move(part, State.ENDED, at=now, batch=seen, event=seen.status, tries=0, held=None)


def final(batch: Batch, ended_at: float, now: float) -> bool:
    """Whether nothing more is to come of a batch first seen ended at `ended_at`.

    An ended batch that counts rows for a file it does not name yet is not final, for a while: names appear late.
    """
    counts = batch.counts or Counts()
    awaited = (counts.completed and batch.output_file_id is None) or (counts.failed and batch.error_file_id is None)
    return batch.ended and not (awaited and now - ended_at < LATE_S)


def _looked_at(part: Part) -> float:
    return (part.batch.looked_at if part.batch else None) or 0.0
