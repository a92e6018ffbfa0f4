"""Commands that stay with jobs until they end: track, cancel."""

from __future__ import annotations

import sys
from contextlib import aclosing
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from batchkit.cli import complete, documents
from batchkit.cli.endings import judge
from batchkit.cli.jobs import Every, JobName, Once, Timeout, seconds, standing
from batchkit.cli.options import Where
from batchkit.cli.printer import Face
from batchkit.cli.session import opened
from batchkit.cli.telling import Telling
from batchkit.errors import ResultError, Unfinished, UsageError
from batchkit.model import ENDED, GIVEN_UP, Job, State
from batchkit.text import plural
from batchkit.tracker.query import Query

if TYPE_CHECKING:
    from batchkit.client import AsyncClient
    from batchkit.engine.watch import Watched


STOPPING_S = 900.0
"""How long a cancelled job is waited for: Azure needs up to ten minutes."""


def track(
    face: Face,
    where: Where,
    telling: Telling,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(help="Names or ids of jobs.", metavar="JOB...", autocompletion=complete.jobs),
    ] = None,
    every_job: Annotated[bool, typer.Option("--all", help="Every unfinished job of the ledger.")] = False,
    once: Once = False,
    until: Annotated[
        str,
        typer.Option(
            "--until",
            help="ended: no batch moves any more; done, or with --on-done: the results are here too, and the exit code "
            "is 8 or 10 where rows failed or do not add up.",
        ),
    ] = "ended",
    every: Every = None,
    timeout: Timeout = None,
) -> None:
    """Follow jobs until nothing moves any more. Ctrl-C leaves them running.

    On a terminal a table, else a line when something changes; with --json one document a line after each look.

    Example: batchkit track nightly
    """
    if bool(jobs) == every_job:
        words = "which jobs? name them or give --all" if every_job is False else "give names or --all, not both"
        raise UsageError(words, hint="batchkit track JOB…, or batchkit track --all")
    until = "done" if telling.on_done else until
    if until not in ("ended", "done"):
        raise UsageError(f"--until is ended or done, not {until!r}")

    async def follow(client: AsyncClient) -> list[Watched]:
        last: list[Watched] = []
        face.remember(await client.list(Query(state=State.SETTLED)))
        async with aclosing(client.watch(jobs or (), timeout_s=seconds(timeout), settled=until == "done")) as steps:
            rounds = 0
            async for last in steps:
                face.watched(last)
                rounds += 1
                if once and rounds > 1:
                    break
        return last

    with opened(face, where, every_s=every, telling=telling) as session:
        last = session.act(follow, watching=face.following)
    _ended(face, last)
    if until == "done":
        judge(face, [item.job for item in last])


def _ended(face: Face, last: list[Watched]) -> None:
    """How jobs stood when they were last looked at, and what to type next."""
    if not last:
        face.say("no job is unfinished")
    if not face.as_json:
        face.data({}, [f"{item.job.name}: {standing(face, item.job)}" for item in last])
    if trouble := next((item.trouble for item in last if item.trouble is not None), None):
        raise trouble
    if moving := [item.job.name for item in last if item.next_look_at is not None]:
        names = " ".join(map(quote, moving[:10]))
        raise Unfinished(f"not finished yet: {', '.join(moving[:10])}", hint=f"batchkit track {names}")
    for item in last[:3]:
        face.next(f"batchkit fetch {quote(item.job.name)} -o {quote(item.job.name)}-results.csv")


