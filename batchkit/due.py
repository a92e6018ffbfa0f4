"""When there is something to do for a job: what cron needs to know, from the ledger alone. Pure."""

from __future__ import annotations

from batchkit.model import Job, Part, State


def due_at(job: Job, poll_interval_s: float) -> float | None:
    """From when on a turn may get a job further (Unix seconds, 0 for now); None once it is settled."""
    if job.settled_at is not None:
        return None
    moving = [part for part in job.parts if not part.collected]
    return min((_due_at(job, part, poll_interval_s) for part in moving), default=0.0)


def is_due(job: Job, poll_interval_s: float, now: float) -> bool:
    """Whether a turn may get a job further now."""
    due = due_at(job, poll_interval_s)
    return due is not None and due <= now


def is_over(job: Job, *, written: bool) -> bool:
    """Whether the same command again would change nothing: rows came back and add up, and the results are `written`
    where they are wanted. Without a good row the command says anew what was wrong."""
    outcome = job.outcome
    return written and outcome is not None and outcome.ok > 0 and outcome.balanced


def _due_at(job: Job, part: Part, poll_interval_s: float) -> float:
    if part.state is State.RUNNING and part.batch is not None:
        if job.cancelled_at is not None and part.batch.status != "cancelling" and not part.batch.ended:
            return 0.0
        return (part.batch.looked_at or 0.0) + poll_interval_s
    waits = part.state in (State.STAGED, State.UPLOADED) and job.cancelled_at is None
    return (part.next_try_at or 0.0) if waits else 0.0
