"""What the shell completes: names of jobs and targets, offline, and nothing where that would take time or fail."""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

RECENT = 200
"""So many jobs are offered, newest first."""


def jobs(ctx: Any, incomplete: str) -> list[str]:
    """Names of jobs that begin so, from a ledger on this machine. Reads only, and waits for nobody."""
    from batchkit.config import data_home
    from batchkit.ledger.sqlite import job_names

    asked = ctx.params.get("ledger") or os.environ.get("BATCHKIT_LEDGER") or data_home() / "ledger.sqlite3"
    path = str(asked).removeprefix("sqlite://")
    if "://" in path:
        return []
    if ctx.params.get("emulator"):
        from batchkit.cli.rehearsal import home

        path = str(home(ctx.params.get("ledger")) / "ledger.sqlite3")
    found = job_names(Path(path).expanduser().absolute(), RECENT)
    return [name for name in found if name.startswith(incomplete)]


def targets(ctx: Any, incomplete: str) -> list[str]:
    """Names of targets that begin so, from the targets file."""
    from batchkit.config import config_file

    place = ctx.params.get("config") or os.environ.get("BATCHKIT_CONFIG") or config_file()
    with suppress(OSError, ValueError):
        found = tomllib.loads(Path(place).read_text("utf-8")).get("targets")
        return [name for name in found or () if name.startswith(incomplete)]
    return []
