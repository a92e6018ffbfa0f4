"""How long the rest is waited for of a batch that ended: its counts and the names of its files come late. Pure."""

from __future__ import annotations

from batchkit.model import Batch, Counts

LATE_S = 1800.0
"""How long after its end the names of a batch's result files are waited for, where it must have them."""
SOON_S = 120.0
"""How long where it may have none: it was stopped, and counts no rows yet."""


def patience_s(batch: Batch) -> float:
    """How long after its end more is waited for of what this batch says of itself; 0 where it says all."""
    counts, ended = batch.counts or Counts(), batch.ended and batch.status != "failed"
    unnamed = (counts.completed and batch.output_file_id is None) or (counts.failed and batch.error_file_id is None)
    silent = ended and batch.output_file_id is None and batch.error_file_id is None
    if unnamed or (silent and batch.status == "completed"):
        return LATE_S
    return SOON_S if silent and not counts.total else 0.0


def final(batch: Batch, ended_at: float, now: float) -> bool:
    """Whether nothing more is to come of a batch first seen ended at `ended_at`."""
    return batch.ended and now - ended_at >= patience_s(batch)
