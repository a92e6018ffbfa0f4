"""Uploading a part over loopback, against curl and the official SDK. The server throws away what it gets."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import data
from .harness import Contender, compare

HERE = "tests.benchmarks.upload"
_ANSWER = (
    b'{"id":"file-1","object":"file","bytes":1,"created_at":1,"filename":"a.jsonl","purpose":"batch",'
    b'"status":"processed"}'
)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def table_upload(directory: Path, scale: float, rounds: int) -> bool:
    path = data.lines_file(directory, int(97_000 * scale), 1800)
    curl, sdk = "curl -F", "official SDK, async"
    with _sink() as url:
        return compare(
            f"upload: {path.stat().st_size / 1e6:.0f} MB over loopback",
            [
                Contender(curl, f"{HERE}:curl", [url, path]),
                Contender(sdk, f"{HERE}:official_sdk", [url, path]),
                Contender("batchkit", f"{HERE}:ours", [url, path], {curl: 0.35, sdk: 1.4}, rss=50),
            ],
            rounds=rounds,
        )


@contextmanager
def _sink() -> Iterator[str]:
    """A server in threads of this process, which waits meanwhile."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    finally:
        server.close()


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_take, args=(connection,), daemon=True).start()


def _take(connection: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    with connection:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := connection.recv(1 << 16)):
                    return
                head += piece
            if b"100-continue" in head:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            found = _LENGTH.search(head)
            left = int(found.group(1)) if found else 0
            left -= len(head) - head.index(b"\r\n\r\n") - 4
            while left > 0:
                left -= connection.recv_into(buffer)
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER)
            connection.sendall(answer + _ANSWER)


def curl(url: str, path: str) -> None:
    command = ["curl", "-sf", "-H", "Expect:", "-F", "purpose=batch", "-F", f"file=@{path}", f"{url}/files"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def prepare_official_sdk() -> None:
    import openai  # noqa: F401


def official_sdk(url: str, path: str) -> None:
    from openai import AsyncOpenAI

    async def send() -> None:
        async with AsyncOpenAI(base_url=url, api_key="x") as client:
            await client.files.create(file=Path(path), purpose="batch")

    asyncio.run(send())


def prepare_ours() -> None:
    import batchkit.api.service  # noqa: F401


def ours(url: str, path: str) -> None:
    from batchkit.api.service import Service
    from batchkit.clock import SystemClock
    from batchkit.config import Settings, make_target
    from batchkit.config.credentials import Credential, Secret

    size = Path(path).stat().st_size

    async def send() -> None:
        target = make_target("local", url, Credential(Secret("x"), bearer=True), dialect="openai")
        service = Service(target, SystemClock(), Settings())
        await service.upload(Path(path), "a.jsonl", size)
        await service.close()

    asyncio.run(send())
