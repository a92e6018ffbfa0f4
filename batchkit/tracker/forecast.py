"""When a job may be done, from how far it has come and from how long earlier jobs took. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from batchkit.model import Batch, Job, State
from batchkit.text import plural

TELLING = 0.05
"""The share of its rows a batch must have done before its own pace is believed."""
_OVER = frozenset({State.ENDED, State.FETCHED, State.SETTLED, State.DROPPED})


def expected_end(job: Job, earlier: Iterable[Job] = ()) -> float | None:
    """When the last batch of the job may end (Unix seconds), by its own pace where it tells, else by the middle one of
    how long the batches of `earlier` jobs took. None where nothing is known, or nothing moves any more."""
    moving = [part for part in job.parts if part.state not in _OVER]
    if not moving or any(part.batch is None for part in moving):
        return None
    took = [life for other in earlier for life in _lives(other, job.deployment)]
    usual = median(took) if took else None
    ends = [_end(part.batch, usual) for part in moving if part.batch]
    return None if None in ends else max(end for end in ends if end is not None)


def _end(batch: Batch, usual_s: float | None) -> float | None:
    began, seen, counts = batch.created_at, batch.looked_at, batch.counts
    if began is None or seen is None:
        return None
    share = (counts.completed + counts.failed) / counts.total if counts and counts.total else 0.0
    if share >= TELLING and seen > began:
        return began + (seen - began) / min(share, 1.0)
    return None if usual_s is None else max(began + usual_s, seen)


def _lives(job: Job, deployment: str) -> list[float]:
    """How long the batches of a job took that came to their end, in seconds."""
    batches = [part.batch for part in job.parts if part.batch and (part.deployment or job.deployment) == deployment]
    return [
        batch.ended_at - batch.created_at
        for batch in batches
        if batch.status == "completed" and batch.ended_at is not None and batch.created_at is not None
    ]


def trouble(job: Job) -> str | None:
    """What is wrong with a job's latest round in one sentence, by the most frequent reason; None where nothing is."""
    latest = job.latest
    bad = [part.batch for part in latest if part.batch and part.batch.status in ("failed", "expired", "cancelled")]
    if bad:
        reasons = [batch.errors[0].code if batch.errors else batch.status for batch in bad]
        reason = max(dict.fromkeys(reasons), key=reasons.count)
        said = (error.message for batch in bad for error in batch.errors[:1] if error.code == reason)
        words = f"{len(bad)} of {len(latest)} batches did not complete, {reasons.count(reason)} for {reason}"
        example = next(said, "")
        return f"{words}: {example}" if example else words
    failed = job.counts.failed
    return f"{failed} of {plural(job.counts.total, 'row')} failed; fetch says why" if failed else None
