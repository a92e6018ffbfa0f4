"""Commands that act on jobs: submit, track, fetch, run, retry, cancel."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from batchkit.cli import complete, cron, documents, rows
from batchkit.cli.endings import ended, judge
from batchkit.cli.making import Making, parameter
from batchkit.cli.options import Where
from batchkit.cli.printer import Face, held, write_bytes
from batchkit.cli.printer import rows as counted
from batchkit.cli.session import opened
from batchkit.cli.telling import Telling
from batchkit.collector import verdict
from batchkit.collector.unusable import in_words
from batchkit.config import targets
from batchkit.errors import BatchkitError, Unfinished, UsageError
from batchkit.model import Job, Line, Report, State
from batchkit.text import plural
from batchkit.tracker.query import Query
from batchkit.wishes import Wishes

if TYPE_CHECKING:
    from batchkit.client import AsyncClient
    from batchkit.collector.results import Results

WAITING = frozenset({State.STAGED, State.UPLOADING, State.UPLOADED, State.SUBMITTING})
ENDED = frozenset({State.ENDED, State.FETCHED, State.SETTLED, State.DROPPED})

Name = Annotated[str | None, typer.Option("--name", help="The job's name. [default: the file's, and a hash]")]
JobName = Annotated[str, typer.Argument(help="A job's name or id.", metavar="JOB", autocompletion=complete.jobs)]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="csv, tsv, parquet, jsonl, or raw: the service's own lines. In csv and tsv a ' is put before what a "
        "spreadsheet would run as a formula (= + - @, unless it is a number); the others keep values as they are. "
        "[default: by the suffix]",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        help="Only these, in this order: custom_id,text,… Those of --join stay in front, unless some are named here.",
        metavar="NAME,NAME…",
    ),
]
Each = Annotated[bool, typer.Option("--each", help="A row for each embedding, where a request has several.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", help="Give up waiting after this long: 90, 30m, 36h. [default: never]")
]
Every = Annotated[
    float | None,
    typer.Option("--every", min=0.1, help="Seconds between looks; Azure asks for 60 or more. [default: the target's]"),
]
Once = Annotated[
    bool,
    typer.Option(
        "--once",
        help="Do what can be done now and leave, as for cron; with --quiet it says an end once, an outage hourly.",
    ),
]


def submit(
    face: Face,
    where: Where,
    lines: Annotated[Path, typer.Argument(help="A JSONL file of request lines.", metavar="LINES")],
    name: Name = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge the file; send nothing.")] = False,
    strict: rows.Strict = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for quota and slow files.")] = True,
) -> None:
    """Upload request lines and start their batches.

    Example: batchkit submit lines.jsonl --name nightly
    """
    if dry_run:
        rows.check(face, [lines], strict=strict)
        return
    with opened(face, where, strict=strict) as session:
        job = session.act(lambda client: client.submit(lines, name=name, wait=wait))
    face.data(documents.job(job), [f"{job.name}: {standing(face, job)}"])
    if any(part.state in WAITING for part in job.parts):
        raise Unfinished(f"not all of job {job.name!r} is submitted yet", hint="the same command again goes on")
    if job.collected:
        face.next(f"batchkit fetch {quote(job.name)} -o results.csv")
    else:
        face.next(f"batchkit track {quote(job.name)}")


def fetch(
    face: Face,
    where: Where,
    job: JobName,
    out: rows.Results = None,
    format: Format = None,
    columns: Columns = None,
    join: Annotated[
        Path | None,
        typer.Option("--join", help="The rows it was built from: their columns come first.", metavar="ROWS"),
    ] = None,
    each: Each = False,
    partial: Annotated[bool, typer.Option("--partial", help="What is back by now; other rows are pending.")] = False,
    overwrite: rows.Overwrite = False,
) -> None:
    """Download a job's results and merge them in input order.

    Example: batchkit fetch nightly -o results.csv --join rows.csv
    """
    out = rows.place(out)
    if out is not None and join is not None and out.resolve() == join.resolve():
        raise UsageError("the results would overwrite the rows", hint="choose another -o")
    wishes = Wishes(format=format, columns=_names(columns), join=join, each=each)
    with opened(face, where) as session:
        results = session.act(lambda client: client.fetch(job, out, overwrite=overwrite, partial=partial, **wishes))
        _deliver(face, results, out)


def run(
    face: Face,
    where: Where,
    making: Making,
    telling: Telling,
    source: Annotated[
        str | None,
        typer.Argument(
            help="Rows (with --prompt or --template), or a JSONL file of request lines. "
            "Left away, with --once: every job of the ledger that is due.",
            metavar="ROWS|LINES",
            show_default=False,
        ),
    ] = None,
    out: rows.Results = None,
    name: Name = None,
    join: Annotated[bool, typer.Option("--join", help="Put the columns of the input first.")] = False,
    once: Once = False,
    retries: Annotated[
        int, typer.Option("--retries", min=0, max=20, help="Ask again up to so often for rows that may yet succeed.")
    ] = 0,
    overwrite: rows.Overwrite = False,
    strict: rows.Strict = False,
    columns: Columns = None,
    format: Format = None,
    each: Each = False,
    every: Every = None,
    timeout: Timeout = None,
) -> None:
    """All of it: build, submit, track, fetch. Safe to repeat, safe to kill: the same command goes on.

    Example: batchkit run rows.csv -o out.csv -d gpt-4o-batch -p 'Sort: {text}'
    """
    out = rows.place(out)
    face.outage = cron.outage(where) if once else None
    if source is None:
        _run_due(face, where, telling, once)
        return
    if out is not None and out.resolve() == Path(source).resolve():
        raise UsageError("the results would overwrite the input", hint="choose another -o")
    _check_target(where)
    wishes = Wishes(format=format, columns=_names(columns), each=each)
    asked = {"name": name, "retries": retries, "join": join, **wishes}
    if join and not making.asked(source):
        hint = "add --prompt if it has rows; else batchkit fetch JOB -o results.csv --join ROWS, once it is done"
        raise UsageError(f"--join needs rows, and {source} is taken for request lines", hint=hint)
    if join:
        wishes |= Wishes(join=making.rows(source))
    known_as = None if where.emulator else cron.fingerprint(where, source, making, asked)
    cron.measure(where, telling)
    if once and cron.rest(face, where, telling, known_as, out):
        return
    with opened(face, where, every_s=every, telling=telling, strict=strict) as session:
        lines: Path | Iterable[Line] = Path(source)
        if making.asked(source):
            lines = making.lines(source, making.deployment or session.deployment)
        results = session.act(
            lambda client: client.run(
                lines,
                name=name,
                stem=Path(source).stem,
                out=out,
                overwrite=overwrite,
                once=once,
                timeout_s=seconds(timeout),
                fingerprint=known_as,
                retries=retries,
                **wishes,
            )
        )
        face.repeats = once and not results.news
        _deliver(face, results, out)


def _check_target(where: Where) -> None:
    """Refuse a file in a target's place: who names one means the template. Raises UsageError."""
    if where.target is not None and os.path.isfile(where.target):
        path = targets.file_of(where.config)
        if not path.exists() or where.target not in targets.read(path).get("targets", {}):
            words = f"-t is short for --target, and {where.target!r} is no target, but a file"
            raise UsageError(words, hint=f"is --template {quote(where.target)} meant?")


