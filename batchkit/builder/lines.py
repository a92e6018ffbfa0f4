"""Rows → request lines: the envelope, the body, and the rules that hold over all lines of a job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from batchkit.builder.check import Rules
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
    if kind == "completions":
        return lambda row: {"prompt": template.fill(row)}
    if kind == "responses":
        instructions = {"instructions": system} if system else {}
        return lambda row: {**instructions, "input": template.fill(row)}
    first = [{"role": "system", "content": system}] if system else []
    return lambda row: {"messages": [*first, {"role": "user", "content": template.fill(row)}]}


def encode(lines: Iterable[Line | Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines as JSONL bytes, by the rules that `check` holds a file to.

    A mapping is a request line as it stands in a file. Raises InputError that names the row or line.
    """
    rules = Rules()
    for number, item in enumerate(lines, 1):
        where = f"{'row' if isinstance(item, Line) else 'line'} {number}"

        def blame(code: str, message: str, fix: str, where: str = where) -> None:
            raise InputError(f"{where}: {code}: {message}", hint=fix)

        document: Mapping[str, Any]
        if isinstance(item, Line):
            document = {"custom_id": item.custom_id, "method": item.method, "url": item.url, "body": item.body}
        else:
            document = item
        rules.judge(document, number, blame)
        try:
            yield orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError as error:
            raise InputError(f"{where} cannot be written as JSON: {error}") from None
