"""How a job ended, as an exit code: what a command raises of rows that failed or do not add up."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from batchkit.cli.printer import Face
from batchkit.errors import BatchkitError, ResultError, RowsFailed
from batchkit.model import Job
from batchkit.text import plural


def verdict(job: Job) -> BatchkitError | None:
    """What is wrong with the rows of a job that ended, from the ledger alone; None for one that is good or goes on."""
    outcome, name = job.outcome, quote(job.name)
    if outcome is None or job.settled_at is None:
        return None
    if not outcome.balanced:
        missing = f": {outcome.missing} of {plural(outcome.total, 'row')} missing" if outcome.missing else ""
        again, diary = f"batchkit retry {name}  # asks for missing rows again", f"batchkit show {name} --events"
        return ResultError(f"the results of {job.name!r} do not add up{missing}", hint=again if missing else diary)
    if outcome.failed:
        words = f"{outcome.failed} of {plural(outcome.total, 'row')} of {job.name!r} failed"
        hint = f"batchkit fetch {name} -o results.csv  # says why, row by row; batchkit retry {name} asks again"
        return RowsFailed(words, hint=hint)
    return None


def judge(face: Face, jobs: Iterable[Job]) -> None:
    """Say of each job what is wrong with its rows, and raise the worst of it."""
    errors = sorted(filter(None, map(verdict, jobs)), key=lambda error: error.exit)
    if errors:
        if not face.as_json:  # where an error is one document
            for error in errors[:-1]:
                face.fail(error)
        raise errors[-1]


def ended(job: Job) -> str:
    """The account of a job that ended, in words."""
    made = job.outcome
    return f"{plural(made.total, 'row')} = {made.ok} ok + {made.failed} failed + {made.missing} missing" if made else ""
