"""The collector's turn: the output and error file of every ended batch, whole and durable on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.disk import PIECE, PRIVATE, Workdir
from batchkit.errors import BatchkitError, NotFound, Refused, Unavailable
from batchkit.ledger import Hold
from batchkit.model import DONE, Batch, Next, Part, State

MOST_TRIES = 5
"""How often a result file that does not agree with what the service says of it is asked for."""


async def turn(*, api: Service, hold: Hold, clock: Clock, workdir: Workdir) -> Next:
    """Download what ended, and what this machine lost of what was fetched. One part's trouble is not the others'.

    Raises Unavailable when a file cannot be had whole now. A result file that is again and again not there, or differs
    from what the service says of it, is taken as it is: the account then names what is missing.
    """
    troubles: list[BatchkitError] = []
    for part in (await hold.job()).parts:
        if part.batch is None or not (part.state is State.ENDED or lost(part, workdir)):
            continue
        try:
            words = [await _download(api, *wanted, strict=part.tries < MOST_TRIES) for wanted in _wanted(part, workdir)]
        except (Unavailable, Refused) as error:
            await hold.move(part, part.state, at=clock.now(), event=str(error), tries=part.tries + 1)
            troubles.append(error)
            continue
        event = f"output {words[0]}, errors {words[1]}"
        await hold.move(part, State.FETCHED, at=clock.now(), event=event, tries=0)
    if troubles:
        raise troubles[0]
    return DONE


def _wanted(part: Part, workdir: Workdir) -> list[tuple[str | None, Path, int]]:
    """The result files of a part: id, place, and how many rows the service counts in it at least.

    What was fetched before and is still here is not asked for again.
    """
    batch = part.batch or Batch("", "")
    completed = batch.counts.completed if batch.counts else 0
    files = [(batch.output_file_id, workdir.output(part), completed), (batch.error_file_id, workdir.error(part), 0)]
    if part.state is State.ENDED:
        return files
    return [(None if path.exists() else file_id, path, rows) for file_id, path, rows in files]


def lost(part: Part, workdir: Workdir) -> bool:
    """Whether a result file that was fetched is not on this machine any more."""
    if part.state not in (State.FETCHED, State.SETTLED) or part.batch is None:
        return False
    wanted = (part.batch.output_file_id, workdir.output(part)), (part.batch.error_file_id, workdir.error(part))
    return any(file_id is not None and not path.exists() for file_id, path in wanted)


async def _download(api: Service, file_id: str | None, path: Path, rows: int, *, strict: bool) -> str:
    """One result file, and how it was, in words. None is as good as an empty one: the service does either."""
    if file_id is None:
        return "none"
    try:
        announced = (await api.file(file_id)).bytes
        size = await api.content(file_id, path, announced)
    except NotFound as error:
        if strict:
            raise Unavailable(f"the result file {file_id} is not at the service: {error}") from None
        await asyncio.to_thread(path.touch, PRIVATE)  # what is there stays
        return f"{file_id} gone from the service"
    whole = announced == size if announced is not None else await asyncio.to_thread(_whole, path, rows)
    if strict and not whole:
        await asyncio.to_thread(path.unlink)
        raise Unavailable(f"the result file {file_id} came incomplete ({size} of {announced or '?'} bytes)")
    return f"{size} bytes{'' if whole else ', taken though it seems incomplete'}"


def _whole(path: Path, rows: int) -> bool:
    """Whether a file of unknown size is whole: its last line is JSON, and it has the rows the service counted."""
    last, count = b"{}", 0
    with path.open("rb", buffering=PIECE) as file:
        for last in file:  # noqa: B007  (the last one is looked at)
            count += 1
    try:
        orjson.loads(last)
    except orjson.JSONDecodeError:
        return False
    return count >= rows
