"""Who may go now: which parts are to be left alone for a while. Pure."""

from __future__ import annotations

from batchkit.model import Next, Part, State

LONGEST_WAIT_S = 86_400.0
"""No wait is longer, whatever the service asks for. A time further ahead comes from a clock that was wrong."""


def waits(part: Part, now: float) -> Next | None:
    """Until when, and why, nothing is to be done for a part; None when it may go."""
    if part.next_try_at is None or not 0 < part.next_try_at - now <= LONGEST_WAIT_S:
        return None
    return Next(part.next_try_at, part.held or "")


def deployment_is_full(part: Part) -> bool:
    """Whether a part that waits was refused for quota, which then holds for all parts that are not sent yet."""
    return part.state in (State.STAGED, State.UPLOADED)
