"""The one table of legal state changes of a part. Pure."""

from __future__ import annotations

from batchkit.model import State

LEGAL: dict[State, frozenset[State]] = {
    State.STAGED: frozenset({State.UPLOADING, State.DROPPED}),
    State.UPLOADING: frozenset({State.UPLOADED, State.STAGED}),
    State.UPLOADED: frozenset({State.SUBMITTING, State.RUNNING, State.STAGED, State.DROPPED}),
    State.SUBMITTING: frozenset({State.RUNNING, State.UPLOADED}),
    State.RUNNING: frozenset({State.ENDED, State.UPLOADED, State.STAGED}),
    State.ENDED: frozenset({State.FETCHED}),
    State.FETCHED: frozenset({State.SETTLED}),
    State.SETTLED: frozenset({State.FETCHED}),
    State.DROPPED: frozenset(),
}
"""UPLOADED → RUNNING is a batch found at the service and adopted; UPLOADED → STAGED a file the service lost or spoilt;
RUNNING → UPLOADED a batch that failed for quota and will be made anew from the same file; RUNNING → STAGED one that a
target of a pool refused and another may take; SETTLED → FETCHED a result file that this machine lost and the service
still had."""


def check_move(before: State, after: State) -> None:
    """Raise ValueError where a part may not go from `before` to `after`. Staying is always allowed."""
    if after is not before and after not in LEGAL[before]:
        raise ValueError(f"a part cannot go from {before} to {after}")
