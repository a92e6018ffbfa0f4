"""The emulator on a loopback port: a thread beside the caller, one per data directory."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from batchkit.clock import Clock, ScaledClock
from batchkit.emulator.app import make_app
from batchkit.emulator.service import Service, newest


class InUse(Exception):
    """Another emulator works in this data directory."""


class Emulator:
    """A running emulator, as a context manager.

    `url` is its address, to be used as an Azure endpoint; `key` opens it (made at random unless given); `clock` is
    its time, `speed` times as fast as the wall's. Files and batches are kept under `directory`; an emulator started
    there again goes on with them. Raises InUse when another process serves the same directory.

        with Emulator(tmp_path, speed=3600) as service:
            client = AzureOpenAI(azure_endpoint=service.url, api_key=service.key, api_version="2025-04-01-preview")
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        key: str | None = None,
        speed: float = 1.0,
        fail_rate: float = 0.03,
        max_lines: int = 100_000,
        clock: Clock | None = None,
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise InUse(str(directory)) from None
        self.key = key or secrets.token_urlsafe(24)
        self._stopped_at = directory / "stopped-at"
        self.clock = clock or ScaledClock(speed, max(time.time(), newest(directory), self._last_stop()))
        try:
            self._socket = _listen(port)
        except OSError:
            os.close(self._lock)
            raise
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = make_app(Service(directory, self.clock, fail_rate=fail_rate, max_lines=max_lines), self.key)
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._stopped_at.write_text(str(self.clock.now()), "ascii")
        self._socket.close()
        os.close(self._lock)

    def _last_stop(self) -> float:
        """When an emulator last stopped here, by its own clock: time must not run backwards."""
        try:
            return float(self._stopped_at.read_text("ascii"))
        except (OSError, ValueError):
            return 0.0


def _listen(port: int) -> socket.socket:
    """A loopback socket. The protocol is named since asyncio sets TCP_NODELAY only then, and answers on a kept-alive
    connection would otherwise wait 40 ms for an acknowledgement."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made
