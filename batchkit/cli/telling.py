"""The flags that say who is told how jobs stand: `telling: Telling` in a command, and `opened(…, telling=telling)`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchkit.disk import check_writable

if TYPE_CHECKING:
    from batchkit.notify import Command

TELL: dict[str, Any] = {
    "on_done": Annotated[
        str | None,
        typer.Option("--on-done", help="A shell command to run when a job is done; its document is on stdin."),
    ],
    "on_change": Annotated[
        str | None, typer.Option("--on-change", help="A shell command to run when state or status change.")
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

    def check(self) -> None:
        """Raise LocalError for a file that cannot be written, before hours are spent."""
        if self.metrics_file is not None:
            check_writable(self.metrics_file)


NOBODY = Telling()
