"""The attempt table, cell by cell, as requests counted at a server; and the arithmetic of waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import ManualClock, Settings
from batchkit.api.attempts import Budget, Call, Failure, Verdict, backoff, retry_after, verdict
from batchkit.api.service import Service
from batchkit.config import make_target
from batchkit.credentials import Credential, Secret
from batchkit.errors import BatchkitError, Redirected, Refused, Throttled, Unauthorized, Unavailable, Uncertain

Answer = Callable[[], Exception | httpx.Response]

FAILURES: dict[Failure, Answer] = {
    Failure.NOT_SENT: lambda: httpx.ConnectError("refused"),
    Failure.LOST: lambda: httpx.ReadError("reset"),
    Failure.THROTTLED: lambda: httpx.Response(429, stream=httpx.ByteStream(b"")),
    Failure.SERVER: lambda: httpx.Response(503, stream=httpx.ByteStream(b"")),
    Failure.CONFLICT: lambda: httpx.Response(409, stream=httpx.ByteStream(b"")),
    Failure.REFUSED: lambda: httpx.Response(400, stream=httpx.ByteStream(b"")),
    Failure.REDIRECT: lambda: httpx.Response(302, headers={"location": "/"}, stream=httpx.ByteStream(b"")),
    Failure.UNREADABLE: lambda: httpx.Response(200, stream=httpx.ByteStream(b"<html>")),
}
CALLS: dict[Call, Callable[[Service], Awaitable[object]]] = {
    Call.READ: lambda api: api.batch("b"),
    Call.CREATE_BATCH: lambda api: api.create_batch("file-1", "/v1/chat/completions", {}),
    Call.CANCEL: lambda api: api.cancel("b"),
    Call.DELETE: lambda api: api.delete("f"),
}


def attempt(call: Call, answer: Answer) -> tuple[int, BaseException | None]:
    """How often the call was sent to a server that always answers so, and what it raised."""
    sent = [0]

    class Server(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sent[0] += 1
            given = answer()
            if isinstance(given, Exception):
                raise given
            return given

    async def go() -> BaseException | None:
        credential = Credential(Secret("k"), bearer=False)
        target = make_target("t", "https://contoso.openai.azure.com", credential, dialect="v1")
        api = Service(target, ManualClock(), Settings(), Server())
        try:
            await CALLS[call](api)
        except BatchkitError as error:
            return error
        finally:
            await api.close()
        return None

    error = asyncio.run(go())
    return sent[0], error


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("call", CALLS)
def test_every_cell_of_the_table(call: Call, failure: Failure) -> None:
    sent, error = attempt(call, FAILURES[failure])
    match verdict(call, failure):
        case Verdict.AGAIN:
            assert 2 <= sent <= 5
            assert isinstance(error, Unavailable)
        case Verdict.LOOK:
            assert sent == 1
            assert isinstance(error, Uncertain)
        case Verdict.WAIT:
            assert sent == 1
            assert isinstance(error, Throttled)
        case Verdict.REFUSE:
            assert sent == 1
            assert isinstance(error, Refused | Redirected)


def test_what_creates_a_batch_is_only_repeated_when_it_was_surely_not_sent() -> None:
    again = {failure for failure in Failure if verdict(Call.CREATE_BATCH, failure) is Verdict.AGAIN}
    assert again == {Failure.NOT_SENT}


def test_a_wrong_key_says_so_with_the_services_words_and_a_hint() -> None:
    body = b'{"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}'
    sent, error = attempt(Call.READ, lambda: httpx.Response(401, stream=httpx.ByteStream(body)))
    assert sent == 1
    assert isinstance(error, Unauthorized)
    assert "Access denied" in str(error)
    assert "Cognitive Services OpenAI User" in error.hint


def test_a_wait_beyond_the_cap_ends_the_call_with_the_time_to_come_back() -> None:
    sent, error = attempt(
        Call.READ, lambda: httpx.Response(429, headers={"retry-after": "86400"}, stream=httpx.ByteStream(b""))
    )
    assert sent == 1
    assert isinstance(error, Throttled)
    assert error.retry_after_s == 86400


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": formatdate(1_000_060, usegmt=True)}, 60.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
        ({"retry-after": "Mon, 99 Foo 2025 00:00:00 GMT"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after_in_all_forms(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers, now=1_000_000.0) == expected


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_jittered_from_zero_and_capped(attempt: int, random: float) -> None:
    wait = backoff(attempt, random)
    assert 0 <= wait < min(60.0, 2.0 ** min(attempt, 10)) or wait == 0


def test_the_budget_ends_retries_and_success_refills_it() -> None:
    budget = Budget()
    assert sum(budget.spend(timed_out=False) for _ in range(100)) == 20
    assert not budget.spend(timed_out=True)
    for _ in range(10):
        budget.earn()
    assert budget.spend(timed_out=True)
    for _ in range(1000):
        budget.earn()
    assert budget.left == budget.capacity
