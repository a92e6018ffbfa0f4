"""Rows → request lines: the envelope, the body, and the rules that hold over all lines of a job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from batchkit.builder.rows import Row
from batchkit.builder.template import Template, text
from batchkit.errors import InputError
from batchkit.model import CHAT, URLS, Line

_log = logging.getLogger(__name__)
_UNIQUE = "name a column whose values are unique with --custom-id, or leave it away to number the rows"
Body = Callable[[Row], Mapping[str, Any]]


def lines(
    rows: Iterable[Row],
    *,
    deployment: str,
    body: Body | str,
    custom_id: str | None = None,
    url: str = CHAT,
    system: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> Iterator[Line]:
    """One request line for each row, lazily.

    `rows` are mappings from column to value. `body` is a prompt with `{column}` fields, or a function from a row to
    the request's body. `custom_id` names the column that identifies a row; without it rows are called `row-1`,
    `row-2`, … `deployment` goes into `body["model"]` of every line and `params` into every body. `system` is a
    system prompt (instructions, for responses) to go with a prompt. Raises InputError that names the row.
    """
    if url.removeprefix("/v1") not in URLS:
        known = ", ".join(f"/v1{known}" for known in URLS)
        raise InputError(f"batches do not take the url {url!r}", hint=f"one of {known}")
    make = _prompted(body, url, system) if isinstance(body, str) else body
    extra = {**(params or {}), "model": deployment}
    for number, row in enumerate(rows, 1):
        try:
            name = f"row-{number}" if custom_id is None else text(row, custom_id)
            if not name:
                raise InputError(f"column {custom_id!r} is empty: it cannot name the row", hint=_UNIQUE)
            yield Line(name, {**make(row), **extra}, url)
        except InputError as error:
            raise InputError(f"row {number}: {error}", hint=error.hint) from None
        except KeyError as error:
            raise InputError(f"row {number}: column {error} is missing") from None


def _prompted(prompt: str, url: str, system: str | None) -> Body:
    """A prompt as a body of the kind that `url` takes."""
    template, kind = Template.parse(prompt), url.removeprefix("/v1").strip("/")
    if not template.columns:
        _log.warning("the prompt has no {column}: every row asks the same")
    if kind == "embeddings":
        return lambda row: {"input": template.fill(row)}
    if kind == "responses":
        instructions = {"instructions": system} if system else {}
        return lambda row: {**instructions, "input": template.fill(row)}
    first = [{"role": "system", "content": system}] if system else []
    return lambda row: {"messages": [*first, {"role": "user", "content": template.fill(row)}]}


def encode(lines: Iterable[Line | Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines as JSONL bytes, held against the rules of one job: every custom_id new, one deployment, one url.

    A mapping is a request line as it stands in a file. Raises InputError that names the line.
    """
    seen: set[str] = set()
    first: tuple[str, Any] | None = None
    for number, item in enumerate(lines, 1):
        line = item if isinstance(item, Line) else _from_mapping(item, number)
        word = "row" if isinstance(item, Line) else "line"
        if not isinstance(line.custom_id, str) or not line.custom_id:
            raise InputError(f"{word} {number}: custom_id must be a non-empty string, not {line.custom_id!r}")
        if line.custom_id in seen:
            raise InputError(
                f"{word} {number}: custom_id {line.custom_id!r} is used twice",
                hint=_UNIQUE,
            )
        seen.add(line.custom_id)
        kind = (line.url, line.body.get("model"))
        if first is None:
            first = kind
        if kind != first or not isinstance(kind[1], str) or not kind[1]:
            raise InputError(f"{word} {number}: url and deployment {kind} differ from the first line's {first}")
        document = {"custom_id": line.custom_id, "method": line.method, "url": line.url, "body": line.body}
        try:
            yield orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError as error:
            raise InputError(f"{word} {number} ({line.custom_id!r}) cannot be written as JSON: {error}") from None


def _from_mapping(item: Mapping[str, Any], number: int) -> Line:
    try:
        return Line(item["custom_id"], item["body"], item["url"], item["method"])
    except KeyError as error:
        raise InputError(f"line {number} has no {error}", hint="a line is custom_id, method, url and body") from None
