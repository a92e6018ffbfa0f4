"""How the ledger's jobs stand, in Prometheus' text format (0.0.4) for node_exporter's textfile collector.

Counted from the ledger at each look, so all are gauges. Names and units follow Prometheus' naming rules.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from batchkit.disk import replacing
from batchkit.ledger import Ledger
from batchkit.model import STATUSES, Job, State
from batchkit.text import visible

Samples = Mapping[str, float] | Mapping[str, int] | float | None
"""The values of a metric by those of its label, or its one value; None while there is none."""


async def measure(ledger: Ledger, path: Path, now: float) -> None:
    """Write the metrics to `path`, whole or not at all. Raises LocalError."""
    jobs = await ledger.jobs()
    await asyncio.to_thread(_write, path, render(jobs, now))


def _write(path: Path, text: str) -> None:
    with replacing(path, mode=0o644, replaceable=None) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def render(jobs: Sequence[Job], now: float) -> str:
    """The metrics of these jobs at a moment (Unix seconds). Pure."""
    states = Counter(str(job.state) for job in jobs)
    batches = [batch for job in jobs for part in job.parts for batch in part.batches]
    statuses = Counter(visible(batch.status, 60) or "unknown" for batch in batches)
    looked = max((batch.looked_at for batch in batches if batch.looked_at is not None), default=None)
    oldest = min((job.created_at for job in jobs if job.settled_at is None), default=now)
    metrics = (
        ("jobs", "state", "Jobs in the ledger by state.", {str(state): states[state] for state in State}),
        ("jobs_held", "", "Jobs that wait for quota, time or a person.", float(sum(bool(job.held) for job in jobs))),
        ("rows", "outcome", "Rows by outcome, each once; those of a running job as the service counts.", _rows(jobs)),
        ("batches", "status", "Batches by the service's status.", {**dict.fromkeys(sorted(STATUSES), 0), **statuses}),
        ("last_look_timestamp_seconds", "", "When a batch was last looked at, in Unix time.", looked),
        ("last_look_age_seconds", "", "Time since the last look.", None if looked is None else max(0.0, now - looked)),
        (
            "oldest_unfinished_job_age_seconds",
            "",
            "Time since the oldest unfinished job was made.",
            max(0.0, now - oldest),
        ),
    )
    return "".join(line for name, label, words, samples in metrics for line in _metric(name, label, words, samples))


def _rows(jobs: Iterable[Job]) -> dict[str, float]:
    found = dict.fromkeys(("ok", "failed", "missing", "pending"), 0.0)
    for job in jobs:
        for outcome in found:
            found[outcome] += getattr(job.so_far, outcome)
    return found


def _metric(name: str, label: str, words: str, samples: Samples) -> Iterable[str]:
    yield f"# HELP batchkit_{name} {words}\n# TYPE batchkit_{name} gauge\n"
    if isinstance(samples, Mapping):
        for value, sample in samples.items():
            yield f'batchkit_{name}{{{label}="{_escaped(value)}"}} {_number(sample)}\n'
    elif samples is not None:
        yield f"batchkit_{name} {_number(samples)}\n"


def _escaped(value: str) -> str:
    """A label's value."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
