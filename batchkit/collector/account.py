"""Conservation of rows: in = ok + failed + missing, every surprise named; and which rows to ask again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchkit.collector.lines import MISSING, PENDING
from batchkit.collector.unusable import OFF_SCHEMA, of_ends, unusable
from batchkit.model import Job, Report, Result

if TYPE_CHECKING:
    from batchkit.collector.answers import Answers

NAMED = 100
"""How many custom_ids of a kind a report names."""

REFUSED = frozenset(
    "invalid_json_line too_many_tasks url_mismatch model_not_found model_mismatch duplicate_custom_id empty_batch"
    " empty_file invalid_request input_modified input_no_permissions content_filter invalid_request_error".split()
)
"""Codes that asking again does not change: the service's validation codes (Azure guide, "Batch failure codes") and
filters, where they come without an HTTP status."""

HOPELESS = 0.1
"""The pass rate of a round below which asking again by itself stops …"""
HOPELESS_ROWS = 10
"""… once this many rows ran in it."""


@dataclass
class Account:
    """The running account of one merge; `structured` answers were to be JSON."""

    job: str
    structured: bool = False
    total: int = 0
    ok: int = 0
    failed: int = 0
    missing: int = 0
    pending: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    retryable: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    off_schema: int = 0
    missing_ids: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    duplicates: int = 0
    unknowns: int = 0
    passed: Counter[int] = field(default_factory=Counter)
    stuck: Counter[int] = field(default_factory=Counter)
    returned: dict[str, tuple[int, int]] = field(default_factory=dict)
    short: set[str] = field(default_factory=set)
    """Batches of which the service counts more finished rows than came: what it did is paid for."""

    def row(self, result: Result) -> None:
        """Count one row by how it ended."""
        self.total += 1
        self.input_tokens += result.input_tokens or 0
        self.output_tokens += result.output_tokens or 0
        if result.ok:
            self.ok += 1
            self.passed[result.round] += 1
            self.finish_reasons[result.finish_reason or "none"] += 1
            self.off_schema += unusable(result, structured=self.structured) == OFF_SCHEMA
            return
        again = retryable(result)
        self.retryable += again
        self.stuck[result.round] += again and result.status_code is not None
        if result.error_code == PENDING:
            self.pending += 1
            return
        self.errors[result.error_code or "unknown"] += 1
        if result.error_code == MISSING:
            self.missing += 1
            if len(self.missing_ids) < NAMED:
                self.missing_ids.append(result.custom_id)
        else:
            self.failed += 1

    def good(self, number: int, rows: int, input_tokens: int, output_tokens: int, ends: Iterable[str]) -> None:
        """Count good rows of a round, which ended for these reasons."""
        self.total += rows
        self.ok += rows
        self.passed[number] += rows
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.finish_reasons.update(ends)

    def part(self, answers: Answers) -> None:
        """Take in what was counted in one part, and the lines that should not be there."""
        self.returned[answers.part.id] = answers.good, answers.bad
        batch = answers.part.batch
        if batch and batch.counts and batch.counts.completed > answers.good:
            self.short.add(batch.id)
        unknown = answers.unknown
        self.duplicates += len(answers.duplicated)
        self.unknowns += len(unknown)
        self.duplicated += answers.duplicated[: NAMED - len(self.duplicated)]
        self.unknown += unknown[: NAMED - len(self.unknown)]

    def hopeless(self) -> bool:
        """Whether the last round brought so little that one more is not worth its price. Rows that never ran do not
        count, since they cost nothing and say nothing."""
        last = max([*self.passed, *self.stuck], default=0)
        ran = self.passed[last] + self.stuck[last]
        return ran >= HOPELESS_ROWS and self.passed[last] < HOPELESS * ran

    def report(self, job: Job) -> Report:
        """The report over the rows of `job`."""
        return Report(
            job=self.job,
            total=job.lines,
            ok=self.ok,
            failed=self.failed,
            missing=self.missing,
            pending=self.pending,
            duplicated=tuple(self.duplicated),
            unknown=tuple(self.unknown),
            missing_ids=tuple(self.missing_ids[:NAMED]),
            mismatched=tuple(self._mismatched(job)[:NAMED]),
            duplicates=self.duplicates,
            unknowns=self.unknowns,
            retryable=self.retryable,
            errors=dict(self.errors.most_common()),
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            finish_reasons=dict(self.finish_reasons.most_common()),
            unusable=of_ends(self.finish_reasons) | ({OFF_SCHEMA: self.off_schema} if self.off_schema else {}),
        )

    def _mismatched(self, job: Job) -> list[str]:
        """Where the service's own counts differ from its files."""
        found: list[str] = []
        for part in job.parts:
            batch, came = part.batch, self.returned.get(part.id)
            if came is None or batch is None or batch.status != "completed" or not part.collected:
                continue
            if part.round < job.round and not self.missing:
                continue  # what did not come back was asked again, and came
            if batch.counts and batch.counts.total and came != (batch.counts.completed, batch.counts.failed):
                found.append(
                    f"{batch.id}: the service counts {batch.counts.completed} completed and {batch.counts.failed} "
                    f"failed, its files hold {came[0]} and {came[1]}"
                )
        return found


def retryable(result: Result, only: Collection[str] = (), *, structured: bool = False) -> bool:
    """Whether asking again may help.

    Rows that never ran or never came back (expired, cancelled, missing), and HTTP 408, 429 and 5xx; not what the
    service refused for its content. `only` names what to ask again instead: error codes, HTTP statuses, `4xx`, `5xx`,
    or what is wrong with a good answer.
    """
    status = result.status_code
    if only and result.error_code != PENDING:
        return not words_of(result, structured=structured).isdisjoint(only)
    if result.ok or result.error_code == PENDING:
        return False
    if status is None:
        return result.error_code not in REFUSED
    return status in (408, 429) or status >= 500


def words_of(result: Result, *, structured: bool = False) -> set[str | None]:
    """The words that name what a row failed with: its code, its HTTP status, and that as `4xx`; or what is wrong with
    a good answer."""
    status = result.status_code
    if result.ok:
        return {unusable(result, structured=structured)} - {None}
    return {result.error_code, str(status), f"{(status or 0) // 100}xx"}
