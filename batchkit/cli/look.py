"""Commands that only look: list, show, doctor."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from batchkit.cli import documents
from batchkit.cli.jobs import JobName
from batchkit.cli.options import Where
from batchkit.cli.printer import Face, table, when
from batchkit.cli.printer import rows as counted
from batchkit.cli.session import opened
from batchkit.errors import UsageError
from batchkit.model import Job, Part, State
from batchkit.text import duration
from batchkit.tracker.query import Query, moment


def list_jobs(
    face: Face,
    where: Where,
    status: Annotated[
        str | None, typer.Option("--status", help="The service's word: completed, in_progress, failed, …")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Our word: running, ended, settled, …")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Names like this, with * and ?.", metavar="GLOB")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Made since then: 8h, 3d, 2025-11-22.")] = None,
    order: Annotated[str, typer.Option("--order", help="newest or oldest first.")] = "newest",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many jobs a page.")] = 50,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this job.", metavar="JOB")] = None,
) -> None:
    """The jobs of the ledger. Asks nothing of the service.

    Example: batchkit list --status completed --since 8h
    """
    if order not in ("newest", "oldest"):
        raise UsageError(f"--order is newest or oldest, not {order!r}")
    if state is not None and state.lower() not in list(State):
        raise UsageError(f"--state {state!r} is none of ours", hint=f"one of {', '.join(State)}")
    query = Query(
        status=status,
        state=state,
        name=name,
        since=moment(since, time.time()) if since else None,
        oldest_first=order == "oldest",
        limit=limit,
        after=after,
    )
    with opened(face, where, offline=True) as session:
        page = session.act(lambda client: client.list(query))
    header = ("NAME", "STATE", "STATUS", "ROWS", "OK", "FAILED", "CREATED")
    face.data(documents.jobs(page.jobs, page.after), table(header, map(_row, page.jobs)))
    if not page.jobs:
        face.say("no job matches")
    if page.after:
        face.next(f"batchkit list --after {page.after}  # with the same filters")


def show(
    face: Face,
    where: Where,
    job: JobName,
    parts: Annotated[bool, typer.Option("--parts", help="Each part with its file and batches.")] = False,
    events: Annotated[bool, typer.Option("--events", help="The job's diary.")] = False,
) -> None:
    """One job: where it stands and what happened to it. Asks nothing of the service.

    Example: batchkit show nightly --parts --events
    """
    with opened(face, where, offline=True) as session:
        found = session.act(lambda client: client.show(job))
    words = table(("", ""), [(f"{key}:", value) for key, value in _facts(found)])[1:]
    if parts:
        header = ("PART", "STATE", "ROWS", "BYTES", "TARGET", "FILE", "BATCH", "STATUS")
        words += ["", *table(header, map(_part, found.parts))]
    if events:
        words += ["", *table(("AT", "PART", "WHAT", ""), [_event_row(found, i) for i in range(len(found.events))])]
    face.data(documents.job(found), words)


def doctor(face: Face, where: Where) -> None:
    """Look whether endpoint, credential, service and ledger are fit for work.

    Example: batchkit doctor
    """
    with opened(face, where) as session:
        found = session.act(lambda client: client.doctor())
    words = [
        f"{finding.verdict:<8} {finding.what}: {finding.message}"
        + (f"\n         {finding.hint}" if finding.hint else "")
        for finding in found
    ]
    face.data(documents.findings(found), (line for item in words for line in item.splitlines()))
    if code := next((finding.exit for finding in found if finding.verdict == "problem"), 0):
        raise SystemExit(code)


def _row(job: Job) -> tuple[str, ...]:
    counts, outcome = job.counts, job.outcome
    ok, failed = (outcome.ok, outcome.failed) if outcome else (counts.completed, counts.failed)
    return job.name, job.state, job.status, str(job.lines), str(ok), str(failed), when(job.created_at)


def _facts(job: Job) -> list[tuple[str, str]]:
    counts, outcome = job.counts, job.outcome
    rows = counted(counts)
    if outcome:
        rows = f"{outcome.total} = {outcome.ok} ok + {outcome.failed} failed + {outcome.missing} missing"
    end = job.settled_at
    facts = [
        ("job", f"{job.name} ({job.id})"),
        ("state", f"{job.state}, round {job.round}, {len(job.parts)} part{'s' if len(job.parts) != 1 else ''}"),
        ("status", job.status),
        ("rows", rows),
        ("service", f"{job.service} ({job.target})"),
        ("deployment", f"{job.deployment}, {job.url}"),
        ("created", when(job.created_at)),
        ("settled", f"{when(end)}, after {duration(end - job.created_at)}" if end else ""),
        ("held", job.held or ""),
        ("content", f"sha256 {job.sha256}"),
    ]
    return [(key, value) for key, value in facts if value]


def _part(part: Part) -> tuple[str, ...]:
    batch = part.batch
    return (
        f"{part.round}-{part.number}",
        part.state,
        str(part.lines),
        str(part.bytes),
        part.target or "",
        part.file_id or "",
        batch.id if batch else "",
        batch.status if batch else "",
    )


def _event_row(job: Job, index: int) -> tuple[str, ...]:
    event = job.events[index]
    return when(event.at), "" if event.part is None else str(event.part), event.kind, event.detail
