"""The collector's turn: the output and error file of every ended batch, whole and durable on this machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.disk import Workdir
from batchkit.errors import NotFound, Unavailable
from batchkit.ledger import Hold
from batchkit.model import DONE, Batch, Next, State


async def turn(*, api: Service, hold: Hold, clock: Clock, workdir: Workdir) -> Next:
    """Download what ended. Raises Unavailable when a file cannot be had whole now, NotFound when it is gone."""
    for part in (await hold.job()).parts:
        if part.state is State.ENDED and part.batch:
            sizes = [
                await _download(api, part.batch, file_id, path)
                for file_id, path in (
                    (part.batch.output_file_id, workdir.output(part)),
                    (part.batch.error_file_id, workdir.error(part)),
                )
            ]
            words = f"output {sizes[0]} bytes, errors {sizes[1]} bytes"
            await hold.move(part, State.FETCHED, at=clock.now(), event=words)
    return DONE


async def _download(api: Service, batch: Batch, file_id: str | None, path: Path) -> int:
    """One result file; none is as good as an empty one, since the service does either when it has nothing to say."""
    await asyncio.to_thread(path.unlink, missing_ok=True)
    if file_id is None:
        return 0
    try:
        announced = (await api.file(file_id)).bytes
        size = await api.content(file_id, path)
    except NotFound:
        if file_id == batch.error_file_id and batch.counts and not batch.counts.failed:
            return 0
        raise NotFound(f"the result file {file_id} of batch {batch.id} is gone from the service") from None
    if (announced is not None and announced != size) or not await asyncio.to_thread(_ends_whole, path, size):
        raise Unavailable(f"the result file {file_id} came incomplete ({size} of {announced} bytes)")
    return size


def _ends_whole(path: Path, size: int) -> bool:
    """Whether the last line is closed: every line is a JSON object, so it ends in a brace or a newline."""
    if not size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"}\n"
