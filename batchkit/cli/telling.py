"""The flags that say who is told how jobs stand: `telling: Telling` in a command, and `opened(…, telling=telling)`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchkit.disk import check_writable
from batchkit.errors import BatchkitError, LocalError

if TYPE_CHECKING:
    from batchkit.cli.printer import Face
    from batchkit.notify import Command

TELL: dict[str, Any] = {
    "on_done": Annotated[
        str | None,
        typer.Option("--on-done", help="A shell command to run when a job is done; its document is on stdin."),
    ],
    "on_change": Annotated[
        str | None, typer.Option("--on-change", help="A shell command to run whenever a job's state or status changes.")
    ],
    "metrics_file": Annotated[
        Path | None,
        typer.Option("--metrics-file", help="Keep metrics of the ledger's jobs here, for Prometheus.", metavar="PROM"),
    ],
}


@dataclass(frozen=True)
class Telling:
    """Who is told how jobs stand."""

    on_done: str | None = None
    on_change: str | None = None
    metrics_file: Path | None = None

    @property
    def commands(self) -> tuple[Command, ...]:
        from batchkit.notify import Command  # what only looks must not load the network

        given = (("change", self.on_change), ("done", self.on_done))
        return tuple(Command(when, shell) for when, shell in given if shell)

    @contextmanager
    def kept(self, face: Face) -> Iterator[Telling]:
        """The same for a command's work. That metrics cannot be written keeps nobody from it: it is said at the end."""
        trouble = self._trouble()
        try:
            yield self if trouble is None else replace(self, metrics_file=None)
        except BatchkitError:
            if trouble is not None and not face.as_json:  # where an error is one document
                face.fail(trouble, repeats=False)
            raise
        if trouble is not None:
            face.repeats = False
            raise trouble

    def _trouble(self) -> LocalError | None:
        try:
            if self.metrics_file is not None:
                check_writable(self.metrics_file)
        except LocalError as error:
            return LocalError(f"the metrics are not written: {error}", hint=error.hint)
        return None


NOBODY = Telling()
