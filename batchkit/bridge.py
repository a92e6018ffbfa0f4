"""The async core from sync code: a private event loop on one thread.

`asyncio.run` fails inside notebooks and frameworks that already run a loop; a loop of our own works everywhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

from batchkit.aside import begin
from batchkit.errors import UsageError

T = TypeVar("T")
_GLANCE_S = 0.2
_PATIENCE_S = 15.0
"""How long what was cancelled may take to clean up."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose program can end while a name is looked up: that may take long, and cannot be cut short."""

    async def getaddrinfo(self, *place: Any, **kind: Any) -> Any:
        """As `socket.getaddrinfo`."""
        return await asyncio.wrap_future(begin(partial(socket.getaddrinfo, *place, **kind)))


class Bridge:
    """Runs coroutines to their end, one caller at a time, on its own thread."""

    def __init__(self, cut_short: Callable[[], Coroutine[Any, Any, KeyboardInterrupt]]) -> None:
        """`cut_short` says what an interrupt left behind."""
        self._cut_short = cut_short
        self._loop, self._process = Loop(), os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="batchkit", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, or its exception. An interrupted caller lets it clean up first."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a Client cannot be used from its own on_progress; use AsyncClient there")
        if self._forked:
            work.close()
            raise UsageError(
                "this Client was made before the process was forked, and works only where it was made",
                hint="make a new Client in the child process, which shares the ledger with it",
            )
        if self.closed:
            work.close()
            raise RuntimeError("this Client is closed; make a new one")
        future: Future[T] | None = None
        try:  # an interrupt may come before it is known here what was begun
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            while not wait((future,), _GLANCE_S).done:
                continue  # Ctrl-C is heard in between: under polars' handler it ends no waiting
            return future.result()
        except KeyboardInterrupt:
            self._settle()
            work.close()
            stopped = asyncio.run_coroutine_threadsafe(self._cut_short(), self._loop).result(_PATIENCE_S)
            raise stopped from None
        except BaseException:
            if future is None or not future.done():
                self._settle()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """An async iterator as a sync one."""
        end = object()
        try:
            while True:
                item = self.call(_next(source, end))
                if item is end:
                    return
                yield item  # type: ignore[misc]  # `end` is the only other thing _next gives
        finally:
            if hasattr(source, "aclose"):
                self.call(source.aclose())

    @property
    def closed(self) -> bool:
        return self._loop.is_closed() or self._forked

    @property
    def _forked(self) -> bool:
        """Whether this is a child of the process that has the thread."""
        return os.getpid() != self._process

    def close(self) -> None:
        if not self.closed:
            self._settle()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _settle(self) -> None:
        """Let what was cancelled run its cleanup."""

        async def others() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(others(), self._loop).result(_PATIENCE_S)


async def _next(source: AsyncIterator[T], end: object) -> T | object:
    try:
        return await source.__anext__()  # `anext` with a default leaves the source running when it is cancelled
    except StopAsyncIteration:
        return end
