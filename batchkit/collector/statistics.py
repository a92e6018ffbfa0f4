"""The numbers of a job, gathered in one pass over its rows: what a report shows, and its `--json` has."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from batchkit.collector.account import Account, retryable
from batchkit.collector.lines import PENDING
from batchkit.config.prices import MILLION, Prices
from batchkit.model import TOKEN_LIMIT, Batch, Job, Part, Report, Result

EXAMPLES = 3
"""How many rows stand for an error code."""
_STEP = math.log(1.02)


@dataclass
class Distribution:
    """Values in steps of two percent: count, extremes, quantiles, in constant memory."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = 0.0
    steps: Counter[int] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        """Count one value from 0 on."""
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.steps[round(math.log(value) / _STEP) if value >= 1 else -1] += 1

    def quantile(self, share: float) -> float:
        """The value below which this share of all lies, to one percent."""
        wanted, seen = share * self.count, 0
        for step in sorted(self.steps):
            seen += self.steps[step]
            if seen >= wanted:
                return min(self.most, max(self.least, math.exp(step * _STEP) if step >= 0 else 0.0))
        return self.most

    def bars(self, most: int = 24) -> list[tuple[float, float, int]]:
        """From, to and count of at most so many equal intervals of the logarithm, and no more than there are whole
        numbers: between them is nothing to tell apart."""
        if not self.count:
            return []
        most = min(most, int(self.most) - int(self.least) + 1)
        low = math.log(max(1.0, self.least))
        width = max((math.log(max(1.0, self.most)) - low) / most, _STEP)
        counts = Counter[int]()
        for step, count in self.steps.items():
            counts[min(most - 1, max(0, int((step * _STEP - low) / width)))] += count
        last = max(counts)
        edges = [self.least, *(math.exp(low + i * width) for i in range(1, last + 1)), self.most]
        return [(edges[i], edges[i + 1], counts[i]) for i in range(last + 1)]

    def document(self) -> dict[str, Any] | None:
        """The distribution as JSON; None where there was no value."""
        if not self.count:
            return None
        quantiles = {f"p{share}": round(self.quantile(share / 100), 1) for share in (50, 90, 99)}
        mean = round(self.total / self.count, 1)
        bars = [{"from": round(low, 1), "to": round(high, 1), "count": count} for low, high, count in self.bars()]
        return {"count": self.count, "min": self.least, "mean": mean, **quantiles, "max": self.most, "bars": bars}


@dataclass
class Failures:
    """The rows that failed with one code: how many, whether asking again may help, and examples."""

    count: int = 0
    retryable: int = 0
    message: str | None = None
    examples: list[str] = field(default_factory=list)


class Statistics:
    """Learns rows one by one. Latency is the time from the batch's creation to when the answer says it was made."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.input, self.output, self.latency = Distribution(), Distribution(), Distribution()
        self.failures: defaultdict[str, Failures] = defaultdict(Failures)
        self.models: Counter[str] = Counter()
        self.rounds: Counter[int] = Counter()
        self.tokens: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self._created = {batch.id: batch.created_at for part in job.parts for batch in part.batches}

    def gather(self, rows: Iterable[Result]) -> None:
        """Take in all rows."""
        for result in rows:
            for answer in (result, *result.other_rounds):
                self._spent(answer)
            if result.ok:
                self._good(result)
            elif result.error_code != PENDING:
                self._bad(result)

    def document(self, account: Account, prices: Prices | None) -> dict[str, Any]:
        """Everything there is to tell, as the `--json` of `batchkit report`."""
        job, report = self.job, account.report(self.job)
        return {
            "schema": "batchkit/job-report@1",
            "job": _about(job),
            "rows": _rows(report),
            "failures": [
                {"code": code, **vars(found)}
                for code, found in sorted(self.failures.items(), key=lambda item: -item[1].count)
            ],
            "rounds": [{"round": number, "ok": count} for number, count in sorted(self.rounds.items())],
            "finish_reasons": report.finish_reasons,
            "models": dict(self.models.most_common()),
            "tokens": {"input": self.input.document(), "output": self.output.document()},
            "latency_s": self.latency.document(),
            "cost": self._cost(prices) if prices else None,
            "parts": [_part(job, part) for part in job.parts],
            "waits": _waits(job),
        }

    def _spent(self, answer: Result) -> None:
        if answer.input_tokens or answer.output_tokens:
            tokens = self.tokens[answer.model or self.job.deployment]
            tokens[0] += answer.input_tokens or 0
            tokens[1] += answer.output_tokens or 0

    def _good(self, result: Result) -> None:
        self.rounds[result.round] += 1
        self.models[result.model or "unknown"] += 1
        if result.input_tokens is not None:
            self.input.add(result.input_tokens)
        if result.output_tokens is not None:
            self.output.add(result.output_tokens)
        body, began = result.response, self._created.get(result.batch_id or "")
        made = body.get("created", body.get("created_at")) if isinstance(body, dict) else None
        if began is not None and isinstance(made, (int, float)) and made >= began:
            self.latency.add(made - began)

    def _bad(self, result: Result) -> None:
        found = self.failures[result.error_code or "unknown"]
        found.count += 1
        found.retryable += retryable(result)
        found.message = found.message or result.error_message
        if len(found.examples) < EXAMPLES:
            found.examples.append(result.custom_id)

    def _cost(self, prices: Prices) -> dict[str, Any]:
        """What the tokens of all rounds cost; models without a price are named, and cost nothing here."""
        total, unpriced, lines = 0.0, [], []
        for model, (asked, said) in sorted(self.tokens.items()):
            price = prices.of(self.job.deployment, model)
            if price is None:
                unpriced.append(model)
                continue
            money = (asked * price.input + said * price.output) / MILLION
            total += money
            lines.append({"model": model, "input_tokens": asked, "output_tokens": said, "cost": round(money, 6)})
        return {
            "currency": prices.currency,
            "date": prices.date.isoformat(),
            "total": round(total, 6),
            "models": lines,
            "unpriced": unpriced,
        }


def _about(job: Job) -> dict[str, Any]:
    keys = "id name target service url deployment sha256 round created_at settled_at cancelled_at state status".split()
    return {key: getattr(job, key) for key in keys}


def _rows(report: Report) -> dict[str, Any]:
    keys = (
        "total ok failed missing pending retryable balanced duplicates unknowns duplicated unknown missing_ids "
        "mismatched input_tokens output_tokens unusable"
    ).split()
    return {key: getattr(report, key) for key in keys}


def _part(job: Job, part: Part) -> dict[str, Any]:
    return {
        "round": part.round,
        "number": part.number,
        "state": part.state,
        "rows": part.lines,
        "bytes": part.bytes,
        "file_id": part.file_id,
        "planned_at": _began(job, part.round),
        "batches": [_batch(batch) for batch in part.batches],
    }


def _batch(batch: Batch) -> dict[str, Any]:
    keys = "id status output_file_id error_file_id created_at ended_at looked_at".split()
    counts = batch.counts
    return {key: getattr(batch, key) for key in keys} | {
        "counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed} if counts else None
    }


def _began(job: Job, number: int) -> float:
    """When a round was planned, by the diary."""
    wanted = re.compile(rf"round {number}\b")
    found = (event.at for event in job.events if event.kind == "staged" and wanted.match(event.detail))
    return next(found, job.created_at)


def _waits(job: Job) -> list[dict[str, Any]]:
    """What the diary says about quota: when, for which part, and in which words."""
    return [
        {"at": event.at, "part": event.part, "why": event.detail}
        for event in job.events
        if "quota" in event.detail.lower() or TOKEN_LIMIT in event.detail
    ]
