"""Conservation of rows: in = ok + failed + missing, and every surprise named. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from batchkit.model import Report, Result

MISSING = "missing"
NAMED = 100
"""How many custom_ids of a kind a report names."""


@dataclass
class Account:
    """The running account of one merge."""

    job: str
    total: int = 0
    ok: int = 0
    failed: int = 0
    missing: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    retryable: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    missing_ids: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def row(self, result: Result) -> None:
        """Count one row by how it ended."""
        self.total += 1
        self.input_tokens += result.input_tokens or 0
        self.output_tokens += result.output_tokens or 0
        if result.ok:
            self.ok += 1
            return
        self.retryable += retryable(result)
        self.errors[result.error_code or "unknown"] += 1
        if result.error_code == MISSING:
            self.missing += 1
            self.missing_ids.append(result.custom_id)
        else:
            self.failed += 1

    def report(self, expected: int) -> Report:
        """The report over `expected` rows that went in."""
        return Report(
            job=self.job,
            total=expected,
            ok=self.ok,
            failed=self.failed,
            missing=self.missing,
            duplicated=tuple(self.duplicated[:NAMED]),
            unknown=tuple(self.unknown[:NAMED]),
            missing_ids=tuple(self.missing_ids[:NAMED]),
            mismatched=tuple(self.mismatched[:NAMED]),
            duplicates=len(self.duplicated),
            unknowns=len(self.unknown),
            retryable=self.retryable,
            errors=dict(self.errors.most_common()),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
        )


def retryable(result: Result, only: Collection[str] = ()) -> bool:
    """Whether asking again may help: rows that never ran, and 408, 429 and 5xx; or the codes in `only` instead."""
    if result.ok:
        return False
    if only:
        return result.error_code in only
    return result.status_code is None or result.status_code in (408, 429) or result.status_code >= 500
