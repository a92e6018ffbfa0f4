"""Whether a part may leave the target it is at: never that of a job given to one target, never while a batch of it may
be hidden there; and whether a job goes on at its target as that was edited. Pure."""

from __future__ import annotations

from collections.abc import Collection

from batchkit.model import Job, Part

POOLED = " + "
"""Between the services of a pool, where they stand for the one that a job belongs to."""
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


def sent(job: Job) -> set[str]:
    """The services that a job's parts were sent to."""
    return {part.service for part in job.parts if part.intent and part.service}


def awaited(job: Job) -> set[str]:
    """The services whose rows are not all here yet, which a target must reach to go on with a job."""
    return {part.service for part in job.parts if part.intent and part.service and not part.collected}


def is_edited(job: Job, name: str, services: Collection[str]) -> bool:
    """Whether the job's own pool, of this `name`, has become these `services` meanwhile: some of what it was given to
    is still among them, and all that it waits for."""
    was = job.service.split(POOLED)
    same = job.target == name and len(was) > 1 and not set(services).isdisjoint(was)
    return same and set(services) != set(was) and awaited(job) <= set(services)


def strange(job: Job, service: str, services: Collection[str]) -> set[str]:
    """The services of a job that a target, `service` with these `services`, does not reach. At its own target only
    those count whose rows are not all here yet; a part without a place waits for the job's own target."""
    parts = [part for part in job.parts if job.service != service or not part.collected]
    return {part.service or job.service for part in parts} - {service, *services}
