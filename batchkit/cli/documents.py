"""The documents of `--json`; `schemas/` describes them field by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchkit.errors import BatchkitError, InputError
from batchkit.model import CheckReport, Finding, Job, Report
from batchkit.model.document import batch
from batchkit.model.document import job as job

if TYPE_CHECKING:
    from batchkit.tracker.query import Remote

Document = dict[str, Any]


def jobs(found: tuple[Job, ...], after: str | None) -> Document:
    """A page of jobs, and the cursor of the next page."""
    return {"schema": "batchkit/jobs@1", "jobs": [job(item) for item in found], "after": after}


def batches(found: Sequence[Remote], after: str | None) -> Document:
    """Batches as the service shows them, with the jobs they belong to, and the cursor of the next page."""
    shown = [{**batch(item.batch), "metadata": dict(item.batch.metadata), "job": item.job} for item in found]
    return {"schema": "batchkit/batches@1", "batches": shown, "after": after}


def report(report: Report, out: str | None) -> Document:
    """The account of a job's rows."""
    return {"schema": "batchkit/report@1", **asdict(report), "balanced": report.balanced, "out": out}


def built(out: Path, lines: int, skipped: int, deployment: str, url: str) -> Document:
    """What `build` wrote."""
    about = {"lines": lines, "skipped": skipped, "deployment": deployment, "url": url}
    return {"schema": "batchkit/build@1", "out": str(out), **about}


def check(reports: Sequence[CheckReport]) -> Document:
    """What `check` found, a file each."""
    files = [{**asdict(item), "ok": item.ok} for item in reports]
    return {"schema": "batchkit/check@1", "ok": all(item.ok for item in reports), "files": files}


def findings(found: tuple[Finding, ...]) -> Document:
    """What `doctor` found."""
    return {"schema": "batchkit/doctor@1", "findings": [asdict(finding) for finding in found]}


def error(error: BatchkitError) -> Document:
    """What went wrong, and what to do next."""
    document: Document = {
        "schema": "batchkit/error@1",
        "code": error.code,
        "exit": error.exit,
        "message": str(error),
        "hint": error.hint,
    }
    if error.also:
        document["also"] = [
            {"code": other.code, "exit": other.exit, "message": str(other), "hint": other.hint} for other in error.also
        ]
    if isinstance(error, InputError) and error.problems:
        document["problems"] = [asdict(problem) for problem in error.problems]
    return document
