"""What is wrong with a job's results, as the error that says what to do; None where every row is good. Pure."""

from __future__ import annotations

from shlex import quote

from batchkit.collector.unusable import CUT_OFF
from batchkit.errors import BatchFailed, BatchkitError, LocalError, ResultError, RowsFailed, Unfinished
from batchkit.model import GIVEN_UP, LOST, Job, Report
from batchkit.text import plural

_OF_THE_TARGET = (
    "check body.model: on Azure a deployment of type GlobalBatch or DataZoneBatch, elsewhere a model it serves"
)


def verdict(job: Job, report: Report) -> BatchkitError | None:
    """ResultError for rows that do not add up, Unfinished for some that are not back, LocalError for some that this
    machine lost, BatchFailed where the service refused them all when it validated their file, else RowsFailed."""
    name = quote(report.job)
    if not report.balanced:
        words = (
            f"the results of {report.job!r} do not add up: {report.missing} missing, {report.duplicates} doubled, "
            f"{report.unknowns} unknown{'; ' + report.mismatched[0] if report.mismatched else ''}"
        )
        if report.missing:
            return ResultError(words, hint=f"batchkit retry {name}  # asks for missing rows again")
        again = f"; batchkit retry {name} asks again for {report.retryable} that failed" if report.retryable else ""
        return ResultError(words, hint=f"batchkit show {name} --events{again}")
    if report.pending and job.settled_at is not None:
        words = f"{report.pending} of {plural(report.total, 'row')} came back, and are not on this machine"
        return LocalError(
            words, hint=f"batchkit fetch {name} -o results.csv  # asks the service for them, or says why not"
        )
    if report.pending:
        words = f"{report.pending} of {plural(report.total, 'row')} not back yet"
        return Unfinished(words, hint=f"batchkit track {name}  # and then the same command")
    if not report.ok and (refused := _refused(job)) is not None:
        return refused
    if not report.failed:
        return None
    reason, hint = next(iter(report.errors)), f"batchkit retry {name}"
    if report.retryable:
        hint += f"  # asks again for {report.retryable} of them"
    else:
        hint += f" --only {quote(reason)}  # asks again all the same; error_message says why, row by row"
    words = f"{report.failed} of {plural(report.total, 'row')} failed; the most frequent reason: {reason}"
    return RowsFailed(words, hint=hint)


def unusable(job: Job, report: Report) -> str:
    """What asks again for good rows whose answers are of no use."""
    name, only = quote(report.job), " ".join(f"--only {word}" for word in report.unusable)
    most = "max_output_tokens" if job.url.endswith("/responses") else "max_completion_tokens"
    more = f" --param {most}=N" if CUT_OFF in report.unusable else ""
    return f"batchkit retry {name} {only}{more}  # asks again for answers that are of no use"


def _refused(job: Job, whose: str = "") -> BatchFailed | None:
    """What the service's validation said of a file, if it refused one."""
    failed = [batch for part in job.parts if (batch := part.batch) and batch.status == "failed"]
    errors = [error for batch in failed for error in batch.errors if error.code not in (LOST, GIVEN_UP)]
    if not errors:
        return None
    first = errors[0]
    of_target = first.code in ("invalid_request", "model_not_found")
    hint = _OF_THE_TARGET if of_target else "batchkit check finds such problems before they are sent"
    return BatchFailed(f"the service refused the whole batch{whose}: {first.code}: {first.message}", hint=hint)


def settled(job: Job) -> BatchkitError | None:
    """What is wrong with the rows of a job that ended, from the ledger alone; None for one that is good or goes on."""
    outcome, name = job.outcome, quote(job.name)
    if outcome is None or job.settled_at is None:
        return None
    if not outcome.balanced:
        missing = f": {outcome.missing} of {plural(outcome.total, 'row')} missing" if outcome.missing else ""
        words = f"the results of {job.name!r} do not add up{missing}"
        if missing:
            return ResultError(words, hint=f"batchkit retry {name}  # asks for missing rows again")
        return ResultError(words, hint=f"batchkit show {name} --events")
    if not outcome.ok and (refused := _refused(job, f" of {job.name!r}")) is not None:
        return refused
    if outcome.failed:
        words = f"{outcome.failed} of {plural(outcome.total, 'row')} of {job.name!r} failed"
        hint = f"batchkit fetch {name} -o results.csv  # says why, row by row, and what asks again for which"
        return RowsFailed(words, hint=hint)
    return None
