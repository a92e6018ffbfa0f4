"""What a program gives, held against what is wanted, so that a wrong kind of thing is said in a sentence."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from datetime import timedelta
from inspect import iscoroutinefunction, signature
from types import NoneType
from typing import Any

from batchkit.errors import BatchkitError, InputError
from batchkit.hints import in_python
from batchkit.text import visible

MOST_NAME = 200
_NAME = "such as name=f'nightly-{date.today()}'"
_TEXT, _PATH, _NUMBER = (str, NoneType), (str, os.PathLike, NoneType), (int, float, NoneType)
_MOMENT = "such as time.time() - 8 * 3600, or datetime(2026, 11, 1).timestamp()"
_WORDS: Mapping[str, tuple[Any, str, str | None]] = {
    "name": (_TEXT, "text", _NAME),
    **dict.fromkeys(
        "stem fingerprint deployment format model sql status state target after".split(), (_TEXT, "text", None)
    ),
    **dict.fromkeys(("out", "config", "facts", "metrics"), (_PATH, "a path", None)),
    **dict.fromkeys("since until ended_since ended_until".split(), (_NUMBER, "a time in seconds since 1970", _MOMENT)),
    "timeout_s": (_NUMBER, "a number of seconds", None),
    **dict.fromkeys(("retries", "limit", "max_problems"), (int, "a whole number", None)),
    "only": (Collection, "error codes or statuses", "such as only=['429', 'content_filter']"),
    "columns": (Collection | None, "names of columns", "such as columns=['custom_id', 'text']"),
    "params": (Mapping | None, "a mapping", "such as params={'max_tokens': 400}"),
    "metadata": (Mapping, "a mapping", "such as metadata={'batchkit_job': 'nightly'}"),
    "custom_id": ((str, Callable, NoneType), "a column, a template, @hash or a function of a row", None),
}
"""What the words of a call may be, in whichever call they stand."""
_LEAST = {**dict.fromkeys("timeout_s retries max_problems since until ended_since ended_until".split(), 0), "limit": 1}
_MEND = "mend the call: nothing was sent"


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
        raise error(f"{what} must be {words}, not {_kind(value)}", hint=hint or _MEND)


def expect_call(**given: Any) -> None:
    """Raises InputError for a word of a call that is given something of another kind, or too little."""
    for word, value in given.items():
        kinds, words, hint = _WORDS[word]
        seconds = "timedelta.total_seconds() makes them" if isinstance(value, timedelta) else None
        expect(word, value, kinds, words, hint=seconds or hint)
        if word in _LEAST and value is not None and not value >= _LEAST[word]:  # NaN is neither
            raise InputError(f"{word} must be {_LEAST[word]} or more, not {value}", hint=_MEND)


def expect_numbers(given: Any, *, least: int, error: type[BatchkitError]) -> None:
    """Raises `error` for a field of a dataclass of numbers that holds something else, or less than `least`. What is
    whole by default must be whole, and what may be left out may be None."""
    for item in fields(given):
        kinds, words = ((int, float), "a number") if isinstance(item.default, float) else (int, "a whole number")
        value = getattr(given, item.name)
        if value is None and item.default is None:
            continue
        expect(item.name, value, kinds, words, error=error)
        if not value >= least:
            raise error(f"{item.name} must be {least} or more, not {value}", hint=_MEND)


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
        also = " Or" if hint.endswith("?") else "; or"
        raise InputError(words, hint=f"{hint}{also} leave --strict away, if it is meant so")
    advise(log, words, hint)


def advise(log: logging.Logger, words: str, hint: str) -> None:
    """Log a warning and what to do: as a call, and for a command, which has it as `typed`, as what to type."""
    log.warning("%s; %s", words, in_python(hint), extra={"typed": f"{words}; {hint}"})


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
