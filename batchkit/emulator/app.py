"""The emulator's HTTP face: dated (`/openai`), v1 (`/openai/v1`) and OpenAI (`/v1`) on one port, as a Starlette app."""

from __future__ import annotations

import asyncio
import hmac
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route

from batchkit.emulator import filters
from batchkit.emulator.service import Document, Fault, Service

Handler = Callable[[Request], Awaitable[Response]]

HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_JSON = 1 << 20
MAX_UPLOAD = 210_000_000
SHORTEST_EXPIRY, LONGEST_EXPIRY = 259_200, 2_592_000


def make_app(service: Service, key: str) -> Starlette:
    """The emulator as an ASGI app that accepts `key` as `api-key` or as a bearer token."""
    calls = _Calls(service)
    table: list[tuple[str, str, Handler]] = [
        ("/files", "POST", calls.upload),
        ("/files", "GET", calls.list_files),
        ("/files/{id}", "GET", calls.get_file),
        ("/files/{id}", "DELETE", calls.delete_file),
        ("/files/{id}/content", "GET", calls.content),
        ("/batches", "POST", calls.create_batch),
        ("/batches", "GET", calls.list_batches),
        ("/batches/{id}", "GET", calls.get_batch),
        ("/batches/{id}/cancel", "POST", calls.cancel),
    ]
    routes = [Route(path, _guarded(handler, key), methods=[method]) for path, method, handler in table]
    mounts = [Mount(prefix, routes=routes) for prefix in ("/openai/v1", "/openai", "/v1")]
    return Starlette(routes=mounts, exception_handlers={404: _unknown, 405: _unknown})


class _Calls:
    """One handler for each call of the service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def upload(self, request: Request) -> Response:
        if int(request.headers.get("content-length") or 0) > MAX_UPLOAD:
            raise Fault(413, "invalidPayload", "The file is too large. The maximum is 200 MB.")
        async with request.form(max_files=1, max_fields=16) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if purpose != "batch":
                raise Fault(400, "invalidPayload", "Invalid value for purpose.")
            if not isinstance(file, UploadFile):
                raise Fault(400, "invalidPayload", "The request has no file.")
            if not file.content_type:
                raise Fault(400, "invalidPayload", "The file has no or an empty content type specified.")
            expires_s = _expiry(form) if _previews(request, "2025-03-01") else None
            path = self._service.new_path()
            await asyncio.to_thread(_copy, file.file, path)
            document = await self._service.add_file(path, file.filename or "", "batch", expires_s)
        return _json(document, 201 if _dated(request) else 200)

    async def list_files(self, request: Request) -> Response:
        found = self._service.files(request.query_params.get("purpose"))
        if not _previews(request, "2025-04-01"):
            return _json({"object": "list", "data": found})
        if request.query_params.get("order") == "asc":
            found.reverse()
        page = _page(request, found, default=10_000, most=10_000)
        return _json({"object": "list", "data": page["data"]} if _dated(request) else page)

    async def get_file(self, request: Request) -> Response:
        return _json(self._service.file(request.path_params["id"]))

    async def content(self, request: Request) -> Response:
        return FileResponse(self._service.content(request.path_params["id"]), media_type="application/octet-stream")

    async def delete_file(self, request: Request) -> Response:
        return _json(self._service.delete_file(request.path_params["id"]))

    async def create_batch(self, request: Request) -> Response:
        status = 200 if "2024-10-21" in _version(request) else 201
        return _json(self._service.create_batch(await _body(request)), status)

    async def list_batches(self, request: Request) -> Response:
        found, query = await self._service.batches(), request.query_params
        if _dated(request) and _previews(request, "2024-10-01"):
            try:
                if "$filter" in query:
                    found = list(filter(filters.predicate(query["$filter"]), found))
                if "$orderby" in query and not filters.descending(query["$orderby"]):
                    found.reverse()
            except ValueError as error:
                raise Fault(400, "invalidPayload", str(error)) from None
        return _json(_page(request, found, default=20, most=100))

    async def get_batch(self, request: Request) -> Response:
        return _json(await self._service.batch(request.path_params["id"]))

    async def cancel(self, request: Request) -> Response:
        return _json(await self._service.cancel(request.path_params["id"]))


def _guarded(handler: Handler, key: str) -> Handler:
    async def guard(request: Request) -> Response:
        try:
            _admit(request, key)
            return await handler(request)
        except Fault as fault:
            return _refusal(request, fault.status, fault.code, fault.message)
        except ClientDisconnect:
            return Response(status_code=499)

    return guard


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _refusal(request, status, "notFound", "Resource not found")


def _admit(request: Request, key: str) -> None:
    """Only from this machine's names, only with the key, and on the dated dialect only with an api-version."""
    host = re.sub(r":\d+$", "", request.headers.get("host", ""))
    if host not in HOSTS:
        raise Fault(403, "forbidden", "The emulator answers to this machine only.")
    given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), key.encode()):
        raise Fault(
            401,
            "unauthorized",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
            "for an active subscription and use a correct regional API endpoint for your resource.",
        )
    if _dated(request) and not re.fullmatch(r"\d{4}-\d\d-\d\d(-preview)?", _version(request)):
        raise Fault(404, "notFound", "Resource not found")


def _dated(request: Request) -> bool:
    path = request.url.path
    return path.startswith("/openai/") and not path.startswith("/openai/v1/")


def _version(request: Request) -> str:
    return request.query_params.get("api-version", "")


def _previews(request: Request, since: str) -> bool:
    """Whether this request's api-version has what the previews have `since` a date; the other dialects have it."""
    version = _version(request)
    return not _dated(request) or (version.endswith("-preview") and version >= since)


def _expiry(form: FormData) -> int | None:
    """Both encodings of `expires_after`: dotted names (the guide), and brackets (the official SDKs)."""
    anchor, seconds = (
        form.get(f"expires_after.{name}") or form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")
    )
    if anchor is None and seconds is None:
        return None
    with suppress(ValueError):
        value = int(str(seconds))
        if anchor == "created_at" and SHORTEST_EXPIRY <= value <= LONGEST_EXPIRY:
            return value
    raise Fault(400, "invalidPayload", f"Value for Seconds must be between {SHORTEST_EXPIRY} and {LONGEST_EXPIRY}")


async def _body(request: Request) -> Document:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON:
            raise Fault(413, "invalidPayload", "The request is too large.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise Fault(400, "invalidPayload", "The request body is not a JSON object.")
    return document


def _page(request: Request, found: list[Document], *, default: int, most: int) -> Document:
    query = request.query_params
    try:
        limit = int(query.get("limit", default))
    except ValueError:
        limit = 0
    if not 1 <= limit <= most:
        raise Fault(400, "invalidPayload", f"limit must be between 1 and {most}.")
    if after := query.get("after"):
        ids = [doc["id"] for doc in found]
        if after not in ids:
            raise Fault(400, "invalidPayload", f"after: '{after}' was not found.")
        found = found[ids.index(after) + 1 :]
    data = found[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > limit,
    }


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, {"x-batchkit-emulator": "1", "content-type": "application/json"})


def _refusal(request: Request, status: int, code: str, message: str) -> Response:
    error: Document = {"code": code, "message": message}
    if not _dated(request):
        error |= {"param": None, "type": "invalid_request_error" if status < 500 else "server_error"}
    return _json({"error": error}, status)


def _copy(source: BinaryIO, path: Path) -> None:
    with path.open("xb", buffering=0) as target:
        shutil.copyfileobj(source, target, 1 << 20)
