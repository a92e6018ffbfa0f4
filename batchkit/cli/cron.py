"""`run --once` where nothing is due: known from the ledger alone, without reading the input or loading the network."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from batchkit import metrics
from batchkit.cli.endings import ended, judge
from batchkit.cli.making import Making
from batchkit.cli.options import Where
from batchkit.cli.printer import Face, when
from batchkit.cli.printer import rows as counted
from batchkit.cli.telling import Telling
from batchkit.config.targets import load_target
from batchkit.disk import stamp
from batchkit.errors import Unfinished
from batchkit.ledger import Ledger, open_ledger
from batchkit.model import Job
from batchkit.model.due import due_at, is_due, is_over

T = TypeVar("T")


def fingerprint(where: Where, source: str, making: Making, asked: Mapping[str, object]) -> str | None:
    """What tells that the same input is meant as before; None where that cannot be told without reading it."""
    if making.sql is not None or making.image is not None or ":" in (making.schema or ""):
        return None
    named = (source, making.template, making.schema)
    files = [stamp(Path(path)) for path in named if path is not None]
    if None in files:
        return None
    target = load_target(where.target, config=where.config)
    words = repr((socket.gethostname(), target.service, target.deployment, files, making, sorted(asked.items())))
    return hashlib.sha256(words.encode()).hexdigest()


def outage(where: Where) -> Path:
    """The mark by which an outage is said once an hour: on this machine, whose cron it is that sends mails."""
    return open_ledger(where.ledger)[1].root / ".outage"


def rest(face: Face, where: Where, telling: Telling, known_as: str | None, out: Path | None) -> bool:
    """Whether nothing is to be done now for the job that this input is: its results are written, which ends the command
    as it did before; or its next turn is not due, which is raised as Unfinished."""
    if known_as is None or face.as_json:
        return False
    known = _ask(where, lambda ledger: ledger.known_source(known_as))
    if known is None:
        return False
    job, written = known
    there = out is not None and written is not None and written == stamp(out, ours=True)
    if is_over(job, written=there):
        if _untold(where, telling, job):
            return False
        face.repeats = True
        face.data({}, [f"{out}: {ended(job)}"])
        judge(face, [job])
        return True
    interval_s, now = load_target(where.target, config=where.config).poll_interval_s, time.time()
    due = due_at(job, interval_s)
    if due is None or is_due(job, interval_s, now):
        return False
    words = f"job {job.name!r} is not finished: {job.status or job.state}, {counted(job)}"
    raise Unfinished(f"{words}; the next look is due at {when(due)}", hint="the same command again later")


def _untold(where: Where, telling: Telling, job: Job) -> bool:
    """Whether somebody is to be told of a job's end, which came where nobody was."""
    target = load_target(where.target, config=where.config)
    if not (telling.on_done or telling.on_change or target.notify):
        return False
    from batchkit.notify import due

    events = _ask(where, lambda ledger: ledger.events(job))
    return bool(due(job, events, [*telling.commands, *target.notify]))


def all_rest(where: Where) -> list[Job] | None:
    """The unfinished jobs of the ledger, if none of them is due now."""
    jobs = _ask(where, lambda ledger: ledger.jobs(unfinished=True))
    interval_s = load_target(where.target, config=where.config).poll_interval_s if jobs else 0.0
    return None if any(is_due(job, interval_s, time.time()) for job in jobs) else jobs


def measure(where: Where, telling: Telling) -> None:
    """Write the metrics of the ledger as it stands, whether or not anything is due."""
    if (path := telling.metrics_file) is not None and not where.emulator:
        _ask(where, lambda ledger: metrics.measure(ledger, path, time.time()))


def _ask(where: Where, question: Callable[[Ledger], Awaitable[T]]) -> T:
    async def work() -> T:
        ledger, _ = open_ledger(where.ledger)
        try:
            return await question(ledger)
        finally:
            await ledger.close()

    return asyncio.run(work())
