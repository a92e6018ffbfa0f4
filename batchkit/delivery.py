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
from batchkit.errors import BatchkitError, Unfinished
from batchkit.hints import in_python
from batchkit.ledger import WROTE, Hold
from batchkit.logs import ENDED_BADLY
from batchkit.model import Job, State
from batchkit.pump import Pump
from batchkit.text import duration

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
    if job.collected and not results.report.ok and (wrong := verdict(job, results.report)) is not None:
        _log.warning("job %r has no good row: %s; next: %s", job.name, wrong, in_python(wrong.hint))
    if any(part.service and part.swept_at is None for part in job.parts):
        # The results are here: what keeps the input files from being deleted now, a later call meets again.
        with suppress(BatchkitError):
            async with aclosing(pump.run(job, [Pump.sweep], once=True, hold=hold)) as turns:
                async for _ in turns:
                    pass
    return results


async def merged(pump: Pump, job: Job, out: Path | None, shape: Shape, *, overwrite: bool) -> Results:
    """What is on this machine of a job, whoever works on it."""
    ours = {event.detail for event in await pump.ledger.events(job) if event.kind == WROTE}
    results = await asyncio.to_thread(collect, job, pump.workdir, out, shape, None if overwrite else ours)
    if results.sha256 is not None and results.sha256 not in ours:
        await pump.ledger.wrote(job, results.sha256, at=pump.clock.now())
    return results


def _unfinished(job: Job, now: float) -> Unfinished:
    counts = job.counts
    seen = max((batch.looked_at or 0.0 for part in job.parts for batch in part.batches), default=0.0)
    ago = f", as seen {duration(now - seen)} ago" if seen else ""
    return Unfinished(
        f"job {job.name!r} is not finished: {job.status or job.state}, "
        f"{counts.completed + counts.failed} of {counts.total} rows{ago}",
        hint=f"batchkit track {quote(job.name)}  # or the same command again later",
    )
