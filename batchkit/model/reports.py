"""What is told: of a file that was checked, of the rows of a job, of a thing that was looked at. Frozen values.

Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from reprlib import Repr
from typing import Any

_REPR = Repr()
_REPR.maxstring = _REPR.maxother = 60
short = _REPR.repr
"""A value on one line of a few words, as a notebook shows it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of `check`: where it is (1-based line, 0-based byte offset in the file), what, and how to mend it.

    `code` is the service's own validation code where it has one.
    """

    code: str
    message: str
    fix: str
    line: int | None = None
    byte: int | None = None
    severity: str = "error"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a file's requests. `how` names the vocabulary they were counted with, or says `estimated`.

    `output_most` sums what bodies set as their most, and `unbounded` counts those that set nothing. Of `images`,
    `uncounted` are not in `input`, since their size or model is not known.
    """

    input: int
    output_most: int
    unbounded: int
    images: int
    uncounted: int
    how: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a file's requests cost, by a price file of `prices_of`; `output_most` is None where it has no bound."""

    input: float
    output_most: float | None
    currency: str
    prices_of: str


@dataclass(frozen=True, slots=True, repr=False)
class CheckReport:
    """What `check` found in one file. `ok` means that the service should accept it; `total` counts every problem,
    `codes` by code, and `problems` holds the first of them. `tokens` and `cost` are None unless they were asked for,
    and `cost` is where the price file has none for the deployment."""

    path: str
    lines: int
    bytes: int
    url: str | None
    deployment: str | None
    total: int
    problems: tuple[Problem, ...]
    errors: int
    codes: Mapping[str, int] = field(default_factory=dict)
    tokens: Tokens | None = None
    cost: Cost | None = None

    @property
    def ok(self) -> bool:
        return self.errors == 0

    def __repr__(self) -> str:
        found = "".join(f", {count} × {code}" for code, count in self.codes.items())
        return f"<CheckReport of {self.path}: {'ok' if self.ok else 'not ok'}; requests: {self.lines}{found}>"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the rows of a job ended, each counted once: `total` = `ok` + `failed` + `missing` + `pending`, and `balanced`
    if the report was. None is `pending` once the job is settled."""

    total: int
    ok: int
    failed: int
    missing: int
    balanced: bool = True
    pending: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What came back for one row, good or bad.

    `ok` is true for HTTP 200 only. `text` is the answer's text; `response` is the whole response body. `finish_reason`
    is why a good answer ended: "stop", "length", "content_filter" and others of the service's words, of a response its
    status or why it is incomplete, or "refusal" where the model declined to answer. For a bad row
    `error_code` and `error_message` say why, in the service's words where it gave any. `other_rounds` are the answers
    of other rounds to the same row, in their order; this one is the latest good one, or the latest. `came` is whether
    the service sent a line for the row. `row` is the input row, with all its columns, where rows were joined.
    """

    custom_id: str
    ok: bool
    text: str | None = None
    status_code: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str | None = None
    round: int = 0
    batch_id: str | None = None
    response: Any = None
    other_rounds: tuple[Result, ...] = ()
    came: bool = True
    row: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        told = ("text", "finish_reason") if self.ok else ("error_code", "error_message")
        said = ", ".join(f"{name}={short(getattr(self, name))}" for name in told)
        return f"Result(custom_id={short(self.custom_id)}, ok={self.ok}, {said}, round={self.round}, …)"


@dataclass(frozen=True, slots=True)
class Report:
    """The account of a job's rows: `total` = `ok` + `failed` + `missing`, or `balanced` is false.

    Before the job's end `pending` rows, which are not back yet or are being retried, are part of the sum.
    `duplicates` custom_ids came back twice in one batch and `unknowns` were never asked for; `duplicated`, `unknown`
    and `missing_ids` name the first hundred of each kind. `mismatched` says where the service's own counts differ from
    its files. `retryable` rows did not fail for good. `errors` counts failed rows by code.

    `finish_reasons` counts rows that are ok by why their answer ended, and `unusable` those whose answer is hardly of
    use: "cut_off" at the most tokens, "refused" by the model or a filter, "off_schema" where it is no JSON and the job
    asks for a JSON schema. They are ok, and billed; `retry(job, only=["cut_off"], params=…)` asks for them again.
    """

    job: str
    total: int
    ok: int
    failed: int
    missing: int
    duplicated: tuple[str, ...] = field(default=(), repr=False)
    unknown: tuple[str, ...] = field(default=(), repr=False)
    missing_ids: tuple[str, ...] = field(default=(), repr=False)
    mismatched: tuple[str, ...] = field(default=(), repr=False)
    duplicates: int = 0
    unknowns: int = 0
    retryable: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    pending: int = 0
    finish_reasons: Mapping[str, int] = field(default_factory=dict)
    unusable: Mapping[str, int] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.total, self.ok, self.failed, self.missing, self.balanced)

    @property
    def balanced(self) -> bool:
        accounted = self.ok + self.failed + self.missing + self.pending == self.total
        return accounted and not (self.missing or self.duplicated or self.unknown or self.mismatched)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `verdict` is ok, warning or problem; `hint` what to do or type next; `exit` the exit code
    that a problem stands for; `target` the one of several that it is about."""

    what: str
    verdict: str
    message: str
    hint: str = ""
    exit: int = 0
    target: str | None = None
