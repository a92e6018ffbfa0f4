"""Housekeeping at the service: our input files go once nobody needs them. Never a file that is not ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import BatchkitError
from batchkit.ledger import Hold
from batchkit.model import DONE, Next, Part, RemoteFile, State
from batchkit.uploader import reconcile

_log = logging.getLogger(__name__)
_NAME = re.compile(r"batchkit-([0-9a-f]{12})-\d+-\d{3,}-[0-9a-f]{12}\.jsonl")
FINISHED = frozenset({State.FETCHED, State.SETTLED, State.DROPPED})


async def turn(*, api: Service, hold: Hold, clock: Clock) -> Next:
    """Delete the input files of parts whose results are here, and what else bears their names.

    What cannot be deleted now is left for the next time, and expires in the end.
    """
    done = [part for part in (await hold.job()).parts if part.state in FINISHED and part.swept_at is None]
    if not done:
        return DONE
    try:
        listed = await api.files()
        for part in done:
            first, copies = reconcile.uploaded(part, listed)
            ours = {file.id for file in (first, *copies) if file is not None}
            for file_id in sorted(ours | ({part.file_id} if part.file_id else set())):
                await api.delete(file_id)
            await hold.move(part, part.state, at=clock.now(), swept_at=clock.now())
    except BatchkitError as error:
        _log.info("input files are left at the service for now: %s", error)
    return DONE


def job_of(file: RemoteFile) -> str | None:
    """The id of the job whose input a file is, by its name; None for what no batchkit made."""
    match = _NAME.fullmatch(file.filename)
    return match[1] if match and file.purpose in ("", "batch") else None


def needless(file: RemoteFile, parts: Iterable[Part]) -> bool:
    """Whether a file of a job with these `parts` is needed by none of them any more: they are finished, or know
    another file."""
    unfinished = [part for part in parts if part.state not in FINISHED]
    return all(file.id != part.file_id and file.filename != part.file_name for part in unfinished)
