"""From an uploaded file to a running batch: at most one, whatever becomes of the answers."""

from __future__ import annotations

import logging
import secrets

from batchkit.errors import BatchkitError, LeaseLost, QuotaFull, Throttled, Uncertain
from batchkit.ledger import deeds
from batchkit.model import Batch, Next, Part, Queue, State, moving
from batchkit.text import utc, visible
from batchkit.uploader import place, quota, reconcile, twins
from batchkit.uploader.quota import Admission, Room
from batchkit.uploader.reconcile import Fate
from batchkit.uploader.work import Work

_log = logging.getLogger(__name__)


async def room(work: Work, part: Part) -> Next | None:
    """When to try again, if the queue has no room; asked of the ledger before anything is asked of the service."""
    queue = await deeds.queue_of(work.hold, part.service or "", part.deployment or "")
    admission = _admitted(work, part, queue)
    return None if admission.room is Room.GO else await _no_room(work, part, admission)


def _admitted(work: Work, part: Part, queue: Queue) -> Admission:
    configured, now = work.member(part).limits.enqueued_tokens, work.clock.now()
    # The late twin of a part that was cut would be nobody's: as one of a single line, the part waits and is not cut.
    lines = 1 if moving.in_doubt(part, now) else part.lines
    return quota.admit(part.size, lines, queue, configured, now)


async def create(work: Work, part: Part) -> Next | None:
    """Start a part's batch if its deployment's queue has room; None once it runs."""
    settings = work.settings
    decided: list[Admission] = []

    def fits(queue: Queue) -> bool:
        decided[:] = [_admitted(work, part, queue)]
        return decided[0].room is Room.GO

    intent = secrets.token_hex(8)
    announced = await deeds.announce(work.hold, part, intent=intent, at=work.clock.now(), fits=fits)
    if announced is None:
        return await _no_room(work, part, decided[0])
    part = announced
    await work.hold.renew()

    def fence() -> None:
        if work.hold.left_s < settings.create_timeout_s:
            raise LeaseLost()

    try:
        batch, limit = await work.api(part).create_batch(
            part.file_id or "", work.job.url, reconcile.marks(part, intent), fence=fence
        )
    except Uncertain as error:
        # The settle window is counted from the last moment at which the request may have left us.
        await work.move(part, part.state, event=str(error), held=str(error), intent_at=work.clock.now())
        return work.later(settings.relist_after_s, str(error))
    except (QuotaFull, Throttled) as error:
        return await _full(work, part, error)
    except BatchkitError as error:
        await work.move(part, State.UPLOADED, event=str(error), held=str(error))
        raise
    await run_as(work, part, batch)
    if limit is not None:
        await deeds.learned(work.hold, part, limit)
    return None


async def _no_room(work: Work, part: Part, admission: Admission) -> Next:
    if admission.room is Room.TOO_LARGE:
        await place.cut(work, part, work.member(part), admission.why)
        return Next(work.clock.now(), admission.why)
    at = admission.at or work.clock.now() + max(work.settings.quota_wait_s, work.member(part).poll_interval_s)
    if part.held != admission.why or part.next_try_at != at:
        await work.move(part, part.state, held=admission.why, next_try_at=at)
    return Next(at, admission.why)


async def _full(work: Work, part: Part, error: QuotaFull | Throttled) -> Next:
    """Both a full queue and a service that asks for patience are a definite no: nothing was made."""
    asked = error.retry_after_s if isinstance(error, Throttled) else None
    words = visible(f"{quota.WAITING if isinstance(error, QuotaFull) else quota.PATIENCE}: {error}", 500)
    part = await deeds.refused(
        work.hold,
        part,
        State.UPLOADED,
        at=work.clock.now(),
        why=words,
        wait_s=lambda tries: min(quota.LONGEST_WAIT_S, max(asked or 0.0, work.settings.quota_wait(tries))),
        files=isinstance(error, QuotaFull) and error.files,
        tokens=error.tokens if isinstance(error, QuotaFull) else None,
    )
    work.full[part.service, part.deployment] = later = Next(part.next_try_at, words)
    return later


async def reconciled(work: Work, part: Part) -> tuple[Part, Next | None]:
    """A creation was announced and its answer is not known: the part as the service shows it, or when to look again."""
    now = work.clock.now()
    if max(part.intent_at or 0.0, part.clean_at or 0.0) > now + work.settings.relist_after_s:
        # The clock was ahead when that was written: the window begins anew.
        part = await work.move(part, part.state, intent_at=now, clean_at=None)
    listed_at, listed = await work.listed(part.service or "")
    if (adopted := await adopt(work, part, listed, dead_too=True)) is not None:
        return adopted, None
    verdict = reconcile.judge(part, listed_at, work.settings)
    if verdict.fate is Fate.NOT_MADE:
        event = "no batch was made; it may be made now"
        return await work.move(part, State.UPLOADED, event=event, held=None, doubt_at=work.clock.now()), None
    why = f"waiting until {utc(verdict.at)} to be sure whether the service made this batch"
    if verdict.fate is Fate.RELIST:
        part = await work.move(part, part.state, event="not listed yet", clean_at=listed_at, held=why)
    elif part.held != why:
        part = await work.move(part, part.state, held=why)
    return part, Next(min(verdict.at, work.clock.now() + work.settings.relist_after_s), why)


async def look_first(work: Work, part: Part) -> Part | None:
    """Before a batch is made: one that is there already, as after an old ledger was put back, is taken instead."""
    _, listed = await work.listed(part.service or "")
    if (adopted := await adopt(work, part, listed, dead_too=False)) is not None:
        return adopted
    alike = reconcile.strangers(part, [part.job_id], listed)
    for batch in reconcile.strangers(part, await deeds.job_ids(work.hold), alike) if alike else ():
        words = f"another ledger has the same rows in {batch.id} ({batch.status}): they will be paid for twice"
        work.strange.append(batch)
        await work.note("warning", words, part)
    return None


async def adopt(work: Work, part: Part, listed: list[Batch], *, dead_too: bool) -> Part | None:
    """Take a batch found at the service as this part's; a living twin of it is cancelled first.

    A batch that failed or was cancelled is only taken where its creation is what became of an intent (`dead_too`).
    """
    found = reconcile.ours(part, listed)
    if not found or (reconcile.dead(found[0]) and not dead_too):
        return None
    first, *others = found
    for twin in others:
        if not twin.ended and not reconcile.dead(twin):
            what = f"a twin of {first.id}"
            part = await twins.stop(work.api(part), work.hold, work.job.name, part, twin, what, work.clock)
    return await run_as(work, part, first, event=f"adopted {first.id}, {reconcile.witness(part, first)}")


async def run_as(work: Work, part: Part, batch: Batch, event: str = "") -> Part:
    """The part's batch is known: in one transaction, or a crash between would hide it from the next look."""
    return await work.move(
        part, State.RUNNING, event=event or batch.id, batch=batch, held=None, next_try_at=None, clean_at=None, tries=0
    )
