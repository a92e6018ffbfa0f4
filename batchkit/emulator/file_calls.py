"""The calls about files, and about the blobs that stand beside them."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from batchkit.emulator import api, receive
from batchkit.emulator.api import Api, Document, Refusal
from batchkit.emulator.calls import Asked, Content, json_of, listing
from batchkit.emulator.disturb import answer
from batchkit.emulator.service import Service
from batchkit.emulator.store import private

FORM_BYTES = 1 << 20
"""What a form may have around its file."""
LONGEST_EXPIRY_S = 2_592_000
MAX_BLOB = 1_000_000_000
"""Azure takes batch inputs of 1 GB from blobs."""
PURPOSES = frozenset(
    "batch batch_output assistants assistants_output fine-tune fine-tune-results evals vision user_data".split()
)


class FileCalls:
    """Upload, import, list, get, content, delete."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def upload(self, call: Asked) -> Response:
        service, most = self._service, self._service.limits.max_bytes
        if _length(call.request) > most + FORM_BYTES:
            raise Refusal(413, "invalidPayload", f"The file is too large. The maximum is {most} bytes.")
        path, kind = service.files.new_path(), call.request.headers.get("content-type", "")
        came = await receive.receive(call.request.stream(), kind, path, max_bytes=most)
        try:
            expires_s = _wanted_expiry(came, call.api)
            service.files.admit(expires_s)
            document = service.files.add(path, came.filename or "", expires_s, call.struck)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return answer(document, call.api.uploaded, _location(call.request, document) if call.api.dated else None)

    async def import_file(self, call: Asked) -> Response:
        """By URL, from the emulator's own blobs; what cannot be fetched becomes a file in error, as on Azure."""
        if not (call.api.dated and call.api.file_expiry):
            raise Refusal(404, "404", "Resource not found")
        body = await json_of(call.request)
        name, url = body.get("filename"), body.get("content_url")
        if body.get("purpose") != "batch" or not isinstance(name, str) or not isinstance(url, str):
            raise Refusal(400, "invalidPayload", "purpose batch, filename and content_url are required.")
        expires_s = _expiry_s(body.get("expires_after"), call.api)
        self._service.files.admit(expires_s)
        source, path = self._service.blobs.path(url), self._service.files.new_path()
        found = source is not None and source.is_file()
        await asyncio.to_thread(shutil.copyfile, source if found and source else "/dev/null", path)
        path.chmod(0o600)
        document = self._service.files.add(
            path, name, expires_s, call.struck, trouble=None if found else "fileImportFailed"
        )
        return answer(document, 201, _location(call.request, document))

    async def list_files(self, call: Asked) -> Response:
        query, files = call.request.query_params, self._service.files
        if (purpose := query.get("purpose")) is not None and purpose not in PURPOSES:
            raise Refusal(400, "invalidPayload", "Invalid value for purpose.")
        if not call.api.newest:
            return answer({"object": "list", "data": [files.get(file_id) for file_id in files.ids(purpose)]})
        if (order := query.get("order", "desc")) not in ("asc", "desc"):
            raise Refusal(400, "invalidPayload", "order is asc or desc.")
        ids, more = api.page(files.ids(purpose, oldest_first=order == "asc"), query, default=10_000, most=10_000)
        data = [files.get(file_id) for file_id in ids]
        return answer({"object": "list", "data": data} if call.api.dated else listing(data, more, call.struck))

    async def get_file(self, call: Asked) -> Response:
        return answer(self._service.files.get(call.id))

    async def content(self, call: Asked) -> Response:
        return Content(self._service.files.content(call.id))

    async def delete_file(self, call: Asked) -> Response:
        return answer(self._service.delete_file(call.id))


class BlobCalls:
    """Get and put; the real storage has an address and credentials of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def get_blob(self, call: Asked) -> Response:
        path = self._service.blobs.path(call.request.url.path)
        if path is None or not path.is_file():
            raise Refusal(404, "BlobNotFound", "The specified blob does not exist.")
        return Content(path)

    async def put_blob(self, call: Asked) -> Response:
        path = self._service.blobs.path(call.request.url.path, make=True)
        if path is None:
            raise Refusal(400, "InvalidUri", "A blob is /blobs/CONTAINER/NAME.")
        received, size = self._service.files.new_path(), 0
        try:
            with private(received) as file:
                async for piece in call.request.stream():
                    size += len(piece)
                    if size > MAX_BLOB:
                        raise Refusal(413, "RequestBodyTooLarge", "The blob is too large.")
                    file.write(piece)
            received.rename(path)
        finally:
            received.unlink(missing_ok=True)
        return Response(status_code=201)


def _length(request: Request) -> int:
    given = request.headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0


def _wanted_expiry(came: receive.Upload, speaks: Api) -> int | None:
    """The expiry of an upload, once all else about it is right."""
    if came.fields.get("purpose") != "batch":
        raise Refusal(400, "invalidPayload", "Invalid value for purpose.")
    if came.filename is None:
        raise Refusal(400, "invalidPayload", "The request has no file.")
    if not came.content_type:
        raise Refusal(400, "invalidPayload", "The file has no or an empty content type specified.")
    if speaks.dialect == "openai" and not came.filename.endswith(".jsonl"):
        raise Refusal(400, "invalid_request_error", "Invalid file format for Batch API. Must be .jsonl")
    # Dotted names are the guide's, brackets the official SDKs'.
    given = {
        name: came.fields.get(f"expires_after.{name}", came.fields.get(f"expires_after[{name}]"))
        for name in ("anchor", "seconds")
    }
    return _expiry_s(given if given["anchor"] or given["seconds"] else None, speaks)


def _expiry_s(given: object, speaks: Api) -> int | None:
    if given is None or not speaks.file_expiry:
        return speaks.default_expiry_s
    if isinstance(given, dict) and given.get("anchor") == "created_at":
        with suppress(ValueError):
            seconds = int(str(given.get("seconds")))
            if speaks.shortest_expiry_s <= seconds <= LONGEST_EXPIRY_S:
                return seconds
    words = f"Value for Seconds must be between {speaks.shortest_expiry_s} and {LONGEST_EXPIRY_S}"
    raise Refusal(400, "invalidPayload", words)


def _location(request: Request, document: Document) -> dict[str, str]:
    query = f"?api-version={request.query_params.get('api-version', '')}"
    return {"location": f"{request.url.scheme}://{request.headers['host']}/openai/files/{document['id']}{query}"}
