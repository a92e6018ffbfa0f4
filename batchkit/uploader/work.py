"""What the uploader's turn works with, and the few words its steps have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Settings, Target
from batchkit.disk import Workdir
from batchkit.errors import ConfigError, LocalError, Unfinished
from batchkit.ledger import Hold
from batchkit.model import Batch, Job, Next, Part, RemoteFile, State
from batchkit.uploader.staging import Rename


@dataclass
class Work:
    """One turn's doors, the job as it stood at its start, and what was already learned in this turn."""

    job: Job
    target: Target
    apis: Mapping[str, Service]
    """The doors of the target's members, by their services."""
    hold: Hold
    clock: Clock
    settings: Settings
    workdir: Workdir
    rename: Rename
    listings: dict[str, tuple[float, list[Batch]]] = field(default_factory=dict)
    files: dict[str, list[RemoteFile]] = field(default_factory=dict)
    full: dict[tuple[str | None, str | None], Next] = field(default_factory=dict)
    """Queues that are not to be tried again in this turn."""
    strange: list[Batch] = field(default_factory=list)
    """Batches that another ledger has of the same rows."""
    aside: set[str] = field(default_factory=set)
    """Targets that were set aside in this turn."""
    silent: set[str] = field(default_factory=set)
    """Services that were found to be silent in this turn."""

    def api(self, part: Part) -> Service:
        """The door to where a part's file and batch are."""
        try:
            return self.apis[part.service or ""]
        except KeyError:
            raise ConfigError(
                f"part {part.number} of job {self.job.name!r} is at {part.service}, which is no part of this target",
                hint="use the target it was submitted to",
            ) from None

    def member(self, part: Part) -> Target:
        """The target a part belongs to; another deployment of the same service will do for its limits."""
        at = [member for member in self.target.members if member.service == part.service]
        named = [member for member in at if member.name == part.target]
        return (named or at or [self.target])[0]

    async def lines_here(self, part: Part) -> None:
        """Raise where a part's request lines are not here: Unfinished where another host may have and send them, else
        LocalError."""
        path, name = self.workdir.lines(part), quote(self.job.name)
        if await asyncio.to_thread(path.exists):
            return
        brings = f"batchkit run ROWS … --name {name}  # with the same rows, sends them from here"
        if await self.hold.write(lambda tx: tx.shared):
            raise Unfinished(
                f"the request lines of job {self.job.name!r} are not on this machine: the one that has them sends them",
                hint=brings if not part.round else f"batchkit show {name}",
            )
        raise LocalError(
            f"the request lines of job {self.job.name!r} are gone before they were sent: {path}",
            hint=brings if not part.round else f"put the file back, or give its rows up: batchkit cancel {name}",
        )

    async def current(self, part: Part) -> Part:
        """A part as the ledger has it by now."""
        return next((known for known in (await self.hold.job()).parts if known.id == part.id), part)

    async def listed(self, service: str) -> tuple[float, list[Batch]]:
        """One full listing of a service a turn, and when it began. It finds lost answers, late twins, and what intents
        cannot: an old ledger put back."""
        if service not in self.listings:
            began = self.clock.now()
            self.listings[service] = began, [batch async for batch in self.apis[service].batches()]
        return self.listings[service]

    async def move(self, part: Part, to: State, *, event: str = "", batch: Batch | None = None, **changes: Any) -> Part:
        return await self.hold.move(part, to, at=self.clock.now(), event=event, batch=batch, **changes)

    async def note(self, kind: str, words: str, part: Part) -> None:
        await self.hold.note(kind, words, at=self.clock.now(), part=part.number)

    def later(self, seconds: float, why: str) -> Next:
        return Next(self.clock.now() + seconds, why)
