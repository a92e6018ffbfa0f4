"""The documents of `--json`; `schemas/` describes them field by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchkit.errors import BatchkitError, InputError
from batchkit.model import Batch, CheckReport, Cost, Finding, Job, Part, Report

if TYPE_CHECKING:
    from batchkit.tracker.query import Remote

Document = dict[str, Any]


def job(job: Job) -> Document:
    """A job with its parts, and its diary where it was asked for."""
    counts = job.counts
    return {
        "schema": "batchkit/job@1",
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "status": job.status,
        "held": job.held,
        "service": job.service,
        "target": job.target,
        "url": job.url,
        "deployment": job.deployment,
        "sha256": job.sha256,
        "rows": job.lines,
        "round": job.round,
        "counts": asdict(counts),
        "outcome": asdict(job.outcome) if job.outcome else None,
        "created_at": job.created_at,
        "settled_at": job.settled_at,
        "cancelled_at": job.cancelled_at,
        "parts": [_part(part) for part in job.parts],
        "events": [asdict(event) for event in job.events],
    }


def _part(part: Part) -> Document:
    return {
        "round": part.round,
        "number": part.number,
        "state": part.state,
        "rows": part.lines,
        "bytes": part.bytes,
        "sha256": part.sha256,
        "target": part.target,
        "service": part.service,
        "deployment": part.deployment,
        "file_id": part.file_id,
        "held": part.held,
        "next_try_at": part.next_try_at,
        "batches": [_batch(batch) for batch in part.batches],
    }


def _batch(batch: Batch) -> Document:
    return {
        "id": batch.id,
        "status": batch.status,
        "counts": asdict(batch.counts) if batch.counts else None,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "errors": [asdict(error) for error in batch.errors],
        "created_at": batch.created_at,
        "looked_at": batch.looked_at,
    }


def jobs(found: tuple[Job, ...], after: str | None) -> Document:
    """A page of jobs, and the cursor of the next page."""
    return {"schema": "batchkit/jobs@1", "jobs": [job(item) for item in found], "after": after}


def batches(found: Sequence[Remote], after: str | None) -> Document:
    """Batches as the service shows them, with the jobs they belong to, and the cursor of the next page."""
    shown = [{**_batch(item.batch), "metadata": dict(item.batch.metadata), "job": item.job} for item in found]
    return {"schema": "batchkit/batches@1", "batches": shown, "after": after}


def report(report: Report, out: str | None) -> Document:
    """The account of a job's rows."""
    return {"schema": "batchkit/report@1", **asdict(report), "balanced": report.balanced, "out": out}


def built(out: Path, lines: int, skipped: int, deployment: str, url: str) -> Document:
    """What `build` wrote."""
    about = {"lines": lines, "skipped": skipped, "deployment": deployment, "url": url}
    return {"schema": "batchkit/build@1", "out": str(out), **about}


def check(reports: Sequence[tuple[CheckReport, Cost | None]]) -> Document:
    """What `check` found, a file each."""
    files = [{**asdict(item), "cost": asdict(cost) if cost else None, "ok": item.ok} for item, cost in reports]
    return {"schema": "batchkit/check@1", "ok": all(item.ok for item, _ in reports), "files": files}


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
    if isinstance(error, InputError) and error.problems:
        document["problems"] = [asdict(problem) for problem in error.problems]
    return document
