"""A good result as JSON Lines without decoding it: its pieces are found in the line as it came, and put together. Pure.

Only for lines that a look at their whole file found to be exact JSON, and only where everything is where a chat
completion usually has it: one choice, one message, one of each key. All else is None here, and is decoded. JSON escapes
quotes within strings, so a key with its quotes and colon can be found by its bytes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from batchkit.collector.lines import plain

_STRING = re.compile(rb'"[^"\\]+(?:\\.[^"\\]*)*"')
_WORD = re.compile(rb'"[^"\\]+"')
_NUMBER = re.compile(rb"(\d{1,15})[,}]")
_ESCAPE = ord("\\")


_USAGE = 800
"""Bytes from the end of a body within which its usage is looked for."""


class Spliced(NamedTuple):
    """A line of results, and the tokens it counts."""

    line: bytes
    input_tokens: int
    output_tokens: int


def head(schema: str) -> bytes:
    """The beginning of every spliced line."""
    return b'{"schema":"%s","custom_id":"' % schema.encode()


def splice(line: bytes, name: bytes, head: bytes, tail: bytes) -> Spliced | None:
    """The result that a line of an exact file is, for a row whose custom_id needs no escapes; `tail` names round and
    batch. None for a line that is not plain enough."""
    found = plain(line, name)
    if found is None or found[1] != b"200":
        return None
    body = found[0]
    choices, message, content = _only(body, b'"choices":'), _only(body, b'"message":'), _only(body, b'"content":')
    if not 0 < choices < message < content or b'"error":' in body or not _only(body, b'"usage":'):
        return None
    if not body.startswith(b"[{", choices) or not body.startswith(b"{", message):
        return None
    between, within = body[choices + 2 : message], body[message + 1 : content]
    if (
        between.count(b"{") != between.count(b"}")
        or b"},{" in between
        or b"]" in between
        or b"{" in within
        or b"}" in within
    ):
        return None  # the message may not be that of the first choice, or the content not the message's
    said, finish = _STRING.match(body, content), _WORD.match(body, _only(body, b'"finish_reason":'))
    asked, answered = (
        _NUMBER.match(body, _only(body, name)) for name in (b'"prompt_tokens":', b'"completion_tokens":')
    )
    model = _WORD.match(body, _only(body, b'"model":'))
    if not (said and finish and model and asked and answered):
        return None
    pieces = (
        head, name,
        b'","ok":true,"text":', said[0],
        b',"status_code":200,"error_code":null,"error_message":null,"finish_reason":', finish[0],
        b',"model":', model[0],
        b',"input_tokens":', asked[1],
        b',"output_tokens":', answered[1],
        b',"request_id":"', found[2],
        tail, body, b"}\n",
    )  # fmt: skip
    return Spliced(b"".join(pieces), int(asked[1]), int(answered[1]))


def tokens(line: bytes, name: bytes) -> tuple[int, int] | None:
    """Tokens in and out of a good answer that is handed on as it came; None for a line that is not plain enough."""
    found = plain(line, name)
    if found is None or found[1] != b"200":
        return None
    body = found[0]
    at = body.rfind(b'"usage":{', -_USAGE)
    if at < 0:
        return None
    usage = body[at:]
    asked, said = (_NUMBER.match(usage, _only(usage, key)) for key in (b'"prompt_tokens":', b'"completion_tokens":'))
    return (int(asked[1]), int(said[1])) if asked and said else None


def _only(body: bytes, name: bytes) -> int:
    """Where the value of the one key of this name begins; 0, where no value is, when there is none, or more."""
    at = body.find(name)
    if at < 0 or body[at - 1] == _ESCAPE or body.find(name, at + 1) >= 0:
        return 0
    return at + len(name)
