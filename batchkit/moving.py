"""Whether a part may leave the target it is at: never that of a job given to one target, never while a batch of it may
be hidden there. Pure."""

from __future__ import annotations

from batchkit.model import Job, Part

DOUBT_S = 6 * 3600.0
"""How long a lost creation is feared: far beyond any delay of a listing, yet a part too large is cut the same day."""


def in_doubt(part: Part, now: float) -> bool:
    """Whether a batch that was taken for not made may yet show up."""
    return part.doubt_at is not None and abs(now - part.doubt_at) < DOUBT_S


def is_free(job: Job, service: str) -> bool:
    """Whether a job was given to the pool of this `service`: one that was given to a single target stays there."""
    return job.service == service


def may_leave(job: Job, part: Part, service: str, now: float) -> bool:
    """Whether a part that nothing runs of may go to another target of the pool of this `service`."""
    return is_free(job, service) and not in_doubt(part, now)
