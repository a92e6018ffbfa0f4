"""A job as the document that `--json` prints and that notices carry; schemas/job.schema.json describes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from batchkit.model import Batch, Job, Part


def job(job: Job) -> dict[str, Any]:
    """A job with its parts, and its diary where it was asked for."""
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
        "counts": asdict(job.counts),
        "so_far": asdict(job.so_far),
        "outcome": asdict(job.outcome) if job.outcome else None,
        "created_at": job.created_at,
        "settled_at": job.settled_at,
        "cancelled_at": job.cancelled_at,
        "parts": [_part(part) for part in job.parts],
        "events": [asdict(event) for event in job.events],
    }


def _part(part: Part) -> dict[str, Any]:
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
        "batches": [batch(item) for item in part.batches],
    }


def batch(batch: Batch) -> dict[str, Any]:
    """A batch as last seen."""
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
