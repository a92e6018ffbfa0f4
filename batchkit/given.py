"""What a program gives, held against what is wanted, so that a wrong kind of thing is said in a sentence."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from batchkit.errors import BatchkitError, InputError
from batchkit.text import visible

MOST_NAME = 200
_NAME = "such as name=f'nightly-{date.today()}'"


def expect(
    what: str,
    value: object,
    kinds: Any,
    words: str,
    *,
    hint: str | None = None,
    error: type[BatchkitError] = InputError,
) -> None:
    """Raises `error` for a `value` of none of these kinds, as of isinstance; `words` say which are wanted."""
    if not isinstance(value, kinds):
        raise error(f"{what} must be {words}, not {_kind(value)}", hint=hint or "mend the call: nothing was sent")


def expect_call(name: Any = None, timeout_s: Any = None, retries: Any = 0) -> None:
    """Raises InputError for a job's name, a timeout or a number of retries that is none."""
    job_name(name)
    seconds = "timedelta.total_seconds() makes them" if isinstance(timeout_s, timedelta) else None
    expect("timeout_s", timeout_s, (int, float, type(None)), "a number of seconds", hint=seconds)
    expect("retries", retries, int, "a whole number")
    if retries < 0:
        raise InputError(f"retries must be 0 or more, not {retries}", hint="mend the call: nothing was sent")


def job_name(name: Any) -> str | None:
    """A job's name without the blanks around it; None for none. Raises InputError for what cannot be one."""
    expect("name", name, (str, type(None)), "text", hint=_NAME)
    if name is None:
        return None
    name = name.strip()
    if not name:
        raise InputError("the job's name is empty", hint=_NAME)
    if len(name) > MOST_NAME or visible(name, MOST_NAME) != name:
        raise InputError(f"the job's name has up to {MOST_NAME} characters, all of them visible", hint=_NAME)
    return str(name)


def warn(log: logging.Logger, words: str, hint: str, *, strict: bool) -> None:
    """Say what is doubtful before it costs, and may be meant all the same. Raises InputError where one is `strict`."""
    if strict:
        raise InputError(words, hint=f"{hint}; or leave --strict away, if it is meant so")
    log.warning("%s; %s", words, hint)


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
