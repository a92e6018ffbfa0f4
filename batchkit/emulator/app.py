"""The emulator's HTTP face: dated (`/openai`), v1 (`/openai/v1`) and OpenAI (`/v1`) on one port, as a Starlette app."""

from __future__ import annotations

import hmac
import re
import uuid
from collections import deque
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from batchkit.clock import Clock
from batchkit.emulator import api, blobs, disturb
from batchkit.emulator.api import Api, Refusal
from batchkit.emulator.batch_calls import BatchCalls
from batchkit.emulator.calls import Asked, Handler
from batchkit.emulator.disturb import ConnectionCut, Cut, answer
from batchkit.emulator.faults import Faults
from batchkit.emulator.file_calls import BlobCalls, FileCalls
from batchkit.emulator.service import Service

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True)
class Call:
    """One request the emulator answered: when by its clock, what (`create_batch`, …), and with which status (None for
    a connection that was cut)."""

    at: float
    name: str
    status: int | None


class Emulated:
    """The ASGI app, with what a test may want of it: the faults it plays and the calls it saw."""

    def __init__(self, service: Service, key: str, clock: Clock, faults: Faults, cut: Cut | None = None) -> None:
        self.faults, self.calls = faults, deque[Call](maxlen=100_000)
        self.tokens: dict[str, int | None] = {}
        """Bearer tokens that open it beside the key, and for how many more calls; None for as many as there are."""
        self._key, self._clock, self._cut = key.encode(), clock, cut or _raise
        files, batches, stored = FileCalls(service), BatchCalls(service), BlobCalls(service)
        table: list[tuple[str, str, str, Handler]] = [
            ("upload", "POST", "/files", files.upload),
            ("list_files", "GET", "/files", files.list_files),
            ("import_file", "POST", "/files/import", files.import_file),
            ("get_file", "GET", "/files/{id}", files.get_file),
            ("delete_file", "DELETE", "/files/{id}", files.delete_file),
            ("content", "GET", "/files/{id}/content", files.content),
            ("create_batch", "POST", "/batches", batches.create_batch),
            ("list_batches", "GET", "/batches", batches.list_batches),
            ("get_batch", "GET", "/batches/{id}", batches.get_batch),
            ("cancel", "POST", "/batches/{id}/cancel", batches.cancel),
        ]
        routes = [
            Route(path, _Endpoint(self, name, handler), methods=[method]) for name, method, path, handler in table
        ]
        blob_routes = [
            Route("/{path:path}", _Endpoint(self, "get_blob", stored.get_blob), methods=["GET"]),
            Route("/{path:path}", _Endpoint(self, "put_blob", stored.put_blob), methods=["PUT"]),
        ]
        mounts = [Mount(prefix, routes=routes) for prefix in ("/openai/v1", "/openai", "/v1")]
        self._app = Starlette(routes=[*mounts, Mount(blobs.PREFIX, routes=blob_routes)], exception_handlers=_UNROUTED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, send)

    async def play(self, name: str, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        """One call from the wire to the wire, with the faults that strike it."""
        request, struck = Request(scope), self.faults.strike(name)
        speaks, status = _guess(request), None
        try:
            try:
                self._admit(request)
                speaks = _read(request)
                instead = disturb.instead(struck, dated=speaks.dated, now=self._clock.now())
                heard = disturb.hearing(receive, scope, struck, self._cut)
                response = instead or await handler(Asked(Request(scope, heard), speaks, struck))
            except Refusal as refusal:
                words = api.envelope(speaks.dated, refusal.status, refusal.code, refusal.message)
                response = answer(words, refusal.status)
            except OSError as error:
                words = api.envelope(speaks.dated, 500, "internalFailure", f"The emulator's disk: {error.strerror}")
                response = answer(words, 500)
            response.headers["x-batchkit-emulator"] = "1"
            response.headers["apim-request-id"] = str(uuid.uuid4())
            lost = struck.keys() & {"lose_answer", "reset_at"}
            status = None if lost else response.status_code
            await disturb.deliver(response, scope, receive, send, struck, self._cut)
        except ClientDisconnect:
            status = None
        finally:
            self.calls.append(Call(self._clock.now(), name, status))

    def _admit(self, request: Request) -> None:
        """Only by this machine's names, and only with the key."""
        host = re.sub(r":\d+$", "", request.headers.get("host", ""))
        if host not in HOSTS:
            raise Refusal(403, "forbidden", "The emulator answers to this machine only.")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("api-key") or token
        if hmac.compare_digest(given.encode(), self._key):
            return
        if kind == "Bearer" and token in self.tokens:
            if (left := self.tokens[token]) != 0:
                self.tokens[token] = None if left is None else left - 1
                return
            raise Refusal(
                401,
                "Unauthorized",
                "Access token is missing, invalid, audience is incorrect "
                "(https://cognitiveservices.azure.com), or have expired.",
            )
        raise Refusal(
            401,
            "unauthorized",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
            "for an active subscription and use a correct regional API endpoint for your resource.",
        )


class _Endpoint:
    """A handler as the ASGI app of one route."""

    def __init__(self, app: Emulated, name: str, handler: Handler) -> None:
        self._app, self._name, self._handler = app, name, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app.play(self._name, self._handler, scope, receive, send)


async def _unrouted(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return answer(api.envelope(_guess(request).dated, status, str(status), "Resource not found"), status)


_UNROUTED = {404: _unrouted, 405: _unrouted}


def _raise(scope: Scope) -> None:
    raise ConnectionCut(scope["path"])


def _read(request: Request) -> Api:
    if request.url.path.startswith(blobs.PREFIX):
        return Api("blobs")
    return api.read(request.url.path, request.query_params.get("api-version", ""))


def _guess(request: Request) -> Api:
    """The dialect of a request that is refused before it is known to be sound."""
    return Api("v1" if request.url.path.startswith(("/openai/v1/", "/v1/")) else "dated")
