"""A content server that breaks off: any file, cut at any byte, in each way HTTP can frame a body."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import httpx
import orjson

PAGE = "<html>busy</html>"
Framing = Literal["length", "chunked", "close"]


@dataclass
class Cutter(httpx.AsyncBaseTransport):
    """Real connections: everything goes where it is sent, but contents come from here, cut after `at` bytes of the
    file for the next `times` answers. `ranges` says whether Range is honoured, `sizes` whether file sizes are told."""

    framing: Framing = "length"
    at: int | None = None
    times: int = 0
    ranges: bool = True
    sizes: bool = True
    lie: str | None = None
    page: str | None = None
    """The content type of a gateway's page that comes, whole, instead of the next answer."""
    asked: list[str] = field(default_factory=list)
    _bodies: dict[str, bytes] = field(default_factory=dict)
    _inner: httpx.AsyncHTTPTransport | None = None

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()
        self._inner = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        inner = self._inner = self._inner or httpx.AsyncHTTPTransport()
        if request.url.path.endswith("/content"):
            key = request.url.path
            if key not in self._bodies:
                request.headers.pop("range", "")
                answer = await inner.handle_async_request(request)
                self._bodies[key] = await answer.aread()
                await answer.aclose()
            headers = {"Host": "cutter"} | {k: v for k, v in request.headers.items() if k == "range"}
            moved = httpx.Request("GET", f"http://127.0.0.1:{self._port}{key}", headers=headers)
            return await inner.handle_async_request(moved)
        response = await inner.handle_async_request(request)
        if not self.sizes and "/files/" in request.url.path:
            document = orjson.loads(await response.aread()) | {"bytes": None}
            await response.aclose()
            return httpx.Response(200, stream=httpx.ByteStream(orjson.dumps(document)))
        return response

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.split(" ")[1]
        body, wanted = self._bodies[key], re.search(r"range: bytes=(\d+)-", head, re.IGNORECASE)
        self.asked.append(wanted[1] if wanted else "")
        if self.page is not None:
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: {self.page}\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}".encode()
            )
            self.page = None
            await writer.drain()
            writer.close()
            return
        since = int(wanted[1]) if wanted and self.ranges else 0
        cut = self.at if self.times and self.at is not None else None
        self.times -= self.times > 0
        status = (
            f"206 Partial Content\r\nContent-Range: bytes {since}-{len(body) - 1}/{len(body)}" if since else "200 OK"
        )
        if since and self.lie is not None:
            status = self.lie.format(since=since, last=len(body) - 1, size=len(body))
        piece = body[since:]
        sent = piece if cut is None else piece[: max(0, cut - since)]
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n".encode())
        if self.framing == "length":
            writer.write(f"Content-Length: {len(piece)}\r\nConnection: close\r\n\r\n".encode() + sent)
        elif self.framing == "close":
            writer.write(b"Connection: close\r\n\r\n" + sent)
        else:
            writer.write(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
            for at in range(0, len(sent), 1000):
                part = sent[at : at + 1000]
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            writer.write(b"0\r\n\r\n" if cut is None else b"")
        with suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()
