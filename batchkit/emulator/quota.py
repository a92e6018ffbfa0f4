"""Enqueued tokens: what a deployment's batches hold of its limit from creation to their end. Pure."""

from __future__ import annotations

from collections import Counter

from batchkit.emulator.settings import Deployment

BYTES_PER_TOKEN = 4
"""The service counts roughly, from characters, before a batch is judged."""


class Enqueued:
    """Tokens per deployment of the batches that have not ended."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, int]] = {}
        self._sums: Counter[str] = Counter()

    def add(self, batch_id: str, deployment: str, tokens: int) -> None:
        self._held[batch_id] = deployment, tokens
        self._sums[deployment] += tokens

    def release(self, batch_id: str) -> None:
        deployment, tokens = self._held.pop(batch_id)
        self._sums[deployment] -= tokens

    def holders(self) -> list[str]:
        """The batches that hold tokens."""
        return list(self._held)

    def sum(self, deployment: str) -> int:
        return self._sums[deployment]


def estimate(size: int) -> int:
    """The tokens of an input file of `size` bytes."""
    return max(1, size // BYTES_PER_TOKEN)


def refused(deployment: Deployment) -> str:
    """The service's sentence, as seen."""
    limit = deployment.enqueued_limit
    shown = f"{limit // 1000}K" if limit % 1000 == 0 else str(limit)
    return (
        f"token_limit_exceeded: The number of enqueued tokens has surpassed the configured limit of {shown} for the "
        f"deployment '{deployment.name}'. Please either increase the limit or try again once the current jobs have "
        "finished."
    )
