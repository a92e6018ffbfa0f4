"""One httpx client and the one place a request leaves from: the key, the attempts, and refusals turned into ours."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson

from batchkit import wire
from batchkit.api.again import Again, Failed
from batchkit.api.attempts import Call, Failure, failure_of, failure_of_status, is_nameless, renews
from batchkit.api.attempts import retry_after as asked_wait
from batchkit.clock import DEADLINE, Clock
from batchkit.config import Settings, Target
from batchkit.config.credentials import Secret, hidden
from batchkit.disk import length, receive
from batchkit.errors import (
    BatchkitError,
    NotFound,
    QuotaFull,
    Redirected,
    Refused,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from batchkit.model import TOKEN_LIMIT, ServiceError
from batchkit.text import visible

_log = logging.getLogger(__name__)
MAX_JSON = 8 << 20
SLOWEST = 50_000.0
"""Bytes per second below which a transfer is given up."""
LARGEST = 1_000_000_000
"""Bytes that a file of unknown size is given time for."""
T = TypeVar("T")
Body = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True)
class Upload:
    """A request body that is streamed: made anew for each attempt, of known length."""

    body: Body
    length: int
    content_type: str


class _KeyAuth(httpx.Auth):
    """Adds the key, and what a gateway wants, at the last moment and only for the configured origin."""

    def __init__(self, target: Target) -> None:
        self._target, self._origin = target, httpx.URL(target.base_url)
        self.sent: Secret | None = None

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        url, origin, credential = request.url, self._origin, self._target.credential
        if (url.scheme, url.host, url.port) != (origin.scheme, origin.host, origin.port):
            raise Redirected("a request was about to leave for another host")
        self.sent = await self.secret()
        for name, value in (*self._target.headers.items(), credential.header(self.sent)):
            request.headers[name] = value.reveal() if isinstance(value, Secret) else value
        yield request

    async def secret(self, refused: Secret | None = None) -> Secret:
        """As the credential's; where none can be had now, the request was surely not sent."""
        try:
            return await self._target.credential.secret(refused)
        except Unavailable as error:
            raise Failed(Failure.NOT_SENT, error) from None


