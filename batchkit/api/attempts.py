"""Which failure of which call may be tried again. Pure: a table, and the arithmetic of waiting.

The one question that matters for a request that creates something is whether it was surely not sent. httpx tells it
by class, so no message is ever matched.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto

import httpx


class Call(Enum):
    """The kinds of calls the table tells apart."""

    READ = auto()
    CONTENT = auto()
    CREATE_FILE = auto()
    CREATE_BATCH = auto()
    CANCEL = auto()
    DELETE = auto()
    NOTIFY = auto()


class Failure(Enum):
    """How an attempt can fail."""

    NOT_SENT = auto()
    LOST = auto()
    THROTTLED = auto()
    SERVER = auto()
    CONFLICT = auto()
    REFUSED = auto()
    REDIRECT = auto()
    UNREADABLE = auto()


class Verdict(Enum):
    """What to do about it. LOOK: it may have happened, so ask the service before asking again."""

    AGAIN = auto()
    LOOK = auto()
    WAIT = auto()
    REFUSE = auto()


_A, _L, _W, _R = Verdict.AGAIN, Verdict.LOOK, Verdict.WAIT, Verdict.REFUSE

TABLE: dict[Call, tuple[Verdict, ...]] = {
    #                  not sent, lost, 429, 5xx/408, 409, other 4xx, 3xx, 2xx unreadable
    Call.READ: (_A, _A, _A, _A, _A, _R, _R, _A),
    Call.CONTENT: (_A, _A, _A, _A, _A, _R, _R, _A),
    Call.CREATE_FILE: (_A, _L, _A, _L, _L, _R, _R, _L),
    Call.CREATE_BATCH: (_A, _L, _W, _L, _L, _R, _R, _L),
    Call.CANCEL: (_A, _A, _A, _A, _R, _R, _R, _A),
    Call.DELETE: (_A, _A, _A, _A, _A, _R, _R, _A),
    Call.NOTIFY: (_A, _A, _A, _A, _A, _R, _R, _A),  # a key tells the receiver that it is the same
}
_COLUMN = {failure: index for index, failure in enumerate(Failure)}


def verdict(call: Call, failure: Failure) -> Verdict:
    """The table's answer."""
    return TABLE[call][_COLUMN[failure]]


def renews(status: int) -> bool:
    """Whether an answer means that the credential was refused: a 401 comes before anything is carried out, so every
    call, `POST /batches` too, is made once more where another credential can be had (a token that ran out). That is
    part of the same attempt and of its deadline; if it is refused again, it is an "other 4xx"."""
    return status == 401


def failure_of(error: httpx.HTTPError) -> Failure:
    """Whether a request that got no answer was surely not sent, or was perhaps done."""
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)):
        return Failure.NOT_SENT
    return Failure.LOST


def is_nameless(error: BaseException | None) -> bool:
    """Whether a request was not sent since its host's name is not known, as one is that is misspelt. A resolver that
    cannot say so now (EAI_AGAIN) is an outage."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.errno == socket.EAI_NONAME
        error = error.__cause__ or error.__context__
    return False


def failure_of_status(status: int) -> Failure | None:
    """What an HTTP status means; None for success."""
    if 200 <= status < 300:
        return None
    if status == 429:
        return Failure.THROTTLED
    if status == 408 or status >= 500:
        return Failure.SERVER
    if status == 409:
        return Failure.CONFLICT
    return Failure.REFUSED if status >= 400 else Failure.REDIRECT


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the service asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    None where neither says anything usable; a date in the past is 0.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def backoff(attempt: int, random: float, *, base_s: float = 1.0, cap_s: float = 60.0) -> float:
    """Full jitter: how long to wait after the `attempt`-th try (1, 2, …), for a `random` in [0, 1)."""
    return random * min(cap_s, base_s * 2.0 ** min(attempt, 30))


@dataclass
class Budget:
    """A retry quota shared by all calls of a process, so that retries never become the outage: 5 for a retry, 10
    after a timeout, 1 back for a success."""

    capacity: float = 100.0
    left: float = 100.0

    def spend(self, *, timed_out: bool) -> bool:
        """Pay for one retry; false when it cannot be afforded."""
        cost = 10.0 if timed_out else 5.0
        if self.left < cost:
            return False
        self.left -= cost
        return True

    def earn(self) -> None:
        self.left = min(self.capacity, self.left + 1.0)
