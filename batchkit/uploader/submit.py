"""The uploader's turn: each part goes staged → file → batch, as far as certainty and quota allow.

Before each request that creates, the intent is durable in the ledger. A part found in an intent state is looked for
at the service before anything is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Settings, Target
from batchkit.disk import Workdir
from batchkit.errors import (
    BatchkitError,
    CancelWished,
    ConfigError,
    DiskFull,
    LocalError,
    Refused,
    Unavailable,
    Unfinished,
)
from batchkit.ledger import Hold
from batchkit.model import DONE, Next, Part, RemoteFile, State
from batchkit.uploader import batches, files, quota, twins
from batchkit.uploader.place import elsewhere, place, set_aside
from batchkit.uploader.staging import Rename
from batchkit.uploader.stop import stop
from batchkit.uploader.work import Work

_log = logging.getLogger(__name__)
WAITING = frozenset({State.STAGED, State.UPLOADING, State.UPLOADED, State.SUBMITTING})
WATCHED = frozenset({State.RUNNING, State.ENDED, State.FETCHED})


async def turn(
    *,
    target: Target,
    apis: Mapping[str, Service],
    hold: Hold,
    clock: Clock,
    settings: Settings,
    workdir: Workdir,
    rename: Rename,
) -> Next:
    """Do for every waiting part what can be done now; say when to look again.

    `apis` are the doors of the target's members, by their services. Raises Refused or Unavailable when the service
    will not take a part, Unfinished where another machine has what is to be sent, LocalError where it is lost; the
    ledger then says where each part stands.
    """
    while True:
        with suppress(CancelWished):  # told in its midst, the turn begins anew, as that of a cancelled job
            return await _turn(Work(await hold.job(), target, apis, hold, clock, settings, workdir, rename))


async def _turn(work: Work) -> Next:
    job, clock = work.job, work.clock
    step = _step if job.cancelled_at is None else stop
    nexts: list[Next] = []
    troubles: list[BatchkitError] = []
    for part in job.parts:
        if part.service in work.silent:
            continue
        try:
            later = await step(work, part)
        except DiskFull:
            raise
        except (ConfigError, Refused, Unavailable, LocalError, Unfinished) as error:
            if await set_aside(work, part, error):
                nexts.append(Next(clock.now(), str(error)))
                continue
            troubles.append(error)  # one part's trouble is not the others', but a silent service is everybody's there
            if isinstance(error, Unavailable) and job.cancelled_at is None:
                work.silent.add((await work.current(part)).service or "")
            continue
        if later is not None:
            nexts.append(later)
    if work.strange:
        few = ", ".join(f"{batch.id} ({batch.status})" for batch in work.strange[:3])
        more = f" and {len(work.strange) - 3} more" if len(work.strange) > 3 else ""
        words = "job %r: another ledger has the same rows in %s%s: they will be paid for twice"
        _log.warning(words, job.name, few, more)
    await _watch(work)
    if troubles:
        raise troubles[0]
    return min(nexts, key=lambda later: later.at or 0.0, default=DONE)


async def _step(work: Work, part: Part) -> Next | None:
    """Take one part as far as it goes; None when it runs."""
    if part.state not in WAITING:
        return None
    part = await elsewhere(work, part)
    if (wait := quota.waits(part, work.clock.now())) is not None:
        return wait
    if part.state is State.SUBMITTING:
        part, later = await batches.reconciled(work, part)
        return later if part.state is not State.UPLOADED else await _batch_of(work, part, None)
    if part.state is State.UPLOADING:
        part = await files.find_upload(work, part)
    if part.state is State.UPLOADED:
        return await _batch_of(work, part, None)
    part, later = await place(work, part)
    if later is not None:
        return later
    if (full := work.full.get((part.service, part.deployment))) is not None:
        return full
    part, file, later = await files.upload(work, part)
    return later if file is None else await _batch_of(work, part, file)


async def _batch_of(work: Work, part: Part, file: RemoteFile | None) -> Next | None:
    """From an uploaded file to a running batch."""
    if (full := work.full.get((part.service, part.deployment))) is not None:
        return full
    if (later := await batches.room(work, part)) is not None:
        return later
    if (later := await files.until_processed(work, part, file)) is not None:
        return later
    if await batches.look_first(work, part) is not None:
        return None
    return await batches.create(work, part)


async def _watch(work: Work) -> None:
    """Twins are looked for in whatever was listed, and once an interval where a creation is in doubt."""
    now = work.clock.now()
    for service, api in work.apis.items():
        interval = api.target.poll_interval_s
        doubted = [
            part
            for part in work.job.parts
            if part.service == service and part.doubt_at is not None and part.state in WATCHED
        ]
        due = [part for part in doubted if not now - interval < (part.listed_at or 0.0) <= now]
        if due or service in work.listings:
            await twins.of_job(work, service)
