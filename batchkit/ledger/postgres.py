"""The ledger's storage in PostgreSQL, for workers on several machines. Needs the extra `postgres`.

Transactions are serializable and run again when the database says that another one got in between, so that what is
written in `rows.py` and `hold.py` means the same here as in SQLite.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from batchkit.aside import begin
from batchkit.errors import ConfigError, LedgerError, LedgerRefused, LedgerUnreachable, MissingExtra
from batchkit.ledger.sql import Row, Tx, missing
from batchkit.text import visible

try:
    import psycopg
    from psycopg import errors
    from psycopg.abc import PQGen
    from psycopg.rows import dict_row
except ImportError:
    raise MissingExtra(
        "the PostgreSQL driver is not installed", hint="pip install '.[postgres]' in the checkout"
    ) from None

T = TypeVar("T")
MOST_TRIES = 30
CONNECT_S = 10
ANSWER_S = 30.0
"""How long an answer is waited for: the network may lose a connection without a word to either end."""
LEAVE_S = 2.0
"""How long who closes waits for an answer."""
_PARAMETER = re.compile(r"(?<!:):([a-z_0-9]+)")
_TYPES = (
    ("INTEGER PRIMARY KEY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    ("INTEGER", "BIGINT"),
    ("REAL", "DOUBLE PRECISION"),
)
"""The three types that PostgreSQL spells otherwise, in the order in which they are replaced."""
_SCHEMA = "batchkit"
_HOST = r"(\[[^][@/?#]*\]|[^][@/?#:,]*)(:\d*)?"
_ADDRESS = re.compile(
    rf"(?!.*%(?![0-9a-f]{{2}}))postgres(ql)?://([^@/?#]*@)?{_HOST}(,{_HOST})*(/[^@?#]*)?(\?[^@#]*)?", re.IGNORECASE
)
"""What can be taken apart with certainty: none of a password is then taken for the host or the database."""


class _Tx:
    skip_locked = " FOR UPDATE SKIP LOCKED"
    shared = True

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def row(self, sql: str, **values: Any) -> Row | None:
        return self._execute(sql, values).fetchone()

    def write(self, sql: str, **values: Any) -> int:
        return self._execute(sql, values).rowcount

    def now(self) -> float:
        (row,) = self.rows("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
        return float(row["now"])

    def _execute(self, sql: str, values: dict[str, Any]) -> psycopg.Cursor[Row]:
        return self._connection.execute(_known(_PARAMETER.sub(r"%(\1)s", sql)), values)


class _Connection(psycopg.Connection[Row]):
    """One that is closed when an answer does not come for as long as `patience_s` says."""

    patience_s: Callable[[], float] = staticmethod(lambda: ANSWER_S)

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: PQGen[T]) -> PQGen[T]:
        began = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() - began >= self.patience_s():
                    self.close()  # nothing more is asked of it, not even to take back what was begun
                    raise psycopg.OperationalError("the server does not answer")
                wanted = gen.send(ready)
        except StopIteration as done:
            answer: T = done.value
            return answer


class PostgresStore:
    """Runs functions of a transaction over one connection, which is made when it is first needed, and again when the
    server did not answer for `answer_s` seconds."""

    def __init__(self, url: str, *, answer_s: float = ANSWER_S) -> None:
        if not _ADDRESS.fullmatch(url):
            raise _unreadable()
        self._url, self.name, self._answer_s = url, without_password(url), answer_s
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batchkit-ledger")
        self._connection: psycopg.Connection[Row] | None = None
        self._closing: Future[None] = Future()

    async def run(self, work: Callable[[Tx], T]) -> T:
        """See Store."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._run, work)

    async def close(self) -> None:
        self._closing.set_result(None)
        await asyncio.get_running_loop().run_in_executor(self._worker, self._close)
        self._worker.shutdown()

    def _run(self, work: Callable[[Tx], T]) -> T:
        with self._errors():
            for attempt in range(1, MOST_TRIES):
                try:
                    return self._once(work)
                except (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation):
                    time.sleep(random.random() * min(0.2, 0.002 * 2**attempt))
            return self._once(work)

    def _once(self, work: Callable[[Tx], T]) -> T:
        if self._connection is None:
            self._connection = self._open()
        with self._connection.transaction():
            return work(_Tx(self._connection))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection[Row]:
        connect = partial(
            _Connection.connect,
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name="batchkit",
            row_factory=dict_row,
        )
        coming: Future[_Connection] = begin(connect)
        waited: set[Future[Any]] = {coming, self._closing}
        wait(waited, return_when=FIRST_COMPLETED)  # whoever closes does not wait for an answer
        if not coming.done():
            raise LedgerUnreachable(f"the ledger {self.name} was closed while it was waited for")
        try:
            connection = coming.result()
        except psycopg.ProgrammingError:  # its words would repeat the address, and the password with it
            raise _unreadable() from None
        connection.patience_s = self._patience_s
        try:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            self._migrate(connection)
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        except BaseException:
            connection.close()
            raise
        return connection

    def _patience_s(self) -> float:
        return min(LEAVE_S, self._answer_s) if self._closing.done() else self._answer_s

    def _migrate(self, connection: psycopg.Connection[Row]) -> None:
        """Bring the schema to today's format, one process at a time; what cannot be brought there is left untouched."""
        connection.execute(_known(f"SET search_path TO {_SCHEMA}"))
        tx = _Tx(connection)
        with connection.transaction():
            tx.row("SELECT pg_advisory_xact_lock(hashtext('batchkit ledger'))")
            if tx.row("SELECT 1 AS found FROM pg_namespace WHERE nspname = :schema", schema=_SCHEMA) is None:
                tx.write(f"CREATE SCHEMA {_SCHEMA}")
                tx.write("CREATE TABLE format (version BIGINT NOT NULL)")
                tx.write("INSERT INTO format VALUES (0)")
            seen = tx.row("SELECT has_schema_privilege(:schema, 'USAGE') AS ours", schema=_SCHEMA)
            if seen is None or not seen["ours"]:  # else its tables are said not to exist
                raise self._closed_to_us()
            (row,) = tx.rows("SELECT version FROM format")
            for number, statements in missing(int(row["version"]), self.name).items():
                for statement in statements:
                    connection.execute(_known(_spelt(statement)))
                tx.write("UPDATE format SET version = :version", version=number)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """PostgreSQL's complaints as ours, by its classes."""
        try:
            yield
        except (errors.SerializationFailure, errors.DeadlockDetected):
            words = f"the ledger {self.name} is in heavy use"
            raise LedgerUnreachable(words, hint="run the same command again") from None
        except psycopg.OperationalError as error:
            self._close()
            raise self._unopened(error) from None
        except errors.InsufficientPrivilege:
            raise self._closed_to_us() from None
        except psycopg.ProgrammingError as error:
            raise ConfigError(f"the ledger {self.name}: {visible(str(error).strip(), 300)}") from None
        except psycopg.Error as error:
            self._close()
            raise LedgerError(f"the ledger {self.name}: {visible(str(error).strip(), 300)}") from None

    def _unopened(self, error: psycopg.OperationalError) -> LedgerError:
        """What a server says before it lets one in may be a setting's fault; all else passes."""
        said = str(error).strip().splitlines() or ["no reason given"]
        fatal = next((line for line in said if "FATAL" in line), None)  # of several addresses one may have answered
        reason = visible(fatal or said[0], 300)
        if _asked_password(error) or (fatal is not None and _REFUSES.search(fatal)):
            words = f"the ledger {self.name} lets nobody in: {reason}"
            return LedgerRefused(words, hint="check user and database of the address, and PGPASSWORD or ~/.pgpass")
        return LedgerUnreachable(f"the ledger {self.name} cannot be reached: {reason}")

    def _closed_to_us(self) -> LedgerRefused:
        words = f"the ledger {self.name}: this role has no permission there"
        return LedgerRefused(
            words,
            hint=f"as its owner: GRANT USAGE ON SCHEMA {_SCHEMA} TO ROLE; "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {_SCHEMA} TO ROLE",
        )


_REFUSES = re.compile("authentication failed|pg_hba|does not exist|permission denied|not permitted to log in")
"""What a server says that lets nobody in before a setting is mended; all else passes."""


def _asked_password(error: psycopg.OperationalError) -> bool:
    """Whether the server wanted a password, and none or a wrong one was given."""
    try:
        return error.pgconn is not None and bool(error.pgconn.needs_password)
    except psycopg.Error:
        return False


def _unreadable() -> ConfigError:
    return ConfigError(
        "the ledger's address is none that PostgreSQL can read",
        hint="give postgresql://[user[:password]@]host[:port]/database, and % / @ # ? in a password as"
        " %25 %2F %40 %23 %3F",
    )


def without_password(url: str) -> str:
    """The address of a database as it may be shown: without the password, and without what else the query says."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _spelt(statement: str) -> str:
    for ours, theirs in _TYPES:
        statement = re.sub(rf"\b{ours}\b", theirs, statement)
    return statement


def _known(sql: str) -> bytes:
    """psycopg takes text that is no literal for a stranger's; ours is joined from our own column names only."""
    return sql.encode()
