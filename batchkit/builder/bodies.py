"""What is asked about a row: the body of a request of each kind, around the one thing that differs from row to row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from batchkit.builder.images import Images
from batchkit.builder.kinds import path_of
from batchkit.builder.rows import Row
from batchkit.builder.template import Fill
from batchkit.errors import InputError

Content = Callable[[Row], Any]
"""From a row to what is asked about it: text, or a list of text and images."""
Frame = Callable[[Any], dict[str, Any]]
"""From that to the body of the request."""


def frame_of(url: str, system: str | None, schema: Mapping[str, Any] | None) -> Frame:
    """The body of a chat completion, response, embedding or completion around its content.

    `schema` is `{"name", "schema", "strict"}`. Raises InputError for what this kind of request does not take.
    """
    path = path_of(url)
    if path in ("/embeddings", "/completions"):
        if system or schema:
            what = "a system prompt" if system else "a schema"
            raise InputError(f"{path} takes no {what.split()[-1]}", hint=f"leave {what} away, or use --url chat")
        key = "input" if path == "/embeddings" else "prompt"
        return lambda content: {key: content}
    if path == "/responses":
        about: dict[str, Any] = {"instructions": system} if system else {}
        if schema:
            about["text"] = {"format": {"type": "json_schema", **schema}}
        return lambda content: {**about, "input": content}
    first = [{"role": "system", "content": system}] if system else []
    about = {"response_format": {"type": "json_schema", "json_schema": dict(schema)}} if schema else {}
    return lambda content: {"messages": [*first, {"role": "user", "content": content}], **about}


def content_of(url: str, fill: Fill, images: Images | None) -> Content:
    """What is asked about a row: its prompt, and its images where there are any."""
    if images is None:
        return fill
    path, see = path_of(url), images
    if path == "/chat/completions":
        return lambda row: [
            {"type": "text", "text": fill(row)},
            *({"type": "image_url", "image_url": {"url": url} | see.detail} for url in see.of(row)),
        ]
    if path == "/responses":
        return lambda row: [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": fill(row)},
                    *({"type": "input_image", "image_url": url} | see.detail for url in see.of(row)),
                ],
            }
        ]
    raise InputError(f"{path} takes no images", hint="use --url chat or --url responses")
