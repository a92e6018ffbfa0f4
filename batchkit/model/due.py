"""When there is something to do for a job: what cron needs to know, from the ledger alone. Pure."""

from __future__ import annotations

import math

from batchkit.model import LONGEST_WAIT_S, Job, Part, State


def due_at(job: Job, poll_interval_s: float, now: float = math.inf) -> float | None:
    """From when on a turn may get a job further (Unix seconds, 0 for now); None once it is settled. What was written by
    a clock that was ahead of `now` holds nobody up."""
    if job.settled_at is not None:
        return None
    moving = [part for part in job.parts if not part.collected]
    return min((_due_at(job, part, poll_interval_s, now) for part in moving), default=0.0)


def is_due(job: Job, poll_interval_s: float, now: float) -> bool:
    """Whether a turn may get a job further now."""
    due = due_at(job, poll_interval_s, now)
    return due is not None and due <= now


def is_over(job: Job, *, written: bool) -> bool:
    """Whether the same command again would change nothing: rows came back and add up, and the results are `written`
    where they are wanted. Without a good row the command says anew what was wrong."""
    outcome = job.outcome
    return written and outcome is not None and outcome.ok > 0 and outcome.balanced


def _due_at(job: Job, part: Part, poll_interval_s: float, now: float) -> float:
    if part.state is State.RUNNING and part.batch is not None:
        if job.cancelled_at is not None and part.batch.status != "cancelling" and not part.batch.ended:
            return 0.0
        looked_at = part.batch.looked_at or 0.0
        return looked_at + poll_interval_s if looked_at <= now else 0.0
    waits = part.state in (State.STAGED, State.UPLOADED) and job.cancelled_at is None
    again = part.next_try_at or 0.0
    return again if waits and again <= now + LONGEST_WAIT_S else 0.0
