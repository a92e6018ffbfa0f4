"""A client for one command: which service, which ledger, the built-in emulator, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

from batchkit import interrupts
from batchkit.cli import rehearsal
from batchkit.cli.options import Where
from batchkit.cli.printer import Face
from batchkit.cli.telling import NOBODY, Telling
from batchkit.clock import Clock, SystemClock
from batchkit.config import MIN_POLL_S, Settings, Target
from batchkit.config.targets import load_target
from batchkit.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    from batchkit.client import AsyncClient
    from batchkit.engine.pump import Progress

T = TypeVar("T")
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Session:
    """Runs coroutines of a client; the first SIGINT, SIGTERM or SIGHUP stops cleanly, the second at once."""

    def __init__(
        self,
        face: Face,
        where: Where,
        target: str | Target | None,
        ledger: str | None,
        clock: Clock | None,
        telling: Telling = NOBODY,
        strict: bool = False,
    ) -> None:
        self._face, self._where, self._target, self._ledger, self._clock = face, where, target, ledger, clock
        self._telling, self._settings = telling, Settings(strict=strict)

    @property
    def deployment(self) -> str | None:
        """The target's deployment, where it names one."""
        target = self._target
        return (target if isinstance(target, Target) else load_target(target, config=self._where.config)).deployment

    def act(
        self,
        work: Callable[[AsyncClient], Awaitable[T]],
        *,
        watching: Callable[[Clock], AbstractContextManager[object]] | None = None,
    ) -> T:
        """What `work` returns for a client of this command's service and ledger; `watching` shows how it goes."""
        from batchkit.bridge import Loop

        interrupts.stop()
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(self._act(work, watching or self._face.watching))

    async def _act(
        self, work: Callable[[AsyncClient], Awaitable[T]], watching: Callable[[Clock], AbstractContextManager[object]]
    ) -> T:
        from batchkit.client import AsyncClient

        received: list[int] = []
        steps: list[Progress] = []

        def progress(step: Progress) -> None:
            steps[:] = [step]
            self._face.progress(step)

        async with AsyncClient(
            self._target,
            ledger=self._ledger,
            config=self._where.config,
            settings=self._settings,
            clock=self._clock,
            on_progress=progress,
            commands=self._telling.commands,
            metrics=self._telling.metrics_file,
        ) as client:
            doing = asyncio.ensure_future(work(client))

            def stop(number: int) -> None:
                received.append(number)
                _check_terminal()
                if len(received) > 1:
                    doing.cancel()
                    return
                client.interrupt()
                self._face.say("stopping at the next safe point; once more to stop at once")

            loop = asyncio.get_running_loop()
            for number in _STOPPING:
                if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                    loop.add_signal_handler(number, stop, number)
            try:
                with watching(self._clock or SystemClock()):
                    return await doing
            except asyncio.CancelledError:
                raise _with_exit(_stopped(steps), received) from None
            except Interrupted as error:
                raise _with_exit(error, received) from None


@contextmanager
def opened(
    face: Face,
    where: Where,
    *,
    every_s: float | None = None,
    offline: bool = False,
    telling: Telling = NOBODY,
    strict: bool = False,
) -> Iterator[Session]:
    """The session that the shared flags ask for; `offline` for what only reads the ledger."""
    ledger, target, clock = where.ledger, None, None
    with ExitStack() as stack:
        if where.emulator:
            home = rehearsal.home(ledger)
            ledger = str(home / "ledger.sqlite3")
            if not offline:
                target, clock = rehearsal.emulator(home / "service", where.speed, stack)
                target = replace(target, poll_interval_s=every_s or target.poll_interval_s)
        elif every_s is not None:
            target = load_target(where.target, config=where.config)
            if target.azure and not target.local and every_s < MIN_POLL_S:
                raise ConfigError("Azure asks for at least 60 seconds between looks", hint="--every 60")
            target = replace(target, poll_interval_s=every_s)
        yield Session(face, where, target or where.target, ledger, clock, telling, strict)


def _check_terminal() -> None:
    """What a closed terminal cannot show any more is said to nobody."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _stopped(steps: list[Progress]) -> Interrupted:
    """Stopped at once, with what was last seen of the job: the ledger knows the rest."""
    from batchkit.engine.pump import standing

    if not steps:
        return Interrupted("stopped at once; everything is saved", hint="batchkit list")
    job = steps[0].job
    words = f"stopped at once; job {job.name!r} is safe in the ledger (as last seen, {standing(job)})"
    return Interrupted(words, hint=f"batchkit show {quote(job.name)}  # or the same command again to go on")


def _with_exit(error: Interrupted, received: list[int]) -> Interrupted:
    error.exit = 128 + (received[0] if received else signal.SIGINT)
    return error
