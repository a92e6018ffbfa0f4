"""The late twin rule: of two batches for one part one goes on, and the other is stopped once any listing shows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import Refused, Unavailable
from batchkit.ledger import Hold, deeds
from batchkit.model import Batch, Part, State
from batchkit.uploader import reconcile
from batchkit.uploader.reconcile import Twins
from batchkit.uploader.work import Work

_log = logging.getLogger(__name__)


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
        for twin in reconcile.ours(part, alive):
            words = f"cancelled {twin.id}, a late twin of {part.batch.id if part.batch else 'nothing'}"
            try:
                await api.cancel(twin.id)
            except (Refused, Unavailable) as error:
                words = f"{twin.id}, a late twin, could not be cancelled: {error}"
            _log.warning("part %s of job %r: %s", part.number, name, words)
            await deeds.told_of_twin(hold, part, at=clock.now(), words=words)


async def cancel(work: Work, part: Part, twin: Batch, kept: str) -> Part:
    """Stop a twin of a part of this job; from now on it is known."""
    words = f"cancelled {twin.id}, a twin of {kept}"
    try:
        twin = await work.api(part).cancel(twin.id)
    except Refused as error:
        words = f"{twin.id}, a twin of {kept}, could not be cancelled: {error}"
    _log.warning("part %s of job %r: %s", part.number, work.job.name, words)
    return await deeds.twin(work.hold, part, twin, at=work.clock.now(), words=words)


async def _keep(work: Work, part: Part, found: Twins) -> Part:
    current = part.batch
    keep = found.keep if part.state is State.RUNNING or current is None else current
    for twin in (batch for batch in (found.keep, *found.drop) if batch.identity != keep.identity and not batch.ended):
        part = await cancel(work, part, twin, keep.id)
    if current is not None and keep.identity == current.identity:
        return part
    return await work.move(part, part.state, event=f"kept {keep.id}, which was created first", batch=keep)
