"""The collector's turn: the output and error file of every ended batch, whole and durable on this machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.collector import restore
from batchkit.collector.answers import lost
from batchkit.collector.verify import Look, look
from batchkit.disk import PRIVATE, Workdir, place
from batchkit.errors import BatchkitError, LocalError, NotFound, Redirected, Refused, Unauthorized, Unavailable
from batchkit.ledger import Hold, deeds
from batchkit.model import DONE, SILENT_S, Batch, Next, Part, State
from batchkit.text import visible

MOST_TRIES = 5
"""How often a result file is asked for again that the way here may have cut, or that is not there: the latter for an
hour at least, since gateways give a 404 too."""
MORE_TRIES = 1
"""How often one is that came whole, and whose rows are not those that the service counts: it may yet have been written
to. Nothing in the service's documentation says that such a file changes."""
ABSENT = "is not at the service"
"""What the diary says of a result file that is not there: from the first such line on the hour is counted."""
DOWNLOADS = 3
"""How many parts are downloaded at the same time."""


async def turn(*, api: Service, hold: Hold, clock: Clock, workdir: Workdir, give_up: bool = False) -> Next:
    """Download what ended, and what this machine lost of what was fetched. One part's trouble is not the others'.

    Raises Unavailable when a file cannot be had whole now. A result file that is not there for long, or again and again
    differs from what the service says of it, is taken as it is: the account then names what is missing. One that the
    service refuses raises Refused, or with `give_up` is done without; so is one that the service has failed to give for
    long. Raises LocalError for what was fetched elsewhere, or lost here, and is at the service no more.
    """
    job = await hold.job()
    desk = _Desk(api, hold, clock, workdir, give_up)
    room = asyncio.Semaphore(DOWNLOADS)

    async def one(part: Part) -> None:
        async with room:
            await desk.part(part, job.name)

    troubles: list[BaseException] = []
    parts = [part for part in job.parts if part.state is State.ENDED or lost(part, workdir)]
    for number in sorted({part.round for part in parts}):  # what a later round asked for is found in those before
        some = [one(part) for part in parts if part.batch and part.round == number]
        for trouble in await asyncio.gather(*some, return_exceptions=True):
            troubles += [trouble] if trouble is not None else []
    if troubles:
        raise troubles[0]
    return DONE


@dataclass(frozen=True)
class _Desk:
    """What a turn works with."""

    api: Service
    hold: Hold
    clock: Clock
    workdir: Workdir
    give_up: bool

    async def part(self, part: Part, name: str) -> None:
        """Get all of a part of the job of this name, and write down how that went."""
        patient = part.tries < MOST_TRIES or not await self._long_in_trouble(part, ABSENT)
        refused: list[str] = []
        try:
            await restore.lines(self.api, self.hold, part, self.workdir)
            words = [await self._get(file, part, name, refused, patient) for file in _wanted(part, self.workdir)]
        except (Unavailable, Refused) as error:
            tries = part.tries + isinstance(error, _Disagrees)  # an outage says nothing of the file
            await self.hold.move(part, part.state, at=self.clock.now(), event=str(error), tries=tries)
            raise
        held = part.held if part.state is State.ENDED else None
        event = f"output {words[0]}, errors {words[1]}"
        if refused:
            held = f"{'; '.join(refused)}; what ran of its rows is paid"
            event += f"; {held}"
        await self.hold.move(part, State.FETCHED, at=self.clock.now(), event=event, tries=0, held=held)

    async def _get(self, wanted: _Wanted, part: Part, name: str, refused: list[str], patient: bool) -> str:
        """Get a result file, and say how it was; one that is given up is `refused`."""
        at_once = self.give_up or part.state is not State.ENDED
        try:
            return await _fetch(self.api, self.workdir, wanted, part, give_up=at_once, patient=patient)
        except (Redirected, Refused, Unavailable) as error:
            if not self.give_up or not await self._is_hopeless(error, part):
                raise _explained(error, wanted, part, name, self.workdir) from None
            await asyncio.to_thread(wanted.path.touch, PRIVATE)  # what is there stays
            refused.append(visible(f"the result file {wanted.file_id} could not be had: {error}", 400))
            return f"{wanted.file_id} given up"

    async def _is_hopeless(self, error: BatchkitError, part: Part) -> bool:
        """Whether a file is given up for this: what may pass is waited for, for a while after it was first met."""
        if not isinstance(error, Unavailable):
            return True
        return not isinstance(error, _Disagrees) and await self._long_in_trouble(part)

    async def _long_in_trouble(self, part: Part, words: str = "") -> bool:
        since = await deeds.in_trouble_since(self.hold, part, words)
        return since is not None and self.clock.now() - since >= SILENT_S


