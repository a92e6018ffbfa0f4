"""Housekeeping at the service: our input files go once nobody needs them. Never a file that is not ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import BatchkitError
from batchkit.ledger import Hold
from batchkit.model import COLLECTED, DONE, Next, Part, RemoteFile

_log = logging.getLogger(__name__)
_NAME = re.compile(r"batchkit-([0-9a-f]{12})-\d+-\d{3,}-[0-9a-f]{12}\.jsonl")


async def turn(*, api: Service, hold: Hold, clock: Clock) -> Next:
    """Delete the input files of parts whose results are here, and what else bears their names.

    What cannot be deleted now is left for the next time, and expires in the end.
    """
    job = await hold.job()
    done = [part for part in job.parts if part.state in COLLECTED and part.swept_at is None]
    if not done:
        return DONE
    try:
        # By the names also those of parts that were cut, or went elsewhere, whose file outlived a crash.
        ours = {file for file in await api.files() if job_of(file) == job.id and needless(file, job.parts)}
        strays = {file.id for file in ours} - {part.file_id for part in done}
        if strays:  # an old ledger that was put back does not know all of its own batches
            strays -= {batch.input_file_id async for batch in api.batches() if not batch.ended}
        for file_id in sorted(strays):
            await api.delete(file_id)
        for part in done:
            if part.file_id is not None:
                await api.delete(part.file_id)
            await hold.move(part, part.state, at=clock.now(), swept_at=clock.now())
    except BatchkitError as error:
        _log.info("input files are left at the service for now: %s", error)
    return DONE


async def cleared(*, api: Service, hold: Hold, clock: Clock) -> bool:
    """Whether a turn made room at the service."""
    before = {part.id for part in (await hold.job()).parts if part.swept_at is not None}
    await turn(api=api, hold=hold, clock=clock)
    return any(part.swept_at is not None and part.id not in before for part in (await hold.job()).parts)


def job_of(file: RemoteFile) -> str | None:
    """The id of the job whose input a file is, by its name; None for what no batchkit made."""
    match = _NAME.fullmatch(file.filename)
    return match[1] if match and file.purpose in ("", "batch") else None


def needless(file: RemoteFile, parts: Iterable[Part]) -> bool:
    """Whether a file of a job with these `parts` is needed by none of them any more: they are finished, or know
    another file."""
    unfinished = [part for part in parts if part.state not in COLLECTED]
    return all(file.id != part.file_id and file.filename != part.file_name for part in unfinished)
