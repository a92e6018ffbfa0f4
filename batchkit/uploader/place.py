"""Where a part goes: which of several targets, under which deployment's name, and in how many pieces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from batchkit.config import Target
from batchkit.errors import BatchkitError, NotFound, Refused, Unauthorized, Unavailable
from batchkit.ledger import deeds
from batchkit.model import Next, Part, State, moving
from batchkit.text import duration
from batchkit.uploader import quota, staging
from batchkit.uploader.quota import Room
from batchkit.uploader.work import Work

_log = logging.getLogger(__name__)


async def place(work: Work, part: Part) -> tuple[Part, Next | None]:
    """Give a staged part of a pool its target, if one has room; or say when to look again."""
    if part.service is not None:
        return part, None
    await work.lines_here(part)
    if not work.target.pool:
        return await _sent_to(work, part, work.target), None
    members, now = [member for member in _left(work) if member.service not in work.silent], work.clock.now()
    if not members:
        return part, Next(now + work.settings.quota_wait_s, "no target can be reached")
    limits = [member.limits.enqueued_tokens for member in members]
    queues = [await deeds.queue_of(work.hold, member.service, _deployment(work, member)) for member in members]
    admissions = [
        quota.admit(part.bytes, part.lines, queue, limit, now) for queue, limit in zip(queues, limits, strict=True)
    ]
    rooms = [admission.room for admission in admissions]
    chosen = quota.choose(admissions, queues, limits)
    if chosen is not None:
        return await _sent_to(work, part, members[chosen]), None
    waiting = [admission for admission in admissions if admission.room is Room.WAIT]
    if not waiting and Room.TOO_LARGE in rooms:
        large = rooms.index(Room.TOO_LARGE)
        await cut(work, part, members[large], admissions[large].why)
        return part, Next(now, admissions[large].why)
    if not waiting:
        raise Refused(admissions[0].why)
    first = min(waiting, key=lambda admission: admission.at or now + work.settings.quota_wait_s)
    at = first.at or now + work.settings.quota_wait_s
    if part.held != first.why or part.next_try_at != at:
        part = await work.move(part, part.state, held=first.why, next_try_at=at)
    return part, Next(at, first.why)


def _left(work: Work) -> Sequence[Target]:
    """The targets that the job may go to and has not set aside, for what their validation said of it."""
    members = work.target.members
    if not moving.is_free(work.job, work.target.service):
        members = tuple(member for member in members if member.service == work.job.service)
    return [member for member in members if member.name not in work.job.aside] or members


async def elsewhere(work: Work, part: Part) -> Part:
    """A part that waits for a target which was set aside meanwhile goes to another, if there is one."""
    free = part.state in (State.STAGED, State.UPLOADED) and _may_leave(work, part)
    if not free or part.target not in work.job.aside or part.target in {member.name for member in _left(work)}:
        return part
    if part.file_id is not None:
        with suppress(BatchkitError):  # it expires, and `files --sweep` knows it by its name
            await work.api(part).delete(part.file_id)
    return await deeds.free(work.hold, part, at=work.clock.now(), why="it refused other parts of this job")


def _may_leave(work: Work, part: Part) -> bool:
    return moving.may_leave(work.job, part, work.target.service, work.clock.now())


async def _sent_to(work: Work, part: Part, member: Target) -> Part:
    """A part with its target; where that calls its deployment otherwise, with a copy of the lines that says so."""
    deployment = _deployment(work, member)
    sent = replace(part, sent_sha256=None, sent_bytes=None)
    if deployment != work.job.deployment:
        sent = await asyncio.to_thread(staging.renamed, work.workdir, part, deployment, work.rename)
    return await work.move(
        part,
        part.state,
        target=member.name,
        service=member.service,
        deployment=deployment,
        sent_sha256=sent.sent_sha256,
        sent_bytes=sent.sent_bytes,
        held=None,
        next_try_at=None,
    )


def _deployment(work: Work, member: Target) -> str:
    return (member.deployment if work.target.pool else None) or work.job.deployment


async def cut(work: Work, part: Part, member: Target, why: str) -> None:
    """Put smaller parts, which fit the queue at `member`, in the place of one that no queue can take whole."""
    await work.lines_here(part)
    queue = await deeds.queue_of(work.hold, member.service, part.deployment or _deployment(work, member))
    limit = min((known for known in (member.limits.enqueued_tokens, queue.tokens) if known), default=None)
    count = quota.pieces(part.bytes, part.lines, limit)
    last = max(known.number for known in (await work.hold.job()).parts if known.round == part.round)
    pieces = await asyncio.to_thread(staging.cut, work.workdir, part, count, last + 1)
    if part.sent_sha256 is not None:  # they stay where the deployment has another name
        name = part.deployment or ""
        pieces = [await asyncio.to_thread(staging.renamed, work.workdir, p, name, work.rename) for p in pieces]
    await deeds.cut(work.hold, part, pieces, at=work.clock.now(), why=why)
    _log.info("part %s of job %r is cut into %s: %s", part.number, work.job.name, count, why)
    if part.file_id is not None:
        with suppress(BatchkitError):  # it expires, and `files --sweep` knows it by its name
            await work.api(part).delete(part.file_id)
    work.workdir.forget(part)


async def set_aside(work: Work, part: Part, error: BatchkitError) -> bool:
    """Whether trouble was the target's, and another target may take the part: then it is free to go there."""
    definite = isinstance(error, (Unauthorized, NotFound))
    if not work.target.pool or not (definite or isinstance(error, Unavailable)):
        return False
    current = await work.current(part)
    free = current.state in (State.STAGED, State.UPLOADED) and _may_leave(work, current)
    if not free or current.target is None:
        return False
    others = [member for member in _left(work) if member.name not in {*work.aside, current.target}]
    if not [member for member in others if not await _is_closed(work, member)]:
        return False
    work.aside.add(current.target)
    now, settings = work.clock.now(), work.settings
    until = now + (settings.quota_wait_cap_s if definite else settings.quota_wait_s)
    why = f"{quota.REFUSES}: {error}" if definite else str(error)
    await deeds.set_aside(work.hold, current, at=now, until=until, why=why)
    _log.warning("target %s is set aside for %s: %s", current.target, duration(until - now), error)
    return True


async def _is_closed(work: Work, member: Target) -> bool:
    """Whether a target refused us a short while ago."""
    queue = await deeds.queue_of(work.hold, member.service, _deployment(work, member))
    return quota.admit(0, 1, queue, None, work.clock.now()).room is Room.CLOSED
