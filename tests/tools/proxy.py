"""A wire that breaks at a chosen byte: a TCP proxy before the emulator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Cut:
    """Where a connection breaks: after so many bytes of the request, or of the response."""

    request: int | None = None
    response: int | None = None


@dataclass
class Proxy:
    """Forwards connections to `upstream`. The n-th that begins with `what` breaks at the n-th cut; others stay whole.

    `sizes` are the bytes of request and response that passed on each.
    """

    upstream: str
    what: bytes
    cuts: Iterable[Cut] = ()
    sizes: list[list[int]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._left, self._open = iter(self.cuts), set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=0.05)
            for connection in list(self._open):
                connection.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = urlsplit(self.upstream)
        self._open.add(writer)
        there, back = await asyncio.open_connection(address.hostname, address.port)
        try:
            first = await reader.read(65536)
            ours = first.startswith(self.what)
            cut = next(self._left, Cut()) if ours else Cut()
            size = [0, 0]
            if ours:
                self.sizes.append(size)
            tasks = {
                asyncio.create_task(_forward(reader, back, first, cut.request, size, 0)),
                asyncio.create_task(_forward(there, writer, b"", cut.response, size, 1)),
            }
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
        finally:
            self._open.discard(writer)
            for stream in (writer, back):
                stream.transport.abort() if ours and cut != Cut() else stream.close()
                with suppress(OSError, asyncio.CancelledError):
                    await stream.wait_closed()


async def _forward(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    piece: bytes,
    most: int | None,
    size: list[int],
    which: int,
) -> None:
    """Pass bytes on, at most so many, and count them."""
    with suppress(OSError):
        while True:
            last = most is not None and size[which] + len(piece) >= most
            piece = piece[: most - size[which]] if most is not None else piece
            sink.write(piece)
            await sink.drain()
            size[which] += len(piece)
            if last or not (piece := await source.read(65536)):
                return
