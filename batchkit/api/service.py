"""The nine calls, of files and batches, in the target's dialect."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiofiles
import httpx

from batchkit import wire
from batchkit.api.attempts import Call
from batchkit.api.http import Http, Upload
from batchkit.clock import Clock
from batchkit.config import Settings, Target
from batchkit.disk import PIECE
from batchkit.errors import NotFound, Refused, Unauthorized, Unintelligible
from batchkit.model import CHAT, Batch, RemoteFile

PAGE = 100
MAX_PAGES = 1000


class Service:
    """One target's files and batches.

    All calls raise Refused (and its kinds) for a definite no, Unavailable for a service that cannot be had now, and
    the two that create raise Uncertain when their answer was lost: look before asking again.
    """

    def __init__(
        self, target: Target, clock: Clock, settings: Settings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.target = target
        self._http = Http(target, clock, settings, transport)
        self._unfiltered = False
        self._batch = partial(wire.batch, service=target.service)

    @property
    def creating(self) -> bool:
        """Whether a request that creates something is on its way."""
        return self._http.creating

    async def close(self) -> None:
        await self._http.close()

    async def glance(self) -> Mapping[str, str]:
        """The headers of the answer to a small question: whether it is answered at all, and by which clock."""
        headers: dict[str, str] = {}
        await self._http.json(Call.READ, "GET", "batches", wire.page, params={"limit": 1}, headers=headers)
        return headers

    async def upload(self, path: Path, name: str, size: int) -> RemoteFile:
        """Send a file as input for batches, streamed, asking for expiry.

        The part needs a Content-Type of its own, or Azure answers 400 "no or an empty content type"; the dotted names
        of the expiry fields are those of Microsoft's guide, and SDKs send the bracketed ones.
        """
        boundary = secrets.token_hex(16)
        fields = {"purpose": "batch"}
        if self.target.expires_s:
            dotted = ("expires_after.anchor", "expires_after.seconds")
            names = dotted if self.target.azure else ("expires_after[anchor]", "expires_after[seconds]")
            fields |= dict(zip(names, ("created_at", str(self.target.expires_s)), strict=True))
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/json\r\n\r\n"
        )
        before, after = head.encode(), f"\r\n--{boundary}--\r\n".encode()

        async def body() -> AsyncIterator[bytes]:
            yield before
            async with aiofiles.open(path, "rb", buffering=0) as file:
                while piece := await file.read(PIECE):
                    yield piece
            yield after

        upload = Upload(body, len(before) + size + len(after), f"multipart/form-data; boundary={boundary}")
        return await self._http.json(Call.CREATE_FILE, "POST", "files", wire.file, upload=upload)

    async def file(self, file_id: str) -> RemoteFile:
        return await self._http.json(Call.READ, "GET", f"files/{_segment(file_id)}", wire.file)

    async def files(self) -> list[RemoteFile]:
        """All files for batches, whatever pages they come in; each once."""
        return [wire.file(doc) async for doc in self._pages("files", {"purpose": "batch"})]

    async def content(self, file_id: str, path: Path, size: int | None = None) -> bool:
        """Stream a file's content, of `size` bytes if that is known, to `path`; whether it came in one piece.

        A `path` that holds the beginning of the same file is gone on with where the service can do that.
        """
        return await self._http.download(f"files/{_segment(file_id)}/content", path, size)

    async def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is fine."""
        try:
            await self._http.json(Call.DELETE, "DELETE", f"files/{_segment(file_id)}", dict)
        except NotFound:
            return

    async def create_batch(
        self, file_id: str, url: str, metadata: Mapping[str, str], *, fence: Callable[[], None] = lambda: None
    ) -> tuple[Batch, int | None]:
        """Start a batch from a processed file; with it comes the limit of the deployment's queue in tokens, where the
        service names it. Sent once: never repeated unless it surely was not sent, and only while `fence` lets it pass.
        """
        expires = self.target.expires_s if self.target.output_expiry else None
        body = wire.create_batch(file_id, self._endpoint(url), metadata=metadata, output_expires_s=expires)
        headers: dict[str, str] = {}
        batch = await self._http.json(
            Call.CREATE_BATCH, "POST", "batches", self._batch, body=body, fence=fence, headers=headers
        )
        limit = headers.get("deployment-maximum-enqueued-tokens", "")
        return batch, int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 16 else None

    async def batch(self, batch_id: str) -> Batch:
        return await self._http.json(Call.READ, "GET", f"batches/{_segment(batch_id)}", self._named(batch_id))

    async def batches(self, where: str | None = None) -> AsyncGenerator[Batch, None]:
        """All batches, page by page, each once; stop early by leaving the loop. Their order is not documented.

        `where` (see `wire.batch_filter`) leaves others away where the service can filter (dated previews from
        2024-10-01 on); elsewhere, and where it refuses the filter, they come too.
        """
        params: dict[str, str | int] = {"limit": PAGE}
        if where is not None and self.target.filters and not self._unfiltered:
            try:
                async for doc in self._pages("batches", params | {"$filter": where}):
                    yield self._batch(doc)
                return
            except Unauthorized:
                raise
            except Refused:
                self._unfiltered = True
        async for doc in self._pages("batches", params):
            yield self._batch(doc)

    async def cancel(self, batch_id: str) -> Batch:
        return await self._http.json(Call.CANCEL, "POST", f"batches/{_segment(batch_id)}/cancel", self._named(batch_id))

    def _named(self, batch_id: str) -> Callable[[dict[str, Any]], Batch]:
        """What reads a batch of this id; another one, as of a cache on the way, is no answer."""

        def read(document: dict[str, Any]) -> Batch:
            batch = self._batch(document)
            if batch.id != batch_id:
                raise Unintelligible(f"the service was asked for {batch_id} and answered of {batch.id}")
            return batch

        return read

    def _endpoint(self, url: str) -> str:
        """The `endpoint` of a batch. Azure's samples send /chat/completions for chat and responses alike and read
        the kind from the file; elsewhere it must equal the lines' url."""
        if self.target.create_endpoint:
            return self.target.create_endpoint
        chat_or_responses = url.removeprefix("/v1") in ("/chat/completions", "/responses")
        return CHAT.removeprefix("/v1") if self.target.azure and chat_or_responses else url

    async def _pages(self, path: str, params: Mapping[str, str | int]) -> AsyncIterator[dict[str, Any]]:
        """A whole list. What changes meanwhile may move an entry to the next page: it comes once. A cursor that comes
        again, or too many pages, makes it Unintelligible rather than endless."""
        after: str | None = None
        seen: set[str] = set()
        known: set[object] = set()
        for _ in range(MAX_PAGES):
            query = {**params, "after": after} if after else params
            entries, after = await self._http.json(Call.READ, "GET", path, wire.page, params=query)
            for entry in entries:
                name = entry.get("id")
                if isinstance(name, str):
                    if name in known:
                        continue
                    known.add(name)
                yield entry
            if after is None:
                return
            if after in seen:
                break
            seen.add(after)
        raise Unintelligible(f"the service's list of {path} does not end")


def _segment(identifier: str) -> str:
    """An id as one path segment: an id from the service must not be able to change the address."""
    if not identifier.strip("."):
        raise Unintelligible("the service gave an id that is none")
    return quote(identifier, safe="")
