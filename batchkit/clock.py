"""Now, monotonic time and sleep behind one small protocol, so that days can pass in a test or a rehearsal."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """All times in seconds: `now` since 1970 (UTC), `monotonic` since some fixed moment."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


DEADLINE: ContextVar[float | None] = ContextVar("batchkit deadline", default=None)
"""Until when, by the clock's `now`, whoever waits for the work of this context does so."""


class SystemClock:
    """The clock on the wall."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class ScaledClock:
    """A clock that runs `speed` times as fast as the wall's, from `start` (default: now)."""

    def __init__(self, speed: float, start: float | None = None) -> None:
        self.speed = speed
        self._start = time.time() if start is None else start
        self._began = time.monotonic()

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class ManualClock:
    """A clock for tests, ours and yours: it stands still until somebody sleeps on it or moves it."""

    def __init__(self, start: float = 1_760_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._now += max(0.0, seconds)

    def step(self, seconds: float) -> None:
        """Set the clock, also back, as an administrator or a time server does."""
        self._now += seconds