class Http:
    """Sends calls to one target by the attempt table."""

    def __init__(
        self, target: Target, clock: Clock, settings: Settings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._target, self._clock, self._settings = target, clock, settings
        self._again = Again(clock, settings)
        self.creating = False
        """Whether a request that creates something is on its way."""
        # A kept-alive connection that the server has meanwhile closed looks like a lost answer, so what creates goes
        # over a fresh one.
        # Where nothing is encrypted no authorities are loaded, which would take longer than many a call.
        https = target.base_url.startswith("https:")
        context = httpx.create_ssl_context() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A service on this machine is not reached through a proxy, and its key is no proxy's business.
        trust_env = not target.local
        self._reading, self._creating = (
            httpx.AsyncClient(
                base_url=target.base_url + "/",
                params={"api-version": target.api_version} if target.api_version else None,
                headers={"Accept-Encoding": "identity", "User-Agent": "batchkit"},
                timeout=httpx.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
                limits=httpx.Limits(max_connections=20, max_keepalive_connections=keep),
                verify=context,
                follow_redirects=False,
                trust_env=trust_env,
                transport=transport,
            )
            for keep in (5, 0)
        )

    async def close(self) -> None:
        await self._reading.aclose()
        await self._creating.aclose()

    async def json(
        self,
        call: Call,
        method: str,
        path: str,
        decode: Callable[[dict[str, Any]], T],
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        upload: Upload | None = None,
        fence: Callable[[], None] = lambda: None,
        headers: MutableMapping[str, str] | None = None,
    ) -> T:
        """Send a call and return its decoded JSON object. Raises a BatchkitError once the table says stop.

        `fence` is asked right before each attempt and keeps it back by raising; `headers` takes those of the answer.
        """
        client = self._creating if call in (Call.CREATE_FILE, Call.CREATE_BATCH) else self._reading

        # A service that drips a byte now and then never runs into the read timeout.
        settings = self._settings
        deadline_s = settings.create_timeout_s if call is Call.CREATE_BATCH else settings.call_timeout_s
        deadline_s += upload.length / SLOWEST if upload else 0.0

        def request() -> httpx.Request:
            made = _request(client, method, path, params, body, upload)
            fence()
            self.creating = client is self._creating
            return made

        async def attempt() -> T:
            until = DEADLINE.get() if call is Call.READ else None  # anything else may have been done by then
            left_s = deadline_s if until is None else min(deadline_s, max(0.0, until - self._clock.now()))
            async with self._answer(client, request, left_s) as response:
                content = await _read(response)
                if headers is not None:
                    headers.update(response.headers)
                try:
                    return decode(wire.document(content))
                except Unintelligible as error:
                    raise Failed(Failure.UNREADABLE, error) from None

        return await self._again(call, attempt)

    async def download(self, path: str, place: Path, size: int | None) -> bool:
        """Stream a body of `size` bytes, where that is known, into the file `place`; whether it came in one piece.

        What is there already is kept only if the service answers with exactly the bytes behind it, of a whole of this
        size; otherwise the file begins anew. Whoever answered before may have been a gateway: of a file that is pieced
        together only a look at it tells that it is one.
        """
        deadline_s = self._settings.call_timeout_s + (LARGEST if size is None else size) / SLOWEST
        resume = size is not None

        async def attempt() -> bool:
            nonlocal resume
            there = length(place) if resume else 0
            if there and there == size:
                return False
            headers = {"Range": f"bytes={there}-"} if there else {}
            try:
                request = partial(self._reading.build_request, "GET", path, headers=headers)
                async with self._answer(self._reading, request, deadline_s) as response:
                    whole = response.status_code != 206
                    if not whole and response.headers.get("content-range") != f"bytes {there}-{(size or 0) - 1}/{size}":
                        raise Failed(
                            Failure.REFUSED, Unintelligible("the service sent another piece than was asked for")
                        )
                    if response.headers.get("content-type", "").startswith("text/html"):
                        raise Failed(Failure.UNREADABLE, Unintelligible("a web page came instead of the file"))
                    await receive(place, _raw(response), behind=0 if whole else there)
                    return whole
            except Failed as failed:
                if there and failed.failure is Failure.REFUSED:
                    resume = False
                    raise Failed(Failure.UNREADABLE, failed.error) from None
                raise

        return await self._again(Call.CONTENT, attempt)

    @asynccontextmanager
    async def _answer(
        self, client: httpx.AsyncClient, request: Callable[[], httpx.Request], deadline_s: float
    ) -> AsyncIterator[httpx.Response]:
        """The answer to one attempt, open for reading; Failed for anything but success."""
        try:
            async with asyncio.timeout(deadline_s):
                response = await self._send(client, request)
                try:
                    await self._judge(response)
                    yield response
                finally:
                    await response.aclose()
        except TimeoutError:
            error = Unavailable(f"{self._target.base_url} did not finish its answer in {deadline_s:.0f} s")
            raise Failed(Failure.LOST, error, timeout=True) from None
        except httpx.HTTPError as lost:
            words = f"{self._target.base_url} {what(lost)}"
            timeout = isinstance(lost, httpx.TimeoutException)
            hint = UNREACHED if failure_of(lost) is Failure.NOT_SENT else None
            error = Unavailable(words, hint=hint)
            raise Failed(failure_of(lost), error, timeout=timeout, nameless=is_nameless(lost)) from None
        finally:
            self.creating = False

    async def _send(self, client: httpx.AsyncClient, request: Callable[[], httpx.Request]) -> httpx.Response:
        """The answer to a request, made once more where its credential was refused and can be had afresh."""
        auth = _KeyAuth(self._target)
        response = await self._sent(client, request(), auth)
        if renews(response.status_code):
            try:
                renewed = auth.sent is not None and await auth.secret(refused=auth.sent) != auth.sent
            except BaseException:
                await response.aclose()
                raise
            if renewed:
                await response.aclose()
                _log.info("the service refused the key or token; trying once more with a fresh one")
                response = await self._sent(client, request(), auth)
        return response

    async def _sent(self, client: httpx.AsyncClient, request: httpx.Request, auth: _KeyAuth) -> httpx.Response:
        response = await client.send(request, auth=auth, stream=True)
        _log.debug("%s %s: %s", request.method, request.url.path, response.status_code)
        return response

    async def _judge(self, response: httpx.Response) -> None:
        failure = failure_of_status(response.status_code)
        compressed = response.headers.get("content-encoding", "identity") != "identity"
        if failure is not None:
            wait_s = asked_wait(response.headers, self._clock.now())
            said = wire.error(b"" if compressed else await _read(response))
            secrets = self._target.secrets
            said = replace(said, code=hidden(said.code, secrets), message=hidden(said.message, secrets))
            hint = ROLES if self._target.credential.bearer and self._target.azure else None
            raise Failed(failure, _refusal(response, said, failure, wait_s, hint), wait_s)
        if compressed:
            raise Failed(Failure.UNREADABLE, Unintelligible("the service compressed its answer without being asked"))


def _request(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    params: Mapping[str, str | int] | None,
    body: Mapping[str, Any] | None,
    upload: Upload | None,
) -> httpx.Request:
    headers: dict[str, str] = {}
    content: bytes | AsyncIterator[bytes] | None = None
    if body is not None:
        headers["Content-Type"], content = "application/json", orjson.dumps(body)
    elif upload is not None:
        headers |= {"Content-Type": upload.content_type, "Content-Length": str(upload.length)}
        content = upload.body()
    return client.build_request(method, path, params=params, headers=headers, content=content)


UNREACHED = "batchkit doctor looks at each step of the way there; nothing is lost, and the same command again goes on"
ROLES = (
    "check who you are (az account show) and that this identity has the role 'Cognitive Services OpenAI User' on the "
    "resource (uploads may need 'Cognitive Services OpenAI Contributor'); a new role works after some minutes"
)


def _refusal(
    response: httpx.Response, said: ServiceError, failure: Failure, wait_s: float | None, hint: str | None
) -> BatchkitError:
    """The service's own code and words, with our hint; `hint` is the one where it does not let us in."""
    status = response.status_code
    host, base_url = response.request.url.netloc.decode(), str(response.request.url.copy_with(path="/", query=None))
    words = said.message[:500] or f"HTTP {status}"
    message = f"{host}: {said.code}: {words}" if said.code and said.code not in words else f"{host}: {words}"
    if request_id := response.headers.get("apim-request-id") or response.headers.get("x-request-id"):
        message += f" (request id {visible(request_id, 80)})"
    if failure is Failure.REDIRECT:
        return Redirected(f"{host} answered with a redirect to {visible(response.headers.get('location', '?'), 200)}")
    if failure is Failure.THROTTLED:
        return Throttled(message, retry_after_s=wait_s)
    if failure is Failure.SERVER:
        return Unavailable(message)
    if status in (401, 403):
        return Unauthorized(message, hint=hint, status_code=status, service_code=said.code)
    if TOKEN_LIMIT in said.code + said.message or said.code == "quotaExceeded":
        files = TOKEN_LIMIT not in said.code + said.message
        return QuotaFull(message, tokens=wire.token_limit(said.message), files=files)
    if status == 404:
        hint = f"check the id, and that {base_url} and the api-version are right (an OpenAI base URL ends in /v1)"
        return NotFound(message, hint=hint, status_code=status, service_code=said.code)
    return Refused(message, status_code=status, service_code=said.code)


def what(error: httpx.HTTPError) -> str:
    """A transport error in words that hold neither headers nor addresses of the inside."""
    if isinstance(error, httpx.ConnectTimeout):
        return "did not answer the connection in time"
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached ({visible(str(error), 200)})"
    if isinstance(error, httpx.TimeoutException):
        return "did not answer in time"
    return f"broke off the connection ({type(error).__name__})"


async def _read(response: httpx.Response) -> bytes:
    """A JSON-sized body, never more."""
    body = bytearray()
    async for chunk in _raw(response):
        body += chunk
        if len(body) > MAX_JSON:
            raise Failed(Failure.UNREADABLE, Unintelligible("the service's answer is far too large"))
    return bytes(body)


async def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it came over the wire, with its length held against the announced one."""
    total, announced = 0, response.headers.get("content-length", "")
    async for chunk in response.aiter_raw():
        total += len(chunk)
        yield chunk
    if announced.isdigit() and total != int(announced):
        raise Failed(Failure.LOST, Unavailable("the service sent less than it announced"))
