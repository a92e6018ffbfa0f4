"""The end of a job: its results merged and written where they are wanted, settled, and swept."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from pathlib import Path
from shlex import quote

from batchkit.collector.export import Shape
from batchkit.collector.results import Results, collect
from batchkit.collector.verdict import verdict
from batchkit.disk import already_there, sha256
from batchkit.engine.pump import Pump
from batchkit.errors import BatchkitError, LedgerBusy, Unfinished, UsageError
from batchkit.given import advise
from batchkit.ledger import WROTE, Hold
from batchkit.logs import ENDED_BADLY
from batchkit.model import Job, State
from batchkit.text import duration, plural

_log = logging.getLogger(ENDED_BADLY)


async def deliver(
    pump: Pump, job: Job, out: Path | None, shape: Shape, *, overwrite: bool, partial: bool, hold: Hold | None = None
) -> Results:
    """The results of a job as it stands, written to `out`; a job whose rows are all here is settled. `hold` is its
    lease where somebody keeps it already.

    Raises Unfinished while rows are not back, unless `partial`.
    """
    if not job.collected and not partial:
        raise _unfinished(job, pump.clock.now())
    results = await merged(pump, job, out, shape, overwrite=overwrite)
    if job.collected and (job.settled_at is None or any(part.state is State.FETCHED for part in job.parts)):
        await pump.settle(job, results.report.outcome, hold)
        results.news = True
    elif job.settled_at is not None and pump.notifier.channels:
        with suppress(LedgerBusy):  # who works on it may be telling it
            await pump.tell_end(job, hold)  # it ended where nobody was to be told
    if job.collected and not results.report.ok and (wrong := verdict(job, results.report)) is not None:
        advise(_log, f"job {job.name!r} has no good row: {wrong}", f"next: {wrong.hint}")
    if any(part.service and part.swept_at is None for part in job.parts):
        # The results are here: what keeps the input files from being deleted now, a later call meets again.
        with suppress(BatchkitError):
            async with aclosing(pump.run(job, [Pump.sweep], once=True, hold=hold)) as turns:
                async for _ in turns:
                    pass
    return results


JOINED = "joined"
"""What stands behind the hash of results that have columns of the input."""


async def merged(pump: Pump, job: Job, out: Path | None, shape: Shape, *, overwrite: bool) -> Results:
    """What is on this machine of a job, whoever works on it."""
    ours, joined = await _written(pump, job)
    if out is not None and shape.rows is None and not overwrite:
        await asyncio.to_thread(_keep_joined, out, joined)
    new = out is not None and not await asyncio.to_thread(out.exists)
    results = await asyncio.to_thread(collect, job, pump.workdir, out, shape, None if overwrite else ours)
    if results.sha256 is not None and results.sha256 not in ours:
        words = results.sha256 if shape.rows is None else f"{results.sha256} {JOINED}"
        await pump.ledger.wrote(job, words, at=pump.clock.now())
        new = True
    results.news = new
    return results


async def foresee(pump: Pump, job: Job, out: Path | None, shape: Shape, *, overwrite: bool) -> None:
    """Raise UsageError for what is at `out` before something is spent on the job, as `merged` would at last."""
    if out is None or overwrite:
        return
    ours, joined = await _written(pump, job)
    if shape.rows is None:
        await asyncio.to_thread(_keep_joined, out, joined)
    if await asyncio.to_thread(out.exists) and await asyncio.to_thread(sha256, out) not in ours:
        raise already_there(out)


async def _written(pump: Pump, job: Job) -> tuple[set[str], set[str]]:
    """The hashes of the files of results that were written for a job, and of those with columns of the input."""
    wrote = [event.detail.partition(" ") for event in await pump.ledger.events(job) if event.kind == WROTE]
    return {digest for digest, _, _ in wrote}, {digest for digest, _, how in wrote if how == JOINED}


def _keep_joined(out: Path, joined: set[str]) -> None:
    """Refuse to write results over the same with the input's columns, which would be gone."""
    if joined and out.is_file() and sha256(out) in joined:
        hint = "add --join ROWS to keep them, or --overwrite, or choose another -o"
        raise UsageError(f"{out} has the input's columns, which these results have not", hint=hint)


def _unfinished(job: Job, now: float) -> Unfinished:
    rows = job.so_far
    seen = max((batch.looked_at or 0.0 for part in job.parts for batch in part.batches), default=0.0)
    ago = f", as seen {duration(now - seen)} ago" if seen else ""
    name = quote(job.name)
    give_up = f"; batchkit cancel {name} --give-up ends it without that" if job.owed else ""
    return Unfinished(
        f"job {job.name!r} is not finished: {(job.owed and job.held) or job.status or job.state}, "
        f"{rows.total - rows.pending} of {plural(rows.total, 'row')}{ago}",
        hint=f"batchkit track {name}  # or the same command again later{give_up}",
    )