class _Disagrees(Unavailable):
    """A result file is not there, or differs from what the service says of it."""

    hint = "the same command again asks for the file anew; if it stays so it is taken as it is, and every row is named"


@dataclass(frozen=True)
class _Wanted:
    """A result file to be had: its id, its place here, and how many rows the service counts in it at least."""

    file_id: str | None
    path: Path
    rows: int


def _wanted(part: Part, workdir: Workdir) -> list[_Wanted]:
    """The two result files of a part. What was fetched before and is still here is not asked for again."""
    batch = part.batch or Batch("", "")
    counts = batch.counts
    files = [
        _Wanted(batch.output_file_id, workdir.output(part), counts.completed if counts else 0),
        _Wanted(batch.error_file_id, workdir.error(part), 0),
    ]
    if part.state is State.ENDED:
        return files
    return [_Wanted(None, file.path, 0) if file.path.exists() else file for file in files]


def _elsewhere(job: str, part: Part, workdir: Workdir) -> LocalError:
    """What to do where the results of a job were fetched on another machine, or are lost."""
    home, name = quote(str(workdir.job(part.job_id))), quote(job)
    return LocalError(
        f"the results of part {part.number} of job {job!r} are on another machine, or lost: they are not in {home}",
        hint=f"run this on the machine that has them, or copy that directory here; batchkit cancel {name} --give-up "
        "does without them",
    )


def _explained(error: BatchkitError, wanted: _Wanted, part: Part, name: str, workdir: Workdir) -> BatchkitError:
    """The error, with what to do about it."""
    if isinstance(error, NotFound) and part.state is not State.ENDED:
        return _elsewhere(name, part, workdir)
    return _withheld(error, wanted, name) if isinstance(error, Refused) else error


def _withheld(error: Refused, wanted: _Wanted, name: str) -> Refused:
    """What to do about a result file that the service will not hand out."""
    door = (
        "the key or identity may not read this file: give it a role that may, such as 'Cognitive Services OpenAI "
        "Contributor'; then the same command again"
        if isinstance(error, Unauthorized)
        else "the same command again, if that may pass"
    )
    return type(error)(
        f"the result file {wanted.file_id} is not handed out: {error}",
        hint=f"{door}. batchkit cancel {quote(name)} --give-up ends the job without what is in it",
        status_code=error.status_code,
        service_code=error.service_code,
    )


async def _fetch(api: Service, workdir: Workdir, wanted: _Wanted, part: Part, *, give_up: bool, patient: bool) -> str:
    """Get one result file its place, and say how it was. None is as good as an empty one: the service does either.

    Raises NotFound for one that is not there: with `give_up` at once, else it is asked for again while `patient`, and
    then left empty.
    """
    file_id = wanted.file_id
    if file_id is None:
        return "none"
    coming = workdir.coming(wanted.path, file_id)
    announced = None
    with suppress(Redirected, Refused, Unavailable):  # it is only asked how large the file is
        announced = (await api.file(file_id)).bytes
    try:
        one_piece = await api.content(file_id, coming, announced)
    except NotFound as error:
        if give_up:
            raise
        if patient:
            raise _Disagrees(f"the result file {file_id} {ABSENT}: {error}") from None
        await asyncio.to_thread(wanted.path.touch, PRIVATE)  # what is there stays
        return f"{file_id} gone from the service"
    found = await asyncio.to_thread(look, coming, workdir.lines(part))
    short, odd = found.short(announced), found.odd(wanted.rows)
    whole = announced is not None and short is None and one_piece
    if (short or odd) and part.tries < (MORE_TRIES if whole else MOST_TRIES):
        if announced is None or found.bytes >= announced:  # else the next try goes on behind what is here
            await asyncio.to_thread(coming.unlink)
        if whole:
            raise _Disagrees(f"the result file {file_id} came whole, but {odd}; it is asked for once more")
        raise _Disagrees(f"the result file {file_id} came incomplete: {short or odd}; it is asked for again")
    if not found.exact:
        await asyncio.to_thread(workdir.inexact(wanted.path).touch, PRIVATE)
    await asyncio.to_thread(place, coming, wanted.path)
    return f"{file_id}: {_words(found)}" + (f", taken though {short or odd}" if short or odd else "")


def _words(found: Look) -> str:
    strange = f", {found.strange} of no row" if found.strange else ""
    return f"{found.bytes} bytes, {found.lines} lines{strange}, sha256 {found.sha256}"
