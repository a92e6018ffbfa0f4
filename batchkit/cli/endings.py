"""How a job ended, as an exit code: what a command raises of rows that failed or do not add up."""

from __future__ import annotations

from collections.abc import Iterable

from batchkit.cli.printer import Face
from batchkit.collector.verdict import settled
from batchkit.errors import BatchkitError
from batchkit.model import Job
from batchkit.text import plural


def judge(face: Face, jobs: Iterable[Job], *troubles: BatchkitError) -> None:
    """Say of each job what is wrong with its rows, and raise the worst of it and of the other `troubles`."""
    errors = sorted((*filter(None, map(settled, jobs)), *troubles), key=lambda error: error.exit)
    if errors:
        *others, worst = errors
        if face.as_json:  # where an error is one document
            worst.also = tuple(others)
        else:
            for error in others:
                face.fail(error)
        raise worst


def ended(job: Job) -> str:
    """The account of a job that ended, in words."""
    made = job.outcome
    return f"{plural(made.total, 'row')} = {made.ok} ok + {made.failed} failed + {made.missing} missing" if made else ""
