"""What a client holds: its target, ledger and worker, made when they are needed; and how it lets go of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from batchkit.clock import Clock, SystemClock
from batchkit.collector.export import Shape
from batchkit.collector.results import judge
from batchkit.config import Settings, Target
from batchkit.config.targets import load_target
from batchkit.disk import Workdir
from batchkit.engine.intake import Intake, Source
from batchkit.engine.pump import Progress, connect, cut_short
from batchkit.engine.worker import Worker
from batchkit.errors import BatchkitError
from batchkit.given import expect, expect_call, expect_callback
from batchkit.ledger import Ledger, open_ledger
from batchkit.metrics import measure
from batchkit.model import Job
from batchkit.notify import Command

_log = logging.getLogger(__name__)


class Connection:
    """What the verbs of a client work with."""

    def __init__(
        self,
        target: str | Target | None = None,
        *,
        ledger: str | Path | tuple[Ledger, Workdir] | None = None,
        config: str | Path | None = None,
        settings: Settings = Settings(),
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        commands: Sequence[Command] = (),
        metrics: Path | None = None,
    ) -> None:
        expect_call(config=config, metrics=metrics)
        expect("clock", clock, (Clock, type(None)), "a clock", hint="such as batchkit.ManualClock()")
        expect("settings", settings, Settings, "a batchkit.Settings", hint="such as batchkit.Settings(max_attempts=3)")
        self._commands, self._metrics = tuple(commands), metrics
        self._target, self._settings = target, settings
        self._config = None if config is None else Path(config)
        self._clock, self._transport = clock or SystemClock(), transport
        expect_callback("on_progress", on_progress)
        self._on_progress = on_progress or (lambda _: None)
        self._ledger, self._workdir = ledger if isinstance(ledger, tuple) else open_ledger(ledger)
        self._intake = Intake(self._ledger, self._workdir, self._clock, settings.strict)
        self._worker: Worker | None = None
        self._stopping = False
        self._others: list[Self] = []
        self._last: Job | None = None  # that was worked on

    async def close(self) -> None:
        """Let go of connections and the ledger."""
        await self._measure()
        if self._worker is not None:
            await self._worker.pump.close()
        await self._ledger.close()

    def __repr__(self) -> str:
        target = self._target.name if isinstance(self._target, Target) else self._target
        return f"<{type(self).__name__} of {f'the target {target!r}' if target else 'the default target'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def interrupt(self) -> None:
        """Ask whatever runs to stop cleanly; for a signal handler in the same loop."""
        self._stopping = True
        for other in self._others:
            other.interrupt()
        if self._worker is not None:
            self._worker.pump.stop.set()

    async def _cut_short(self) -> KeyboardInterrupt:
        """What Ctrl-C says to code that does not await: where the job stands that was worked on, and how to go on."""
        try:
            return cut_short(self._last and await self._ledger.job(self._last))
        except BatchkitError:
            return cut_short(self._last, known=False)

    @asynccontextmanager
    async def _alone(self, target: Target) -> AsyncIterator[Self]:
        """A client of one target of a pool, with the same ledger."""
        book = self._ledger, self._workdir
        other = type(self)(
            target,
            ledger=book,
            settings=self._settings,
            clock=self._clock,
            transport=self._transport,
            on_progress=self._on_progress,
        )
        self._others.append(other)
        try:
            yield other
        finally:
            self._others.remove(other)
            if other._worker is not None:
                await other._worker.pump.close()

    def _works(self) -> Worker:
        if self._worker is None:
            target, ours = self._load_target(), (self._ledger, self._workdir, self._clock, self._settings)
            pump = connect(target, *ours, commands=self._commands, transport=self._transport)
            self._worker = Worker(pump, self._intake, self._saw)
            if self._stopping:
                pump.stop.set()
        return self._worker

    async def _saw(self, progress: Progress) -> None:
        self._last = progress.job
        self._on_progress(progress)
        await self._measure()

    async def _measure(self) -> None:
        """Write the metrics; a file that cannot be written is no job's trouble."""
        if self._metrics is not None:
            try:
                await measure(self._ledger, self._metrics, self._clock.now())
            except BatchkitError as error:
                _log.warning("the metrics are not written: %s", error)

    def _load_target(self) -> Target:
        if not isinstance(self._target, Target):
            self._target = load_target(self._target, config=self._config)
        return self._target

    async def _known(self, job: Job | str) -> Job:
        expect("job", job, (str, Job), "a Job or its name")
        self._last = await self._ledger.job(job)
        return self._last

    async def _job(
        self,
        source: Source,
        name: str | None,
        stem: str | None,
        new_file: Path | None = None,
        shape: Shape = Shape(),
    ) -> Job:
        target, judged = self._works().pump.target, partial(judge, shape=shape)
        self._last = None
        self._last = await self._intake.job(source, target, name=name, stem=stem, new_file=new_file, judge=judged)
        return self._last
