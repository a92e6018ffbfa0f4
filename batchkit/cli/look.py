"""Commands that only look: list, show."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from batchkit.cli import documents, rehearsal
from batchkit.cli.jobs import JobName
from batchkit.cli.options import Where
from batchkit.cli.printer import Face, csv_lines, held, table, when
from batchkit.cli.session import opened
from batchkit.errors import UsageError
from batchkit.model import STATUSES, Job, Part, State
from batchkit.text import duration, plural
from batchkit.tracker.query import Query, Remote, moment


def list_jobs(
    face: Face,
    where: Where,
    status: Annotated[
        str | None, typer.Option("--status", help="The service's word: completed, in_progress, failed, …")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Our word: running, ended, settled, …")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Names like this, with * and ?.", metavar="GLOB")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Jobs of this target.", metavar="TARGET")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Made since then: 8h, 3d, 2025-11-22.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Made before then.")] = None,
    ended_since: Annotated[str | None, typer.Option("--ended-since", help="Ended since then.")] = None,
    ended_until: Annotated[str | None, typer.Option("--ended-until", help="Ended before then.")] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", help="With --remote: key=value of the batch; repeatable."),
    ] = None,
    order: Annotated[str, typer.Option("--order", help="newest or oldest first.")] = "newest",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to a page.")] = 50,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this one.", metavar="JOB")] = None,
    remote: Annotated[bool, typer.Option("--remote", help="The service's batches instead, ours and others'.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """The jobs of the ledger, or the batches at the service. Without --remote nothing is asked of the service.

    Example: batchkit list --status completed --since 8h
    """
    now = time.time()
    _check(order, status, state)
    query = Query(
        status=status,
        state=state,
        name=name,
        target=to,
        since=moment(since, now) if since else None,
        until=moment(until, now) if until else None,
        ended_since=moment(ended_since, now) if ended_since else None,
        ended_until=moment(ended_until, now) if ended_until else None,
        metadata=dict(map(_pair, metadata or [])),
        oldest_first=order == "oldest",
        limit=limit,
        after=after,
    )
    if remote:
        _refuse_remote(state, to, ended_since or ended_until)
        shape = csv_lines if as_csv else table
        with opened(face, where) as session:
            found = session.act(lambda client: client.list_remote(query))
        face.data(documents.batches(found.batches, found.after), shape(_REMOTE, map(_remote_row, found.batches)))
        _more(face, len(found.batches), found.after, "batch", " --remote")
        return
    if metadata:
        raise UsageError("--metadata is asked of batches", hint="add --remote")
    with opened(face, where, offline=True) as session:
        page = session.act(lambda client: client.list(query))
    created = "CREATED" if as_csv or not where.emulator else "CREATED (EMULATOR'S TIME)"
    header = ("NAME", "STATE", "STATUS", "ROWS", "OK", "FAILED", "MISSING", "PENDING", created)
    rows = map(_row, page.jobs)
    words = csv_lines(header, rows) if as_csv else table(header, rows, folds=[header.index(created)])
    face.data(documents.jobs(page.jobs, page.after), words)
    if not as_csv:
        waiting = [(job, held(job, emulated=where.emulator)) for job in page.jobs]
        face.say(*(f"{job.name}: {why}" for job, why in waiting if why))
    _more(face, len(page), page.after, "job", "")
    if not (page.jobs or where.emulator) and (rehearsal.home(where.ledger) / "ledger.sqlite3").is_file():
        face.next("batchkit list --emulator  # those of the emulator are in a ledger of their own")


_REMOTE = ("BATCH", "STATUS", "ROWS", "OK", "FAILED", "CREATED", "JOB")


def _more(face: Face, count: int, after: str | None, what: str, flags: str) -> None:
    if not count:
        face.say(f"no {what} matches")
    if after:
        face.next(f"batchkit list{flags} --after {after}  # with the same filters")


def _check(order: str, status: str | None, state: str | None) -> None:
    if order not in ("newest", "oldest"):
        raise UsageError(f"--order is newest or oldest, not {order!r}", hint="--order newest, or oldest")
    if state is not None and state.lower() not in list(State):
        raise UsageError(f"--state {state!r} is none of ours", hint=f"one of {', '.join(State)}")
    if status is not None and status.lower() not in STATUSES:
        known = ", ".join(sorted(STATUSES))
        raise UsageError(f"--status {status!r} is none of the service's", hint=f"one of {known}")


def _refuse_remote(state: str | None, to: str | None, ended: str | None) -> None:
    """What only the ledger knows cannot be asked of the service."""
    for flag, value in (("--state", state), ("--to", to), ("--ended-since or --ended-until", ended)):
        if value:
            raise UsageError(f"{flag} is asked of the ledger", hint="leave --remote away; -t names the service")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--metadata {text!r} is not key=value", hint="--metadata batchkit_job=…")
    return key, value


def _remote_row(item: Remote) -> tuple[str, ...]:
    batch, counts = item.batch, item.batch.counts
    numbers = (str(counts.total), str(counts.completed), str(counts.failed)) if counts else ("", "", "")
    return batch.id, batch.status, *numbers, when(batch.created_at), item.job or ""


def show(
    face: Face,
    where: Where,
    job: JobName,
    parts: Annotated[bool, typer.Option("--parts", help="Each part with its file and batches.")] = False,
    events: Annotated[bool, typer.Option("--events", help="The job's diary.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Its batches as the service shows them now; a batch's id will do too.")
    ] = False,
) -> None:
    """One job: where it stands and what happened to it. Asks nothing of the service unless told to.

    Example: batchkit show nightly --parts --events
    """
    if remote:
        with opened(face, where) as session:
            seen = session.act(lambda client: client.show_remote(job))
        face.data(documents.batches(seen, None), table(_REMOTE, map(_remote_row, seen)))
        return
    with opened(face, where, offline=True) as session:
        found = session.act(lambda client: client.show(job))
    words = [f"{key + ':':12} {value}" for key, value in _facts(found, where)]
    if parts:
        header = ("PART", "STATE", "ROWS", "BYTES", "TARGET", "FILE", "BATCH", "STATUS")
        words += ["", *table(header, map(_part, found.parts))]
    if events:
        words += ["", *table(("AT", "PART", "WHAT", ""), [_event_row(found, i) for i in range(len(found.events))])]
    face.data(documents.job(found), words)


def _row(job: Job) -> tuple[str, ...]:
    rows = job.so_far
    counts = (rows.total, rows.ok, rows.failed, rows.missing if job.outcome else "", rows.pending or "")
    return job.name, job.state, job.status, *map(str, counts), when(job.created_at)


def _facts(job: Job, where: Where) -> list[tuple[str, str]]:
    end = job.settled_at
    facts = [
        ("job", f"{job.name} ({job.id})"),
        ("state", f"{job.state}, round {job.round}, {plural(len(job.parts), 'part')}"),
        ("status", job.status),
        ("rows", _rows(job)),
        ("service", f"{job.service} ({job.target})"),
        ("deployment", f"{job.deployment}, {job.url}"),
        ("created", when(job.created_at) + " (the emulator's time)" * where.emulator),
        ("settled", f"{when(end)}, after {duration(end - job.created_at)}" if end else ""),
        ("held", held(job, emulated=where.emulator)),
        ("content", f"sha256 {job.sha256}"),
    ]
    return [(key, value) for key, value in facts if value]


def _rows(job: Job) -> str:
    """The account of a job's rows as it stands."""
    rows = job.so_far
    missing = f" + {rows.missing} missing" if job.outcome else ""
    pending = f" + {rows.pending} pending" if rows.pending else ""
    return f"{rows.total} = {rows.ok} ok + {rows.failed} failed{missing}{pending}"


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
