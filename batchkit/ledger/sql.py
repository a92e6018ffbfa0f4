"""What a ledger needs of a database: functions of a transaction, each in a durable transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from typing import Any, Protocol, TypeVar

from batchkit.errors import LedgerTooNew, LedgerTooOld

T = TypeVar("T")


class Row(Protocol):
    """A row by its columns' names: `dict(row)` makes a mapping of it."""

    def __getitem__(self, name: str, /) -> Any: ...

    def keys(self) -> Iterable[str]: ...


class Tx(Protocol):
    """One transaction: SQL with named parameters (`:name`), rows by the names of their columns.

    `skip_locked` at the end of a SELECT leaves out rows that another transaction is about to change. `shared` says
    whether processes of several hosts may write to this ledger.
    """

    skip_locked: str
    shared: bool

    def rows(self, sql: str, **values: Any) -> list[Row]: ...

    def row(self, sql: str, **values: Any) -> Row | None: ...

    def write(self, sql: str, **values: Any) -> int:
        """Run a statement that changes rows; how many it changed."""

    def now(self) -> float:
        """The time by the clock that all who share this ledger go by: leases are measured with it."""


class Store(Protocol):
    """Where transactions are run. `name` is the store in words that hold no secret."""

    name: str

    async def run(self, work: Callable[[Tx], T]) -> T:
        """`work` in one transaction: all of it is durable when this returns, or none of it ever happened.

        `work` may be run again when another process got in between, so it does nothing but ask and write.
        """

    async def close(self) -> None: ...


@cache
def migrations() -> dict[int, list[str]]:
    """The statements that make a ledger what it is today, by the number of each format since the first release."""
    folder = resources.files("batchkit.ledger").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    texts = {int(name.partition("_")[0]): folder.joinpath(name).read_text("utf-8") for name in names}
    return {number: [part for part in text.split(";\n") if part.strip()] for number, text in texts.items()}


def missing(version: int, name: str) -> dict[int, list[str]]:
    """The migrations that a ledger of format `version` needs; 0 is one that holds nothing yet.

    Raises LedgerTooOld or LedgerTooNew for one that they do not start from.
    """
    first, last = min(migrations()), max(migrations())
    if 0 < version < first:
        raise LedgerTooOld(f"the ledger {name} has format {version}, made by a batchkit before 0.1.0")
    if version > last:
        raise LedgerTooNew(f"the ledger {name} has format {version}, this batchkit knows {last}")
    return {number: statements for number, statements in migrations().items() if number > version}
