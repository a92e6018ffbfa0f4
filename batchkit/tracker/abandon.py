"""A job that the user gives up: what the service forgot, or cannot be asked about, is waited for no longer."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from dataclasses import replace
from shlex import quote

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import NotFound, Refused, Unavailable
from batchkit.ledger import Hold, deeds
from batchkit.model import DONE, GIVEN_UP, SILENT_S, Batch, Job, Next, Part, ServiceError, State
from batchkit.text import utc

_BEFORE = {
    State.UPLOADING: (State.STAGED, State.DROPPED),
    State.SUBMITTING: (State.UPLOADED, State.DROPPED),
    State.STAGED: (State.DROPPED,),
    State.UPLOADED: (State.DROPPED,),
}


async def turn(*, api: Service, hold: Hold, clock: Clock) -> Next:
    """Bring every part to rest that the service shows no batch of, or whose results it never named. One whose batch
    still moves is left alone."""
    job = await hold.job()
    parts = [part for part in job.parts if not part.collected]
    listed, trouble = await _listed(api, hold, job, clock.now()) if parts else ({}, None)
    for part in parts:
        if trouble is None and await _shown(api, part, listed):
            batch = part.batch and listed.get(part.batch.id, part.batch)
            if part.state is State.RUNNING and batch and batch.ended:
                why = f"{batch.id} is {batch.status}, and was not waited for until it names its result files"
                await hold.move(part, State.ENDED, at=clock.now(), event=why, batch=batch, held=_unnamed(batch))
            continue
        why = "the service does not know it" if trouble is None else f"the service cannot be asked: {trouble}"
        await _rest(hold, part, why, clock.now())
    return DONE


async def minded(looking: Awaitable[Next], api: Service, hold: Hold, clock: Clock) -> Next:
    """A look at a service, of which the diary tells where it cannot be asked."""
    try:
        return await looking
    except (Refused, Unavailable):
        await _unheard(hold, api.target.service, clock.now())
        raise


async def _unheard(hold: Hold, service: str, now: float) -> float:
    """Keep in the diary that a service cannot be asked; since when, by the first time that it could not."""
    # One that lies ahead is of a clock that was wrong.
    seen = [at for part in (await hold.job()).parts for at in _seen_at(part) if at <= now]
    return await deeds.silent_since(hold, service, seen_at=max(seen, default=0.0), now=now)


async def _listed(api: Service, hold: Hold, job: Job, now: float) -> tuple[dict[str, Batch], str | None]:
    """The batches at the service, or why they have not been to be had for long; a short outage is raised."""
    try:
        return {batch.id: batch async for batch in api.batches()}, None
    except (Refused, Unavailable) as error:
        until = await _unheard(hold, api.target.service, now) + SILENT_S
        if now <= until:
            again = f"batchkit cancel {quote(job.name)} --give-up"
            error.hint += f"; where it stays so {again} ends the job after {utc(until)}"
            raise
        return {}, str(error)


def _seen_at(part: Part) -> Iterator[float]:
    """When the service told, or was told, of a part."""
    looked_at = part.batch.looked_at if part.batch else None
    yield from filter(None, (part.intent_at, part.clean_at, part.listed_at, looked_at))


async def _shown(api: Service, part: Part, listed: dict[str, Batch]) -> bool:
    """Whether a service that can be asked has what a part waits for, or will soon say that it has not."""
    if part.state is State.ENDED or part.batch is None or part.batch.service != part.service:
        return True  # its files are fetched or found gone, and what was not sent is stopped, without further ado
    if part.batches[-1].id in listed:
        return True
    try:
        await api.batch(part.batches[-1].id)
    except NotFound:
        return False
    return True


def _unnamed(batch: Batch) -> str | None:
    """What is missed of a batch that counts finished rows and names no file of them."""
    done = batch.counts.completed if batch.counts and batch.output_file_id is None else 0
    return f"{batch.id} counts {done} finished rows and never named their file; they are paid" if done else None


async def _rest(hold: Hold, part: Part, why: str, now: float) -> None:
    """One part given up, step by legal step; the diary says what may yet run, and be billed."""
    if part.state in _BEFORE:
        doubt = part.state is State.SUBMITTING
        words = f"given up: {why}" + ("; a batch of it may have been made, and will then be billed" if doubt else "")
        # Should the batch show up all the same, it is known by its file, and stopped.
        doubt_at = now if doubt else part.doubt_at
        for state in _BEFORE[part.state]:
            part = await hold.move(part, state, at=now, event=words, held=words if doubt else None, doubt_at=doubt_at)
        return
    batch, held = part.batches[-1], None
    files = ", ".join(filter(None, (batch.output_file_id, batch.error_file_id)))
    if part.state is State.ENDED and files:
        held = f"the result files {files} could not be had: {why}; what ran of its rows is paid"
    words = f"given up: {why}; if {batch.id} lives it is billed, and runs on until a list shows it"
    if part.state is State.RUNNING:
        dead = replace(batch, status="failed", errors=(ServiceError(GIVEN_UP, words),))
        part = await hold.move(part, State.ENDED, at=now, event=words, batch=dead, held=None)
    # Its files are not to be missed on this machine: their ids stay in the diary.
    bare = replace(part.batches[-1], output_file_id=None, error_file_id=None)
    event = held or f"given up: {why}" + (f"; its files {files}" if files else "")
    await hold.move(part, State.FETCHED, at=now, event=event, batch=bare, held=held)
