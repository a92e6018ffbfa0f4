"""Several jobs followed together: each in its turn, one list for all, and a look into the ledger for those that another
process works on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from batchkit.clock import Clock
from batchkit.errors import BatchkitError, Interrupted, LedgerBusy, LedgerUnreachable, Unavailable
from batchkit.ledger import Ledger
from batchkit.model import Job, State
from batchkit.tracker.lookout import Lookout

BUSY_S = 5.0
"""How soon the ledger is read again for a job that another process works on."""
DIARY = 1000
"""How many of the latest lines of its diary a job is shown with."""
_STILL = frozenset({State.ENDED, State.FETCHED, State.SETTLED, State.DROPPED})


@dataclass(frozen=True)
class Watched:
    """One job as it stands: `next_look_at` in Unix seconds, None when there is nothing more to look for; `busy` says
    who works on it where that is not this process; `trouble` is what its last turn met with."""

    job: Job
    next_look_at: float | None = None
    busy: str = ""
    trouble: BatchkitError | None = None


async def watch(
    jobs: Sequence[Job],
    act: Callable[[Job], Awaitable[float | None]],
    *,
    ledger: Ledger,
    lookout: Lookout,
    clock: Clock,
    poll_interval_s: float,
    settled: bool,
    sleep_until: Callable[[float, Job], Awaitable[None]],
) -> AsyncGenerator[list[Watched], None]:
    """Yield all jobs at once and after each round of turns, until no batch moves any more or, with `settled`, until all
    is collected.

    `act` takes one turn of a job and says when its next is due, if one is. One job's trouble is not the others': it is
    shown, and tried again where the service or the ledger only could not be had.
    """
    watched = [Watched(job, 0.0) for job in jobs]
    yield watched
    while True:
        due = [item for item in watched if item.next_look_at is not None and item.next_look_at <= clock.now()]
        lookout.expect(item.job for item in due)
        for item in due:
            watched[watched.index(item)] = await _turn(item.job, act, ledger, clock, poll_interval_s, settled)
        yield watched
        later = [(item.next_look_at, index) for index, item in enumerate(watched) if item.next_look_at is not None]
        if not later:
            return
        at, index = min(later)
        await sleep_until(at, watched[index].job)


async def _turn(
    job: Job,
    act: Callable[[Job], Awaitable[float | None]],
    ledger: Ledger,
    clock: Clock,
    poll_interval_s: float,
    settled: bool,
) -> Watched:
    busy, trouble, due = "", None, None
    if not _over(job, settled):
        try:
            due = await act(job)
        except Interrupted:
            raise
        except LedgerBusy as error:
            busy = str(error)
        except BatchkitError as error:
            trouble = error
    try:
        job = await ledger.job(job)
        job = replace(job, events=tuple(await ledger.events(job, latest=DIARY)))
    except LedgerUnreachable as error:  # the job is shown as it was
        trouble = trouble or error
    lasts = trouble is not None and not isinstance(trouble, (Unavailable, LedgerUnreachable))
    if lasts or (_over(job, settled) and not isinstance(trouble, LedgerUnreachable)):
        return Watched(job, None, busy, trouble)
    return Watched(job, due or clock.now() + (BUSY_S if busy else poll_interval_s), busy, trouble)


def _over(job: Job, settled: bool) -> bool:
    return job.settled_at is not None or (not settled and all(part.state in _STILL for part in job.parts))
