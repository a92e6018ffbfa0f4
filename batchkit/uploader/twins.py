"""The late twin rule: of two batches for one part one goes on, and the other is stopped once any listing shows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import Refused, Unauthorized, Unavailable
from batchkit.ledger import Hold, deeds
from batchkit.model import Batch, Part, ServiceError, State
from batchkit.uploader import reconcile
from batchkit.uploader.reconcile import Twins
from batchkit.uploader.work import Work

_log = logging.getLogger(__name__)
STOPPED = "late_twin"
"""Our own code for a batch that was taken for gone, and was told to stop when it showed up."""


async def of_job(work: Work, service: str) -> None:
    """The rule for the parts that are worked on, by this turn's listing; then for all whose rows are here."""
    _, listed = await work.listed(service)
    for part in (await work.hold.job()).parts:
        if part.service != service or part.state in (State.STAGED, State.UPLOADING, State.UPLOADED, State.SUBMITTING):
            continue
        if (found := reconcile.twins(part, listed)) is not None:
            part = await _keep(work, part, found)
        if part.doubt_at is not None and part.state is State.RUNNING:
            await work.move(part, part.state, listed_at=work.clock.now())
    await of_finished(work.apis[service], work.hold, listed, work.clock)


async def of_finished(api: Service, hold: Hold, listed: Sequence[Batch], clock: Clock) -> None:
    """Stop what a listing, made for whatever reason, shows alive of this ledger's parts whose rows are all here: what
    they have is paid for, and nobody would collect more. A service that will not stop it now shows it again."""
    alive = [batch for batch in listed if not (batch.ended or reconcile.dead(batch))]
    for name, part in await deeds.finished(hold, alive) if alive else ():
        kept = part.batch
        for twin in (*reconcile.ours(part, alive), *reconcile.risen(part, alive)):
            what = f"a late twin of {kept.id}" if kept and kept.id != twin.id else "which was done without"
            try:
                part = await stop(api, hold, name, part, twin, what, clock)
            except Unavailable as error:
                _log.warning(
                    "part %s of job %r: %s, %s, is not stopped yet: %s", part.number, name, twin.id, what, error
                )


async def stop(api: Service, hold: Hold, name: str, part: Part, twin: Batch, what: str, clock: Clock) -> Part:
    """Stop a batch of a part that is not the one that counts. It is known from now on, and left alone, also where it
    may not be stopped; what is refused for another reason is tried again when it is seen again."""
    words, known = f"cancelled {twin.id}, {what}", True
    try:
        twin = await api.cancel(twin.id)
    except Refused as error:
        words, known = f"{twin.id}, {what}, could not be cancelled: {error}", isinstance(error, Unauthorized)
    _log.warning("part %s of job %r: %s", part.number, name, words)
    if not known:
        await deeds.told_of_twin(hold, part, at=clock.now(), words=words)
        return part
    before = next((batch for batch in part.batches if batch.id == twin.id and batch.service == part.service), None)
    if before is not None:  # its rows are told of as of a lost batch's
        twin = replace(before, errors=(*before.errors, ServiceError(STOPPED, words)))
    return await deeds.twin(hold, part, twin, at=clock.now(), words=words)


async def _keep(work: Work, part: Part, found: Twins) -> Part:
    current = part.batch
    keep = found.keep if part.state is State.RUNNING or current is None else current
    for twin in (batch for batch in (found.keep, *found.drop) if batch.identity != keep.identity and not batch.ended):
        what = f"a twin of {keep.id}"
        part = await stop(work.api(part), work.hold, work.job.name, part, twin, what, work.clock)
    if current is not None and keep.identity == current.identity:
        return part
    return await work.move(part, part.state, event=f"kept {keep.id}, which was created first", batch=keep)
