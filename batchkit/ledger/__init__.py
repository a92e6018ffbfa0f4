"""The durable record of jobs, parts, batches and events."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import NoneType

from batchkit.config import data_home
from batchkit.disk import Workdir
from batchkit.errors import ConfigError
from batchkit.given import expect
from batchkit.ledger.hold import Hold
from batchkit.ledger.lease import Terms
from batchkit.ledger.sqlite import SqliteStore
from batchkit.ledger.store import WROTE, Ledger

__all__ = ["WROTE", "Hold", "Ledger", "Terms", "open_ledger"]


def open_ledger(url: str | Path | None = None, *, terms: Terms = Terms()) -> tuple[Ledger, Workdir]:
    """The ledger at `url`, and its working files on this machine.

    `url` is a path or `sqlite:///path` (default: BATCHKIT_LEDGER, or per user), whose working files lie in a directory
    beside it and move with it; or `postgresql://[user@]host/database`, whose working files lie in the user's own
    directory. Nothing is touched on disk, and nothing connected to, before the first use.
    """
    expect("ledger", url, (str, os.PathLike, NoneType), "a path or URL", error=ConfigError)
    text = str(url or os.environ.get("BATCHKIT_LEDGER") or data_home() / "ledger.sqlite3")
    if text.startswith(("postgresql://", "postgres://")):
        from batchkit.ledger.postgres import PostgresStore

        store = PostgresStore(text)
        name = hashlib.sha256(store.name.encode()).hexdigest()[:12]
        return Ledger(store, terms=terms), Workdir(data_home() / f"postgresql-{name}.jobs")
    if "://" in text and not text.startswith("sqlite:///"):
        raise ConfigError(
            f"{text.split('://')[0]}:// is not a ledger batchkit can open",
            hint="give a path, sqlite:///PATH or postgresql://HOST/DATABASE",
        )
    path = Path(text.removeprefix("sqlite://")).expanduser().absolute()
    return Ledger(SqliteStore(path), terms=terms), Workdir(_beside(path))


def _beside(path: Path) -> Path:
    """The directory of a ledger's working files: no two ledgers have the same, or one would sweep the other's."""
    return path.with_suffix(".jobs") if path.suffix == ".sqlite3" else path.with_name(f"{path.name}-jobs")
