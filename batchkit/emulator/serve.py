"""The emulator on a loopback port: a thread beside the caller, one per data directory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchkit.clock import Clock, ScaledClock
from batchkit.emulator.app import Call, Emulated
from batchkit.emulator.faults import Fault, Faults, made
from batchkit.emulator.forward import Forward
from batchkit.emulator.replies import Answer, Model
from batchkit.emulator.service import Service
from batchkit.emulator.settings import Deployment, Limits, Pace
from batchkit.emulator.store import newest


class InUse(Exception):
    """Another emulator works in this data directory."""


class Emulator:
    """A running emulator, as a context manager.

    `url` is its address, to be used as an Azure endpoint; `key` opens it (made at random unless given); `clock` is
    its time, `speed` times as fast as the wall's. Files and batches are kept under `directory`; an emulator started
    there again goes on with them. Raises InUse when another process serves the same directory.

    `deployments` are the only ones there are, as Deployment or as `NAME[:MODEL[:SKU[:ENQUEUED_LIMIT]]]`; without any,
    every name is one. `faults` are Fault or lines such as `"lose_answer,nth=1"`. `answer` makes the
    model's reply from a request line (see Answer); `forward` is the base URL of a server that does. `fail_rate` is the
    share of rows that fail; `late_quota` refuses batches over quota after validation instead of at once.

        with Emulator(tmp_path, speed=3600, faults=["throttle,2,nth=1"]) as service:
            client = AzureOpenAI(azure_endpoint=service.url, api_key=service.key, api_version="2025-04-01-preview")
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        port: int = 0,
        key: str | None = None,
        speed: float = 1.0,
        clock: Clock | None = None,
        deployments: Iterable[Deployment | str] = (),
        faults: Iterable[Fault | str] = (),
        fail_rate: float = 0.03,
        answer: Answer | None = None,
        forward: str | Forward | None = None,
        limits: Limits = Limits(),
        pace: Pace = Pace(),
        late_quota: bool = False,
    ) -> None:
        known = [Deployment.parse(entry) if isinstance(entry, str) else entry for entry in deployments]
        script = Faults(made(faults))
        directory = Path(directory)
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
        self._service = Service(
            directory,
            self.clock,
            Model(answer, fail_rate),
            deployments={deployment.name: deployment for deployment in known},
            limits=limits,
            pace=pace,
            forward=Forward(forward) if isinstance(forward, str) else forward,
            late_quota=late_quota,
        )
        self.app = Emulated(self._service, self.key, self.clock, script, _cut)
        config = uvicorn.Config(
            self.app, http=_Protocol, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def calls(self) -> deque[Call]:
        """The requests answered so far, oldest first (the last 100,000)."""
        return self.app.calls

    @property
    def batches(self) -> list[dict[str, Any]]:
        """All batches there are, newest first, as the service shows them in lists."""
        return self._service.all()

    def inject(self, *faults: Fault | str) -> None:
        """Play more faults from now on."""
        self.app.faults.script.extend(made(faults))

    def mend(self) -> None:
        """Play no fault any more; batches keep what has befallen them."""
        self.app.faults.script.clear()

    def accept(self, token: str, calls: int | None = None) -> None:
        """Let this bearer token in beside the key, for so many calls: then it has expired. With 0 it is revoked."""
        self.app.tokens[token] = calls

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


_connections: dict[Any, asyncio.Transport] = {}
"""Open connections by the client's address, so that a fault can cut one: ASGI itself has no word for that."""


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        _connections[transport.get_extra_info("peername")] = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        _connections.pop(self.transport.get_extra_info("peername"), None)
        super().connection_lost(exc)


def _cut(scope: Scope) -> None:
    if transport := _connections.get(tuple(scope["client"])):
        transport.close()


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
