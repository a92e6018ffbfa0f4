"""What an emulator may be told: deployments, limits, and how long things take."""

from __future__ import annotations

from dataclasses import dataclass

BATCH_SKUS = frozenset({"globalbatch", "datazonebatch"})


@dataclass(frozen=True)
class Deployment:
    """A deployment of the emulated resource. `enqueued_limit` is in tokens (Azure's default for gpt-4o is 200 M, an
    enterprise has 5 B)."""

    name: str
    model: str
    sku: str = "GlobalBatch"
    enqueued_limit: int = 5_000_000_000

    @classmethod
    def parse(cls, text: str) -> Deployment:
        """`NAME[:MODEL[:SKU[:ENQUEUED_LIMIT]]]`, with K, M or B for thousands, millions and billions of tokens; the
        parts count from the left, and an empty one keeps its default. Raises ValueError."""
        name, *rest = text.split(":")
        model, sku, limit = (*rest, "", "", "")[:3]
        if not name or len(rest) > 3:
            raise ValueError(f"a deployment is NAME[:MODEL[:SKU[:ENQUEUED_LIMIT]]], not {text!r}")
        return cls(name, model or name, sku or cls.sku, tokens(limit) if limit else cls.enqueued_limit)

    @property
    def batches(self) -> bool:
        """Whether its SKU runs batches."""
        return self.sku.lower() in BATCH_SKUS


def tokens(text: str) -> int:
    """`30K`, `50M`, `5B` or a plain number. Raises ValueError."""
    scale = {"K": 10**3, "M": 10**6, "B": 10**9}.get(text[-1:].upper())
    digits = text[:-1] if scale else text
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f"{text!r} is no number of tokens, such as 30000, 30K, 50M or 5B")
    return int(digits) * (scale or 1)


@dataclass(frozen=True)
class Limits:
    """Azure's published limits: requests and bytes of one input file, and how many input files a resource holds
    without and with an expiry."""

    max_lines: int = 100_000
    max_bytes: int = 200_000_000
    files: int = 500
    expiring_files: int = 10_000


@dataclass(frozen=True)
class Pace:
    """How long things take, in (virtual) seconds. Azure needs minutes to hours, and up to ten minutes to cancel."""

    file_s: float = 10.0
    validating_s: float = 30.0
    running_s: float = 240.0
    row_s: float = 0.01
    finalizing_s: float = 30.0
    cancelling_s: float = 120.0
    window_s: float = 86_400.0
