"""The durable record of jobs, parts, batches and events."""

from __future__ import annotations

import os
from pathlib import Path

from batchkit.config import data_home
from batchkit.disk import Workdir
from batchkit.errors import ConfigError
from batchkit.ledger.sqlite import SqliteStore
from batchkit.ledger.store import Hold, Ledger

__all__ = ["Hold", "Ledger", "open_ledger"]


def open_ledger(url: str | Path | None = None) -> tuple[Ledger, Workdir]:
    """The ledger at `url`, a path or `sqlite:///path` (default: BATCHKIT_LEDGER, or per user), and its working files.

    Those lie in a directory beside it and move with it. Nothing is touched on disk before the first use.
    """
    text = str(url or os.environ.get("BATCHKIT_LEDGER") or data_home() / "ledger.sqlite3")
    if "://" in text and not text.startswith("sqlite:///"):
        raise ConfigError(
            f"{text.split('://')[0]}:// is not a ledger batchkit can open",
            hint="give a path or sqlite:///PATH",
        )
    path = Path(text.removeprefix("sqlite://")).expanduser().absolute()
    return Ledger(SqliteStore(path)), Workdir(path.with_suffix(".jobs"))
