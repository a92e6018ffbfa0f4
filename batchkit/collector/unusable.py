"""Whether an answer is of use. HTTP 200 does not say so: one that was cut off, refused, or is no JSON where a schema
was to be followed is ok, and billed, all the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from batchkit.model import Result

CUT_OFF, REFUSED, OFF_SCHEMA = "cut_off", "refused", "off_schema"
WORDS = {CUT_OFF: "cut off", REFUSED: "refused", OFF_SCHEMA: "off schema"}
"""Each as people read it."""
_ENDS = {"length": CUT_OFF, "max_output_tokens": CUT_OFF, "content_filter": REFUSED, "refusal": REFUSED}
"""Finish reasons of chat completions and, where they are incomplete, of responses (OpenAI API reference)."""


def unusable(result: Result, *, structured: bool) -> str | None:
    """What is wrong with a good row's answer; None where nothing is seen. `structured` answers were to be JSON."""
    if not result.ok:
        return None
    found = _ENDS.get(result.finish_reason or "")
    return OFF_SCHEMA if found is None and structured and result.text and not is_json(result.text) else found


def of_ends(finish_reasons: Mapping[str, int]) -> dict[str, int]:
    """How many answers are of no use by why they ended."""
    found: dict[str, int] = {}
    for reason, count in finish_reasons.items():
        if word := _ENDS.get(reason):
            found[word] = found.get(word, 0) + count
    return found


def in_words(unusable: Mapping[str, int]) -> str:
    """How many answers are of no use, in words."""
    return ", ".join(f"{count} {WORDS[word]}" for word, count in unusable.items())


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
