"""Who may go now, and where to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from batchkit.errors import QuotaFull, Throttled
from batchkit.model import LONGEST_WAIT_S as LONGEST_WAIT_S
from batchkit.model import Next, Part, Queue

BYTES_PER_TOKEN = 4
"""The service estimates a file's tokens from its characters; four bytes of English JSON are about one."""
HOPELESS = 5
"""After so many refusals in a row, half an hour, with nothing of ours in the queue a part may simply be too large."""
OFF_BY = 4
"""How far an estimate of tokens may be off."""
WAITING = "waiting for quota"
PATIENCE = "the service asks to wait"
"""How the reasons begin for which a queue is left alone that will do again by itself."""
REFUSES = "the target refuses this key or address"
"""How the reason begins for which a target is left alone that will not do before a person mended something."""


class Room(Enum):
    """What a deployment's queue has for a part."""

    GO = auto()
    WAIT = auto()
    TOO_LARGE = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision: go; wait, until `at` where that is known; it fits no queue of this size and is to be cut; or the
    target refused us and is left alone until `at`."""

    room: Room
    why: str = ""
    at: float | None = None


def tokens(size: int) -> int:
    """About how many tokens an input file of `size` bytes holds."""
    return -(-size // BYTES_PER_TOKEN)


def admit(size: int, lines: int, queue: Queue, configured: int | None, now: float) -> Admission:
    """Whether a part of `size` bytes and so many lines may join a deployment's queue now.

    The limit is the `configured` one, or the one learned from the service, whichever is smaller.
    """
    limits = [limit for limit in (configured, queue.tokens) if limit]
    limit, needed, taken = min(limits, default=None), tokens(size), tokens(queue.bytes)
    waits = queue.next_try_at is not None and 0 < queue.next_try_at - now <= LONGEST_WAIT_S
    if waits and queue.why and queue.why.startswith(REFUSES):
        return Admission(Room.CLOSED, queue.why, queue.next_try_at)
    if limit is not None and needed > limit and lines > 1:
        return Admission(Room.TOO_LARGE, f"about {needed:,} tokens are more than the whole quota of {limit:,}")
    if waits:
        return Admission(Room.WAIT, queue.why or f"{WAITING}: the deployment's queue is full", queue.next_try_at)
    if limit is not None and queue.bytes == 0 and queue.tries >= HOPELESS and lines > 1 and needed * OFF_BY > limit:
        words = f"refused {queue.tries} times while nothing of ours was in the queue of {limit:,} tokens"
        return Admission(Room.TOO_LARGE, words)
    if limit is not None and queue.bytes and taken + needed > limit:
        learned = ", as the service named them," if limit == queue.tokens and limit != configured else ""
        words = f"{WAITING}: about {taken:,} of {limit:,} tokens{learned} were enqueued, and {needed:,} more are to go"
        return Admission(Room.WAIT, words)
    return Admission(Room.GO)


def refusal(part: Part, error: QuotaFull | Throttled) -> str:
    """Why a part waits that the service would not take now."""
    if isinstance(error, Throttled):
        return f"{PATIENCE}: {error}"
    if error.tokens and part.lines == 1 and (needed := tokens(part.size)) > error.tokens:
        words = f"one request of about {needed:,} tokens is more than the whole quota of {error.tokens:,}"
        return f"{WAITING}: {words}, and waits for a larger one"
    return f"{WAITING}: {error}"


def choose(admissions: Sequence[Admission], queues: Sequence[Queue], limits: Sequence[int | None]) -> int | None:
    """Which of several targets a part goes to: of those that have room, the one whose queue is emptiest; None if none.

    The three sequences run in step, a target each. Equals are taken in order.
    """

    def load(index: int) -> tuple[float, int]:
        limit = min((known for known in (limits[index], queues[index].tokens) if known), default=None)
        share = tokens(queues[index].bytes) / limit if limit else 0.0
        return share, queues[index].bytes

    open_ones = [index for index, admission in enumerate(admissions) if admission.room is Room.GO]
    return min(open_ones, key=load, default=None)


def pieces(size: int, lines: int, limit: int | None) -> int:
    """Into how many parts to cut one that is too large: so that each fills at most the limit, and at least two."""
    wanted = -(-tokens(size) // limit) if limit else 2
    return max(2, min(wanted, lines))


def files_left(count: int, most: int | None) -> bool:
    """Whether the resource may take one more input file, if it holds `count` of the kind that is capped."""
    return most is None or count < most


def waits(part: Part, now: float) -> Next | None:
    """Until when, and why, nothing is to be done for a part; None when it may go."""
    if part.next_try_at is None or not 0 < part.next_try_at - now <= LONGEST_WAIT_S:
        return None
    return Next(part.next_try_at, part.held or "")