def _run_due(face: Face, where: Where, telling: Telling, once: bool) -> None:
    """One turn of every job that is due, for one line in a crontab."""
    if not once:
        raise UsageError("what is to be run?", hint="name ROWS or LINES, or add --once for every job that is due")
    troubles: list[BatchkitError] = []
    cron.measure(where, telling)
    if where.emulator or (found := cron.all_rest(where)) is None:
        with opened(face, where, telling=telling) as session:
            try:
                found = session.act(_turned_and_open)
            except BatchkitError as error:
                if not (error.done or error.also):
                    raise
                found, troubles = list(error.done), [*error.also, error]  # the others' ends are told now or never
    told = [job for job in found if job.settled_at is not None or not face.quiet]  # cron sends what is printed
    face.data(documents.jobs(tuple(found), None), [f"{job.name}: {ended(job) or standing(face, job)}" for job in told])
    judge(face, found, *troubles)
    if waiting := [job.name for job in found if not job.collected]:
        raise Unfinished(
            f"{plural(len(waiting), 'job')} not finished yet: {', '.join(waiting[:10])}", hint="batchkit list"
        )


async def _turned_and_open(client: AsyncClient) -> list[Job]:
    """The jobs that had their turn, and after them those that are unfinished all the same: not due, or held by another
    process."""
    turned = await client.run_due()
    ids = {job.id for job in turned}
    page = await client.list(Query(limit=sys.maxsize))
    return turned + [job for job in page if not job.collected and job.id not in ids]


