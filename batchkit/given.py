"""What a program gives, held against what is wanted, so that a wrong kind of thing is said in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from inspect import iscoroutinefunction, signature
from typing import Any

from batchkit.errors import BatchkitError, InputError

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
    expect("name", name, (str, type(None)), "text", hint=_NAME)
    if name == "":
        raise InputError("the job's name is empty", hint=_NAME)
    seconds = "timedelta.total_seconds() makes them" if isinstance(timeout_s, timedelta) else None
    expect("timeout_s", timeout_s, (int, float, type(None)), "a number of seconds", hint=seconds)
    expect("retries", retries, int, "a whole number")
    if retries < 0:
        raise InputError(f"retries must be 0 or more, not {retries}", hint="mend the call: nothing was sent")


def expect_callback(what: str, value: Any) -> None:
    """Raises InputError for what cannot be called with one value, and for what would have to be awaited."""
    expect(what, value, (Callable, type(None)), "a function", hint=f"such as {what}=print")
    if iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None)):  # noqa: B004
        raise InputError(f"{what} is called, and not awaited: it must be no async function", hint="def, without async")
    try:
        if value is not None:
            signature(value).bind(None)
    except TypeError:
        words = f"{what} is called with one value, which it does not take"
        raise InputError(words, hint=f"such as {what}=print") from None
    except ValueError:  # what is written in C may not say what it takes
        pass


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
