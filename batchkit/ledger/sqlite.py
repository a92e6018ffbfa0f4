"""The ledger's storage in one SQLite file: WAL, synchronous=FULL, private to its owner, one worker thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from batchkit.disk import PRIVATE, local_errors, private_directory
from batchkit.errors import (
    DiskFull,
    LedgerCorrupt,
    LedgerError,
    LedgerRefused,
    LedgerUnreachable,
    LocalError,
)
from batchkit.ledger.mounts import check_local
from batchkit.ledger.sql import Row, Tx, missing

T = TypeVar("T")


class _Tx:
    skip_locked = ""  # transactions here are one after the other
    shared = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, **values: Any) -> Row | None:
        found: Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def write(self, sql: str, **values: Any) -> int:
        return self._connection.execute(sql, values).rowcount

    def now(self) -> float:
        return time.time()


class SqliteStore:
    """Runs functions of a transaction, each in a durable transaction of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batchkit-ledger")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[Tx], T]) -> T:
        """See Store."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._run, work)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, self._close)
        self._worker.shutdown()

    def _run(self, work: Callable[[Tx], T]) -> T:
        with self._errors():
            if self._connection is None:
                self._connection = self._open()
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(_Tx(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        check_local(self.path)
        private_directory(self.path.parent)
        with local_errors(self.path):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10.0, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            outdated = missing(_version(connection), self.name)  # before anything is written, the journal mode included
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            if outdated:
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for number, statements in missing(_version(connection), self.name).items():
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's complaints as ours, by its result codes."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from None

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LedgerUnreachable(f"the ledger {self.path} is locked by another process", hint="try again")
        if code == sqlite3.SQLITE_NOTADB:
            words = f"{self.path} is no ledger; it was left untouched"
            return LedgerRefused(words, hint="point --ledger (or BATCHKIT_LEDGER) at another file")
        if code == sqlite3.SQLITE_CORRUPT:
            return LedgerCorrupt(f"the ledger {self.path} is damaged; it was left untouched")
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(f"the disk is full: the ledger {self.path} could not be written")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
            return LocalError(
                f"the ledger {self.path} cannot be written: {error}",
                hint="use --ledger (or BATCHKIT_LEDGER) to keep it where you may write",
            )
        return LedgerError(f"the ledger {self.path}: {error}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()["user_version"])


def job_names(path: Path, limit: int) -> list[str]:
    """The names of the newest jobs of the ledger there, for completion: reads only, waits for nobody, never raises."""
    with suppress(sqlite3.Error, OSError), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", 0.1, uri=True)) as found:
        query = "SELECT name FROM jobs ORDER BY created_at DESC LIMIT ?"
        return [name for (name,) in found.execute(query, (limit,))]
    return []
