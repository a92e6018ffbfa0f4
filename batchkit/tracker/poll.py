"""The tracker's turn: one look at every running batch, at most once per interval."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from batchkit import wire
from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Settings, Target
from batchkit.errors import BatchkitError
from batchkit.ledger import Hold, deeds
from batchkit.ledger.sql import Tx
from batchkit.model import DONE, LOST, Batch, Next, Part, ServiceError, State, moving
from batchkit.text import utc, visible
from batchkit.tracker.late import final, patience_s
from batchkit.tracker.lookout import Lookout

_log = logging.getLogger(__name__)

LOST_S = 900.0
"""How long a batch may be unknown to the service before it is given up: new ones show late, and a gateway's 404 is no
proof."""
UNKNOWN = "the service does not know this batch"
"""Why a part is held whose batch was not found."""
JITTER = 0.05
AT_ONCE = 500
"""How many looks are written down in one transaction."""


async def turn(*, api: Service, hold: Hold, clock: Clock, settings: Settings, lookout: Lookout, target: Target) -> Next:
    """Look at the batches whose last look is an interval ago; say when the next look is due.

    Raises Unavailable when the service cannot be asked now. A batch that it has forgotten for good ends as failed; what
    a target's validation refuses goes to another of the pool, where `target` is one and the job its own.
    """
    interval = api.target.poll_interval_s
    job = await hold.job()
    running = {part.id: part for part in job.parts if part.state is State.RUNNING and part.batch}
    at = clock.now()
    # What the answer to a cancel says of one that ended may be less than there is.
    due = [part for part in running.values() if part.batches[-1].ended or not at - interval < _looked_at(part) <= at]
    looks: list[tuple[Part, Batch | None]] = []
    if due:
        at, seen = await lookout.look(api, [part.batches[-1] for part in due])
        looks = [(part, seen[part.batches[-1].id]) for part in due if part.batches[-1].id in seen]
    free = job.cancelled_at is None and moving.is_free(job, target.service)
    pool = {member.name for member in target.pool} if free else set()
    refused = [
        (part, seen) for part, seen in looks if seen and seen.refused_by_target and pool - {*job.aside, part.target}
    ]
    kept = {part.id for part, _ in refused if moving.in_doubt(part, at)}
    leaving = [(part, seen) for part, seen in refused if part.id not in kept]
    freed = {part.id for part, seen in leaving if await _elsewhere(part, seen, api, hold, at, pool)}
    moved = await _record([(part, seen) for part, seen in looks if part.id not in freed], hold, at, settings, kept)
    if freed:
        return Next(clock.now(), "parts go to another target")
    running |= {part.id: part for part in moved}
    if any(part.state is State.UPLOADED for part in moved):
        return Next(clock.now(), "the deployment's queue is full")
    asked = {part.id for part in due}  # also where there was no answer, the next is asked for an interval later
    still = [at if part.id in asked else _looked_at(part) for part in running.values() if part.state is State.RUNNING]
    if not still:
        return DONE
    why = next((_why(part) for part in running.values() if part.state is State.RUNNING and part.held), "")
    return Next(min(still) + interval * (1 + JITTER * random.random()), why)


async def _elsewhere(part: Part, seen: Batch, api: Service, hold: Hold, now: float, pool: Collection[str]) -> bool:
    """Whether a part that its target's validation refused is free to go to another of the pool."""
    why = visible(f"{seen.errors[0].code}: {seen.errors[0].message}", 300)
    if await deeds.refused_by(hold, part, seen, pool=pool, at=now, why=why) is None:
        return False
    _log.warning("target %s is set aside for this job: %s", part.target, why)
    if part.file_id is not None:
        with suppress(BatchkitError):  # it expires, and `files --sweep` knows it by its name
            await api.delete(part.file_id)
    return True


async def _record(
    looks: Sequence[tuple[Part, Batch | None]], hold: Hold, now: float, settings: Settings, kept: Collection[str]
) -> list[Part]:
    """Write the looks down, many in one transaction; move the parts on whose batches ended, but for those `kept`."""
    judged = [
        (part, seen, _kept(seen) if seen and part.id in kept else _judge(part, seen, now)) for part, seen in looks
    ]
    plain = [(part, verdict) for part, _, verdict in judged if not verdict.refused]
    moved: list[Part] = []
    for some in range(0, len(plain), AT_ONCE):
        chunk = plain[some : some + AT_ONCE]

        def write(tx: Tx, chunk: list[tuple[Part, _Verdict]] = chunk) -> list[Part]:
            return [hold.moved(tx, part, verdict.to, at=now, **verdict.changes) for part, verdict in chunk]

        moved += await hold.write(write)
    for part, seen, verdict in judged:
        if verdict.refused and seen is not None:
            held = "waiting for quota: the deployment's queue is full"
            limit = next(filter(None, (wire.token_limit(error.message) for error in seen.errors)), None)
            again = await deeds.refused(
                hold, part, State.UPLOADED, at=now, why=held, wait_s=settings.quota_wait, tokens=limit, batch=seen
            )
            moved.append(again)
    return moved


@dataclass(frozen=True)
class _Verdict:
    """What one look means for its part: the state it goes to, and what changes on the way."""

    to: State
    changes: dict[str, Any]
    refused: bool = False


def _kept(seen: Batch) -> _Verdict:
    """Of a part whose lost creation is feared a batch may be hidden here: gone elsewhere it would be paid for twice."""
    held = "refused by the target; it goes to another once no other batch of it can show up here"
    return _Verdict(State.RUNNING, {"batch": seen, "held": held})


def _judge(part: Part, seen: Batch | None, now: float) -> _Verdict:
    held, clean_at = None, None
    if seen is None:
        held, clean_at = UNKNOWN, min(part.clean_at or now, now)  # the clock was ahead when a later one was written
        seen = part.batches[-1]
        if now - clean_at >= LOST_S:
            seen = replace(seen, status="failed", errors=(ServiceError(LOST, held),))
    if not final(seen, part.batches[-1].ended_at or now, now):
        if seen.ended:
            until = utc((part.batches[-1].ended_at or now) + patience_s(seen))
            counted = seen.counts is not None and seen.counts.total > 0
            late = (
                "the file of the finished rows is not named yet"
                if counted
                else "neither counts nor files are named yet"
            )
            held = f"{seen.status}, but {late} is not named yet; it is waited for until {until}"
        return _Verdict(State.RUNNING, {"batch": seen, "held": held, "clean_at": clean_at})
    if seen.refused_for_quota:
        return _Verdict(State.UPLOADED, {}, refused=True)
    return _Verdict(State.ENDED, {"batch": seen, "event": seen.status, "tries": 0, "held": None})


def _why(part: Part) -> str:
    """What a part waits for at the service, and until when."""
    if part.held == UNKNOWN and part.clean_at is not None:
        return f"{UNKNOWN}; it is waited for until {utc(part.clean_at + LOST_S)}"
    return part.held or ""


def _looked_at(part: Part) -> float:
    return (part.batch.looked_at if part.batch else None) or 0.0
