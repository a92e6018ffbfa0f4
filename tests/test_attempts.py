"""The attempt table, cell by cell, as requests counted at a server; and the arithmetic of waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import ManualClock, Settings
from batchkit.api.attempts import (
    Budget,
    Call,
    Failure,
    Verdict,
    backoff,
    failure_of_status,
    is_nameless,
    retry_after,
    verdict,
)
from batchkit.api.service import Service
from batchkit.config import make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.errors import (
    BatchkitError,
    LeaseLost,
    Redirected,
    Refused,
    Throttled,
    Unauthorized,
    Unavailable,
    Uncertain,
    Unintelligible,
)

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
CALLS: dict[Call, Callable[[Service, Path], Awaitable[object]]] = {
    Call.READ: lambda api, _: api.batch("b"),
    Call.CONTENT: lambda api, home: api.content("f", home / "out"),
    Call.CREATE_FILE: lambda api, home: api.upload(home / "in", "in.jsonl", 3),
    Call.CREATE_BATCH: lambda api, _: api.create_batch("file-1", "/v1/chat/completions", {}),
    Call.CANCEL: lambda api, _: api.cancel("b"),
    Call.DELETE: lambda api, _: api.delete("f"),
}


def attempt(
    call: Call | Callable[[Service, Path], Awaitable[object]], answer: Answer, home: Path = Path(), key: str = "k"
) -> tuple[int, BaseException | None]:
    """How often the call was sent to a server that always answers so, and what it raised."""
    sent = [0]
    if call is Call.CREATE_FILE:
        (home / "in").write_bytes(b"{}\n")

    class Server(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sent[0] += 1
            given = answer()
            if isinstance(given, Exception):
                raise given
            return given

    async def go() -> BaseException | None:
        credential = Credential(Secret(key), bearer=False)
        target = make_target("t", "https://contoso.openai.azure.com", credential, dialect="v1")
        api = Service(target, ManualClock(), Settings(), Server())
        try:
            await (CALLS[call] if isinstance(call, Call) else call)(api, home)
        except BatchkitError as error:
            return error
        finally:
            await api.close()
        return None

    error = asyncio.run(go())
    return sent[0], error


AGAIN, LOOK, WAIT, REFUSE = Verdict.AGAIN, Verdict.LOOK, Verdict.WAIT, Verdict.REFUSE
EXPECTED: dict[Call, list[Verdict]] = {
    # not sent, lost, 429, 503, 409, 400, 302, unreadable: written out by hand, not read from the table
    Call.READ: [AGAIN, AGAIN, AGAIN, AGAIN, AGAIN, REFUSE, REFUSE, AGAIN],
    Call.CONTENT: [AGAIN, AGAIN, AGAIN, AGAIN, AGAIN, REFUSE, REFUSE, AGAIN],
    Call.CREATE_FILE: [AGAIN, LOOK, AGAIN, LOOK, LOOK, REFUSE, REFUSE, LOOK],
    Call.CREATE_BATCH: [AGAIN, LOOK, WAIT, LOOK, LOOK, REFUSE, REFUSE, LOOK],
    Call.CANCEL: [AGAIN, AGAIN, AGAIN, AGAIN, REFUSE, REFUSE, REFUSE, AGAIN],
    Call.DELETE: [AGAIN, AGAIN, AGAIN, AGAIN, AGAIN, REFUSE, REFUSE, AGAIN],
}


@pytest.mark.parametrize(
    ("call", "failure", "expected"),
    [(call, *cell) for call, row in EXPECTED.items() for cell in zip(FAILURES, row, strict=True)],
)
def test_every_cell_of_the_table(call: Call, failure: Failure, expected: Verdict, tmp_path: Path) -> None:
    if call is Call.CONTENT and failure is Failure.UNREADABLE:
        return_compressed = {"content-encoding": "gzip"}
        sent, error = attempt(
            call, lambda: httpx.Response(200, headers=return_compressed, stream=httpx.ByteStream(b"x")), tmp_path
        )
    else:
        sent, error = attempt(call, FAILURES[failure], tmp_path)
    match expected:
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
    assert verdict(call, failure) is expected


def test_a_notice_is_sent_again_but_where_the_receiver_says_no() -> None:
    """Its key tells the receiver that it is the same."""
    refused = {failure for failure in Failure if verdict(Call.NOTIFY, failure) is Verdict.REFUSE}
    assert refused == {Failure.REFUSED, Failure.REDIRECT}
    assert {verdict(Call.NOTIFY, failure) for failure in set(Failure) - refused} == {Verdict.AGAIN}


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


def test_a_key_that_the_service_repeats_is_not_repeated_by_us() -> None:
    body = b'{"error": {"code": "401", "message": "k-e-y is not a key \\u001b]52;c;x"}}'
    _, error = attempt(Call.READ, lambda: httpx.Response(401, stream=httpx.ByteStream(body)), key="k-e-y")
    assert "*** is not a key" in str(error)
    assert "\x1b" not in str(error)


def test_an_answer_far_too_large_is_not_read_to_its_end() -> None:
    sent, error = attempt(Call.READ, lambda: httpx.Response(200, stream=httpx.ByteStream(b" " * (9 << 20))))
    assert sent > 1
    assert isinstance(error, Unintelligible)


def test_an_answer_shorter_than_announced_is_lost() -> None:
    short = {"content-length": "100"}
    _, error = attempt(
        Call.CREATE_BATCH, lambda: httpx.Response(200, headers=short, stream=httpx.ByteStream(b'{"id": "b"}'))
    )
    assert isinstance(error, Uncertain)


def test_a_compressed_refusal_is_a_refusal() -> None:
    packed = {"content-encoding": "gzip"}
    sent, error = attempt(
        Call.CREATE_BATCH, lambda: httpx.Response(400, headers=packed, stream=httpx.ByteStream(b"\x1f\x8b"))
    )
    assert (sent, type(error)) == (1, Refused)


@pytest.mark.parametrize("endless", ["same cursor", "new cursors"])
def test_a_list_without_end_ends(endless: str) -> None:
    pages = [0]

    def page() -> httpx.Response:
        pages[0] += 1
        name = "b" if endless == "same cursor" else f"b{pages[0]}"
        body = f'{{"data": [{{"id": "{name}"}}], "has_more": true}}'.encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))

    async def everything(api: Service, _: Path) -> object:
        return [batch async for batch in api.batches()]

    sent, error = attempt(everything, page)
    assert isinstance(error, Unintelligible)
    assert sent == (2 if endless == "same cursor" else 1000)


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


@pytest.mark.promise("C2")
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (199, Failure.REDIRECT),
        (200, None),
        (299, None),
        (300, Failure.REDIRECT),
        (399, Failure.REDIRECT),
        (400, Failure.REFUSED),
        (407, Failure.REFUSED),
        (408, Failure.SERVER),
        (409, Failure.CONFLICT),
        (410, Failure.REFUSED),
        (429, Failure.THROTTLED),
        (430, Failure.REFUSED),
        (499, Failure.REFUSED),
        (500, Failure.SERVER),
        (599, Failure.SERVER),
    ],
)
def test_what_a_status_means(status: int, expected: Failure | None) -> None:
    assert failure_of_status(status) is expected


@pytest.mark.parametrize(("code", "nameless"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)])
def test_a_name_that_nobody_knows_is_told_from_one_that_cannot_be_asked_for_now(code: int, nameless: bool) -> None:
    error = httpx.ConnectError("no address")
    error.__cause__ = socket.gaierror(code, "no address")
    assert is_nameless(error) is nameless
    assert not is_nameless(httpx.ConnectError("refused"))


@pytest.mark.promise("C3")
def test_the_arithmetic_of_waiting() -> None:
    assert [backoff(attempt, 0.5) for attempt in (1, 2, 3, 6, 40)] == [1.0, 2.0, 4.0, 30.0, 30.0]
    assert backoff(1, 0.5, base_s=3.0) == 3.0
    budget = Budget()
    assert [budget.spend(timed_out=False) for _ in range(21)] == [True] * 20 + [False]
    budget = Budget()
    assert [budget.spend(timed_out=True) for _ in range(11)] == [True] * 10 + [False]
    for _ in range(4):
        budget.earn()
    assert not budget.spend(timed_out=False)
    budget.earn()
    assert budget.spend(timed_out=False)
    for _ in range(200):
        budget.earn()
    assert budget.left == budget.capacity == 100.0


@pytest.mark.promise("A8")
def test_a_creation_is_kept_back_when_the_lease_would_not_last(tmp_path: Path) -> None:
    """The fence is asked before each attempt: here it lets the first one through, and the connection is refused."""
    asked = [0]

    def fence() -> None:
        asked[0] += 1
        if asked[0] > 1:
            raise LeaseLost()

    sent, error = attempt(
        lambda api, _: api.create_batch("file-1", "/v1/chat/completions", {}, fence=fence), FAILURES[Failure.NOT_SENT]
    )
    assert (sent, asked[0], type(error)) == (1, 2, LeaseLost)
