"""Faults of the connection and the HTTP answer, played on one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from email.utils import formatdate

import orjson
from starlette.responses import HTMLResponse, Response
from starlette.types import Message, Receive, Scope, Send

from batchkit.emulator.api import Document, envelope
from batchkit.emulator.faults import Fault

Struck = Mapping[str, Fault]
Cut = Callable[[Scope], None]
"""Ends a request's connection at once, without another byte."""
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr></body></html>"


class ConnectionCut(Exception):
    """A connection was cut on purpose. Only seen where there is no connection: on an app called in process."""


def instead(struck: Struck, *, dated: bool, now: float) -> Response | None:
    """The answer that a fault gives in place of doing the call."""
    if fault := struck.get("html"):
        return HTMLResponse(_PAGE.format(f"{fault.number:.0f} Bad Gateway"), int(fault.number))
    if fault := struck.get("throttle"):
        words = f"Too many requests. Please retry after {fault.number:g} seconds."
        return answer(envelope(dated, 429, "429", words), 429, _retry_after(fault, now))
    if fault := struck.get("error"):
        status = int(fault.number)
        return answer(envelope(dated, status, str(status), "The emulator was told to fail this call."), status)
    return None


def _retry_after(fault: Fault, now: float) -> dict[str, str]:
    seconds = fault.number
    return {
        "seconds": {"retry-after": f"{seconds:g}"},
        "date": {"retry-after": formatdate(now + seconds, usegmt=True)},
        "ms": {"retry-after-ms": f"{seconds * 1000:g}"},
        "none": {},
    }[fault.how]


def hearing(receive: Receive, scope: Scope, struck: Struck, cut: Cut) -> Receive:
    """The request's body, cut off where a `reset_at how=request` says."""
    fault = struck.get("reset_at")
    if fault is None or fault.how != "request":
        return receive
    heard = 0

    async def until_cut() -> Message:
        nonlocal heard
        message = await receive()
        heard += len(message.get("body", b""))
        if heard < fault.number:
            return message
        await _hang_up(scope, receive, cut)
        return {"type": "http.disconnect"}

    return until_cut


async def deliver(response: Response, scope: Scope, receive: Receive, send: Send, struck: Struck, cut: Cut) -> None:
    """Send the answer of a call that was done, as far as the faults let it through."""
    if (fault := struck.get("lose_answer")) and fault.how == "cut":
        await _hang_up(scope, receive, cut)
        return
    if fault:
        dated = not scope["path"].startswith(("/openai/v1/", "/v1/"))
        response = answer(envelope(dated, 500, "internalFailure", "The server had an error."), 500)
    if (fault := struck.get("reset_at")) and fault.how == "response":
        await response(scope, receive, _until(send, int(fault.number)))
        await asyncio.sleep(0)  # what was written goes out before the end does
        await _hang_up(scope, receive, cut)
        return
    if fault := struck.get("truncate"):
        send = _short(send, int(fault.number))
    if fault := struck.get("slow"):
        send = _slow(send, fault.number)
    await response(scope, receive, send)


async def _hang_up(scope: Scope, receive: Receive, cut: Cut) -> None:
    cut(scope)
    while (await receive())["type"] != "http.disconnect":
        pass


def _until(send: Send, limit: int) -> Send:
    """Sends the head and `limit` bytes of the body, and leaves it unfinished."""
    left = limit

    async def sending(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.start":
            await send(message)
        elif left > 0 and (body := bytes(message.get("body", b""))[:left]):
            left -= len(body)
            await send({"type": "http.response.body", "body": body, "more_body": True})

    return sending


def _short(send: Send, limit: int) -> Send:
    """Sends `limit` bytes of the body and ends it as if that were all."""
    left, ended = limit, False

    async def sending(message: Message) -> None:
        nonlocal left, ended
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
            await send({**message, "headers": headers})
        elif not ended:
            body = bytes(message.get("body", b""))[:left]
            left -= len(body)
            ended = left == 0 or not message.get("more_body", False)
            await send({"type": "http.response.body", "body": body, "more_body": not ended})

    return sending


def _slow(send: Send, rate: float) -> Send:
    """Sends at most `rate` bytes in a (real) second."""
    piece = max(1, int(rate / 20))

    async def sending(message: Message) -> None:
        body, more = bytes(message.get("body", b"")), message.get("more_body", False)
        if message["type"] == "http.response.start" or not body:
            await send(message)
            return
        for at in range(0, len(body), piece):
            part = body[at : at + piece]
            last = at + piece >= len(body)
            await send({"type": "http.response.body", "body": part, "more_body": more or not last})
            await asyncio.sleep(len(part) / max(rate, 1e-3))

    return sending


def answer(document: Document, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer of the service."""
    return Response(orjson.dumps(document), status, dict(headers or {}), media_type="application/json")
