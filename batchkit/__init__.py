"""batchkit: rows in, answers out, through Azure OpenAI Global Batch and services like it.

    lines = batchkit.lines(rows, deployment="gpt-4o-batch", custom_id="sku", body="Classify: {description}")
    with batchkit.Client() as client:  # the environment; or Client("east"), a target
        results = client.run(lines, name="nightly", out="out.csv", join=rows)

Rows become request lines (`read_rows`, `lines`, judged by `check`), lines become a job (`Client.submit`), a job is
followed (`Client.track`) and its results come back merged in input order (`Client.fetch`); `Client.run` does all of
it, and the same call again goes on. `AsyncClient` has the same verbs with `await`. Everything raised is a BatchkitError
with `code` and `hint`. help(batchkit.Client) has the verbs, help(batchkit.Results) what comes back.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchkit.blocking import Client
    from batchkit.builder.check import check
    from batchkit.builder.lines import lines
    from batchkit.builder.rows import read_rows
    from batchkit.client import AsyncClient
    from batchkit.clock import ManualClock
    from batchkit.collector.results import Results
    from batchkit.config import Limits, Settings, Target
    from batchkit.config.targets import load_target
    from batchkit.engine.pump import Progress
    from batchkit.errors import (
        BatchFailed,
        BatchkitError,
        ConfigError,
        CredentialError,
        InputError,
        Interrupted,
        JobConflict,
        LedgerBusy,
        LedgerError,
        LocalError,
        MissingExtra,
        Refused,
        ResultError,
        RowsFailed,
        Unavailable,
        Uncertain,
        Unfinished,
        UnknownJob,
        UsageError,
    )
    from batchkit.model import CheckReport, Job, Line, Problem, Report, Result
    from batchkit.tracker.query import Query
    from batchkit.wishes import Wishes

__version__ = "0.1.0"

# Names are imported when they are first used, so that importing batchkit is cheap.
_HOMES = {
    "batchkit.builder.check": ["check"],
    "batchkit.builder.lines": ["lines"],
    "batchkit.builder.rows": ["read_rows"],
    "batchkit.blocking": ["Client"],
    "batchkit.client": ["AsyncClient"],
    "batchkit.clock": ["ManualClock"],
    "batchkit.collector.results": ["Results"],
    "batchkit.config": ["Limits", "Settings", "Target"],
    "batchkit.errors": [
        "BatchFailed",
        "BatchkitError",
        "ConfigError",
        "CredentialError",
        "InputError",
        "Interrupted",
        "JobConflict",
        "LedgerBusy",
        "LedgerError",
        "LocalError",
        "MissingExtra",
        "Refused",
        "ResultError",
        "RowsFailed",
        "Unavailable",
        "Uncertain",
        "Unfinished",
        "UnknownJob",
        "UsageError",
    ],
    "batchkit.model": ["CheckReport", "Job", "Line", "Problem", "Report", "Result"],
    "batchkit.config.targets": ["load_target"],
    "batchkit.engine.pump": ["Progress"],
    "batchkit.tracker.query": ["Query"],
    "batchkit.wishes": ["Wishes"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncClient",
    "BatchFailed",
    "BatchkitError",
    "CheckReport",
    "Client",
    "ConfigError",
    "CredentialError",
    "InputError",
    "Interrupted",
    "Job",
    "JobConflict",
    "LedgerBusy",
    "LedgerError",
    "Limits",
    "Line",
    "LocalError",
    "ManualClock",
    "MissingExtra",
    "Problem",
    "Progress",
    "Query",
    "Refused",
    "Report",
    "Result",
    "ResultError",
    "Results",
    "RowsFailed",
    "Settings",
    "Target",
    "Unavailable",
    "Uncertain",
    "Unfinished",
    "UnknownJob",
    "UsageError",
    "Wishes",
    "check",
    "lines",
    "load_target",
    "read_rows",
]


if not TYPE_CHECKING:  # a type checker is to find misspelt names

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'batchkit' has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
