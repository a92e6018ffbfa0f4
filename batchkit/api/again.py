"""Attempts by the table: a call that failed is tried again, waits, or ends in the error that says what to do."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import tenacity

from batchkit.api.attempts import Budget, Call, Failure, Verdict, backoff, verdict
from batchkit.clock import DEADLINE, Clock
from batchkit.config import Settings
from batchkit.errors import BatchkitError, Unavailable, Uncertain

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Failed(Exception):
    """One attempt failed; carries what the table needs to know and the error to raise if it was the last. `nameless` is
    one at an address that nobody knows: no outage, which would pass, but most often a slip."""

    def __init__(
        self,
        failure: Failure,
        error: BatchkitError,
        wait_s: float | None = None,
        timeout: bool = False,
        nameless: bool = False,
    ):
        super().__init__(str(error))
        self.failure, self.error, self.wait_s, self.timeout, self.nameless = failure, error, wait_s, timeout, nameless


@dataclass
class Again:
    """Makes attempts for one place that calls go to, and keeps its budget of retries."""

    clock: Clock
    settings: Settings
    budget: Budget = field(default_factory=Budget)

    async def __call__(self, call: Call, attempt: Callable[[], Awaitable[T]]) -> T:
        """What the first `attempt` that does not fail returns. Raises a BatchkitError once the table says stop."""
        began, settings = self.clock.monotonic(), self.settings

        def again(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if not isinstance(error, Failed) or verdict(call, error.failure) is not Verdict.AGAIN:
                return False
            if error.nameless and state.attempt_number > 1:
                return False
            return (error.wait_s or 0) <= settings.retry_after_cap_s and self.budget.spend(timed_out=error.timeout)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait_s if isinstance(error, Failed) else None
            return max(asked or 0.0, backoff(state.attempt_number, random.random()))

        def say(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            soon = "at once" if state.upcoming_sleep < 0.5 else f"in {state.upcoming_sleep:.0f} s"
            _log.warning("%s; trying again %s", error, soon)

        def stop(state: tenacity.RetryCallState) -> bool:
            late = self.clock.monotonic() - began > settings.max_attempts_s
            deadline = DEADLINE.get()  # by then nobody waits for the next attempt any more
            late = late or (deadline is not None and self.clock.now() + state.upcoming_sleep >= deadline)
            return late or state.attempt_number >= settings.max_attempts

        retrying = tenacity.AsyncRetrying(
            retry=again, wait=wait, stop=stop, sleep=self.clock.sleep, before_sleep=say, reraise=True
        )
        try:
            result: T = await retrying(attempt)
        except Failed as failed:
            if verdict(call, failed.failure) is Verdict.LOOK:
                raise Uncertain(f"it is not known whether the service did what was asked: {failed.error}") from None
            if verdict(call, failed.failure) is Verdict.AGAIN and not isinstance(failed.error, Unavailable):
                raise Unavailable(str(failed.error)) from None
            raise failed.error from None
        self.budget.earn()
        return result