def retry(
    face: Face,
    where: Where,
    job: JobName,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="Only rows with this error code, status, 4xx or 5xx, or answers that are cut_off, refused or "
            "off_schema (no JSON for a --schema); repeatable.",
            metavar="CODE",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", help="key=value for every body on the way, such as max_tokens=4000; repeatable."),
    ] = None,
    strict: rows.Strict = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the rows; send nothing.")] = False,
) -> None:
    """Ask again for the rows that failed for a passing reason, as a new round of the job.

    Example: batchkit retry nightly --only content_filter --param max_tokens=4000
    """
    params = dict(map(parameter, param or []))
    with opened(face, where, strict=strict) as session:
        found, count = session.act(lambda client: client.retry(job, only=only or (), params=params, dry_run=dry_run))
    verb = "to ask again" if dry_run else "asked again"
    face.data(documents.job(found), [f"{found.name}: {plural(count, 'row')} {verb}"])
    if not dry_run:
        face.next(f"batchkit track {quote(found.name)}")


def _deliver(face: Face, results: Results, out: Path | None) -> None:
    """The results where they were asked for, and the account of them."""
    report = results.report
    document = documents.report(report, str(out) if out else None)
    summary = _summary(report, out)
    if out is None and not face.as_json:
        for piece in results.pieces():
            write_bytes(piece)
        face.say(*summary)
    else:
        face.data(document, summary)
    results.raise_for_failures()
    if report.unusable:
        face.next(verdict.unusable(results.job, report))


def _summary(report: Report, out: Path | None) -> list[str]:
    pending = f" + {report.pending} pending" if report.pending else ""
    doubtful = f" ({in_words(report.unusable)})" if report.unusable else ""
    lines = [
        f"{out or report.job}: {plural(report.total, 'row')} = {report.ok} ok{doubtful} + {report.failed} failed + "
        f"{report.missing} missing{pending}"
    ]
    lines += [f"  {count} × {code}" for code, count in report.errors.items()]
    if report.input_tokens:
        lines.append(f"  {plural(report.input_tokens, 'token')} in, {report.output_tokens} out")
    return lines


def _names(columns: str | None) -> list[str] | None:
    """Column names as they are typed: with commas in between."""
    return None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]


def standing(face: Face, job: Job) -> str:
    words, waits = f"{job.status or job.state}, {counted(job)}", held(job, emulated=face.emulated)
    return f"{words}; {waits}" if waits else words


def seconds(text: str | None) -> float | None:
    """A duration as people write it: `90`, `30m`, `36h`, `2d`."""
    if text is None:
        return None
    try:
        unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:])
        return float(text) if unit is None else float(text[:-1]) * unit
    except ValueError:
        raise UsageError(f"--timeout {text!r} is not a duration", hint="write 90, 30m or 36h") from None