def cancel(
    face: Face,
    where: Where,
    job: JobName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    give_up: Annotated[
        bool,
        typer.Option("--give-up", help="End it without what the service forgot, cannot show or will not hand out."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until it is stopped (up to 10 minutes) and collect.")
    ] = True,
) -> None:
    """Stop a job. Rows that are finished are kept, and billed.

    Example: batchkit cancel nightly --yes
    """
    if not yes:
        with opened(face, where, offline=True) as session:
            known = session.act(lambda client: client.show(job))
        settled = known.settled_at is not None and not give_up
        if not settled and not _confirmed(job, give_up=give_up):  # where nothing is to be stopped, no word is needed
            return
    if give_up:
        with opened(face, where) as session:
            _given_up(face, session.act(lambda client: client.cancel(job, give_up=True)))
        return
    with opened(face, where) as session:
        told, found = session.act(lambda client: _stop(client, face, job, wait=wait), watching=face.following)
    if _too_late(told):
        face.data(documents.job(found), [f"{found.name}: nothing to cancel, it is {told.held or told.status}"])
        name = quote(found.name)
        owed = told.owed and found.settled_at is None
        face.next(
            f"batchkit cancel {name} --give-up  # does not wait" if owed else f"batchkit fetch {name} -o results.csv"
        )
        return
    face.data(documents.job(found), [f"{found.name}: {standing(face, found)}", *_billed(found)])
    if found.settled_at is None:
        face.next(f"batchkit track {quote(found.name)}  # then fetch what was finished")
    elif found.counts.completed:
        face.next(f"batchkit fetch {quote(found.name)} -o results.csv")


async def _stop(client: AsyncClient, face: Face, job: str, *, wait: bool) -> tuple[Job, Job]:
    """A job as it was told to stop, and as it then came to rest."""
    told = last = await client.cancel(job)
    if wait and told.cancelled_at is not None and told.settled_at is None:
        async for step in client.watch([told], settled=True, timeout_s=STOPPING_S):
            if not face.as_json:  # it ends in one document
                face.watched(step)
            last = step[0].job
            if step[0].trouble is not None:
                raise step[0].trouble
    return told, last


def _too_late(told: Job) -> bool:
    """Whether there was nothing to stop any more."""
    over = told.state is State.RUNNING and told.status in ENDED - {"cancelled"}
    return told.cancelled_at is None or told.settled_at is not None or over


def _confirmed(job: str, *, give_up: bool) -> bool:
    if not sys.stdin.isatty():
        flags = "--give-up --yes" if give_up else "--yes"
        raise UsageError("cancelling needs your word", hint=f"batchkit cancel {quote(job)} {flags}")
    question = f"Cancel {job}? Finished rows are kept and billed."
    if give_up:
        question = (
            f"Give {job} up? Rows of batches that are not found are lost; a batch that lives is billed all the same."
        )
    return typer.confirm(question, err=True)


def _given_up(face: Face, job: Job) -> None:
    """What became of a job that the user gave up."""
    lost = [p.batch.id for p in job.parts if p.batch and any(error.code == GIVEN_UP for error in p.batch.errors)]
    words = [f"{job.name}: {standing(face, job)}"]
    if lost:
        few = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        words.append(f"  given up: {few}; what of it lives runs on at the service, and is billed")
    words += [f"  given up: part {part.number}: {part.held}" for part in job.parts if part.collected and part.held]
    face.data(documents.job(job), words)
    name, outcome = quote(job.name), job.outcome
    if outcome is None:
        moving = any(p.state is State.RUNNING and p.batch and not p.batch.ended for p in job.parts)
        shown = f"the service still shows batches of {job.name!r}: they were told to stop, and are not given up"
        raise Unfinished(
            shown if moving else f"job {job.name!r} is not ended yet: {standing(face, job)}",
            hint=f"batchkit track {name}" if moving else f"batchkit cancel {name} --give-up --yes  # again, later",
        )
    fetch = f"batchkit fetch {name} -o results.csv"
    if not outcome.balanced:
        missing = f"{outcome.missing} of its {plural(outcome.total, 'row')} are missing"
        raise ResultError(
            f"job {job.name!r} is ended, and {missing}", hint=f"{fetch}  # names them, and keeps the others"
        )
    face.next(fetch)


def _billed(job: Job) -> list[str]:
    """What a cancelled job costs, as far as that is known by now."""
    done = sum(part.batch.counts.completed for part in job.parts if part.batch and part.batch.counts)
    if not any(part.batch for part in job.parts):
        return ["  nothing was sent; nothing is billed"]
    so_far = "" if job.settled_at else " so far"
    return [f"  {plural(done, 'row')} finished{so_far}: they are billed, and kept"]
