"""One notice to one webhook: signed, with a key to know it by, tried again by the attempt table."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import httpx

from batchkit.api.again import Again, Failed
from batchkit.api.attempts import Call, Failure, failure_of, failure_of_status, retry_after
from batchkit.api.http import what
from batchkit.clock import Clock
from batchkit.config import LOOPBACK, Settings, Webhook
from batchkit.config.credentials import Secret
from batchkit.errors import BatchkitError, Redirected, Refused, Throttled, Unavailable

ANSWER_S = 30.0
"""How long a receiver may take; its answer is not read beyond the status."""


def signature(secret: Secret, body: bytes) -> str:
    """What `X-Batchkit-Signature` holds: HMAC-SHA256 of the body as sent, in hexadecimal."""
    return "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()


async def post(hook: Webhook, body: bytes, *, word: str, key: str, clock: Clock, settings: Settings) -> None:
    """POST a JSON body about an event (`word`) until it is taken. The same `key` means the same notice.

    Redirects are not followed. Raises Refused, Redirected, or Unavailable once the attempt table says stop.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "batchkit", "Accept-Encoding": "identity"}
    headers |= {"Idempotency-Key": key, "X-Batchkit-Event": word}
    if hook.secret is not None:
        headers["X-Batchkit-Signature"] = signature(hook.secret, body)

    async def attempt() -> None:
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                client.stream("POST", hook.url, content=body, headers=headers) as response,
            ):
                _judge(response, hook, clock)
        except TimeoutError:
            raise Failed(Failure.LOST, Unavailable(f"{hook.host} did not answer in time"), timeout=True) from None
        except httpx.HTTPError as lost:
            timeout = isinstance(lost, httpx.TimeoutException)
            raise Failed(failure_of(lost), Unavailable(f"{hook.host} {what(lost)}"), timeout=timeout) from None

    local = hook.host in LOOPBACK
    timeout = httpx.Timeout(ANSWER_S, connect=settings.connect_timeout_s)
    async with httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=not local) as client:
        await Again(clock, settings)(Call.NOTIFY, attempt)


def _judge(response: httpx.Response, hook: Webhook, clock: Clock) -> None:
    failure = failure_of_status(response.status_code)
    if failure is None:
        return
    wait_s = retry_after(response.headers, clock.now())
    words = f"{hook.host} answered HTTP {response.status_code}"
    error: BatchkitError = Unavailable(words)
    if failure is Failure.REDIRECT:
        error = Redirected(words)
    elif failure is Failure.REFUSED:
        error = Refused(words, status_code=response.status_code)
    elif failure is Failure.THROTTLED:
        error = Throttled(words, retry_after_s=wait_s)
    raise Failed(failure, error, wait_s)
