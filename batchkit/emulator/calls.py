"""What the handlers of all calls share: their shape, JSON bodies, lists, and downloads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from batchkit.emulator.api import Api, Document, Refusal
from batchkit.emulator.disturb import Struck


@dataclass(frozen=True)
class Asked:
    """One call: the request, the API it speaks, and the faults that strike it."""

    request: Request
    api: Api
    struck: Struck

    @property
    def id(self) -> str:
        """The id in its path."""
        return str(self.request.path_params["id"])


Handler = Callable[[Asked], Awaitable[Response]]

MAX_JSON = 1 << 20


class Content(FileResponse):
    """A download, with ranges, in pieces large enough for the disk."""

    chunk_size = 1 << 20

    def __init__(self, path: Path) -> None:
        super().__init__(path, media_type="application/octet-stream")


def listing(data: list[Document], more: bool, struck: Struck) -> Document:
    cursors = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **({} if "bare_list" in struck else cursors), "has_more": more}


async def json_of(request: Request) -> Document:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_JSON:
            raise Refusal(413, "invalidPayload", "The request is too large.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise Refusal(400, "invalidPayload", "The request body is not a JSON object.")
    return document
