"""The kinds of request a batch takes, as data: where their content stands, and what their parameters may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

CONTENT = {"/chat/completions": "messages", "/responses": "input", "/embeddings": "input", "/completions": "prompt"}
"""The key of a body that a request is about, by url without /v1."""
NOT_ON_AZURE = frozenset({"/embeddings", "/completions"})
"""Azure's guide: batches take chat completions and responses."""
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PLACES = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "embeddings": "/v1/embeddings"}
"""Short names of urls, for --url."""


class Param(NamedTuple):
    """What a parameter of a body may be; null always stands for the service's default."""

    allows: Callable[[Any], bool]
    wanted: str


def _whole(least: int, most: int | None = None) -> Param:
    words = f"a whole number of {least} or more" if most is None else f"a whole number from {least} to {most}"
    return Param(lambda v: type(v) is int and v >= least and (most is None or v <= most), words)


def _between(least: float, most: float) -> Param:
    return Param(lambda v: type(v) in (int, float) and least <= v <= most, f"a number from {least:g} to {most:g}")


def _typed(wanted: str, *types: type) -> Param:
    return Param(lambda v: type(v) in types, wanted)


PARAMS: Mapping[str, Param] = {
    "n": _whole(1, 128),
    "max_tokens": _whole(1),
    "max_completion_tokens": _whole(1),
    "max_output_tokens": _whole(1),
    "dimensions": _whole(1),
    "top_logprobs": _whole(0, 20),
    "seed": _typed("a whole number", int),
    "temperature": _between(0, 2),
    "top_p": _between(0, 1),
    "frequency_penalty": _between(-2, 2),
    "presence_penalty": _between(-2, 2),
    "stop": _typed("text or a list of texts", str, list),
    "user": _typed("text", str),
    "instructions": _typed("text", str),
    "tools": _typed("a list", list),
    "response_format": _typed("an object", dict),
    "text": _typed("an object", dict),
    "reasoning": _typed("an object", dict),
    "metadata": _typed("an object", dict),
}
"""Parameters whose wrong type or range makes the service refuse the row (OpenAI API reference, request bodies)."""


def path_of(url: str) -> str:
    """The url of a line without the /v1 in front, which the service takes with or without."""
    return url.removeprefix("/v1")
