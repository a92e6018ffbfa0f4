"""The kinds of request a batch takes, as data: where their content stands, and what their parameters may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from batchkit.text import nearest

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
_ALL = "metadata model stream temperature top_p user"
_CHAT = """
audio data_sources frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
messages modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention
reasoning_effort response_format safety_identifier seed service_tier stop store stream_options tool_choice tools
top_logprobs user_security_context verbosity web_search_options
"""
_RESPONSES = """
background conversation include input instructions max_output_tokens max_tool_calls parallel_tool_calls
previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier store
stream_options text tool_choice tools top_logprobs truncation
"""
_COMPLETIONS = """
best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty prompt seed stop stream_options suffix
"""
KNOWN: Mapping[str, frozenset[str]] = {
    "/chat/completions": frozenset(f"{_ALL} {_CHAT}".split()),
    "/responses": frozenset(f"{_ALL} {_RESPONSES}".split()),
    "/completions": frozenset(f"{_ALL} {_COMPLETIONS}".split()),
    "/embeddings": frozenset("dimensions encoding_format input input_type model user".split()),
}
"""The keys of a body, by url without /v1: those of the request types of the Python package openai 3.54, but for its
newest six, and Azure's data_sources, user_security_context and input_type. A service may take others: one that is not
here is only spoken of where it looks like one that is."""
_SLIP = 0.85
"""How near a key must be to a known one to be a slip: top_k, which other servers know, is none for top_p."""


def misspelt(url: str, key: str) -> str | None:
    """The key of a body that is meant where one is written that nobody knows, if one is near enough to be."""
    known = KNOWN.get(path_of(url), frozenset())
    return None if key in known else nearest(key, known, _SLIP)


def path_of(url: str) -> str:
    """The url of a line without the /v1 in front, which the service takes with or without."""
    return url.removeprefix("/v1")
