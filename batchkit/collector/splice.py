"""A good result as JSON Lines without decoding it: its pieces are found in the line as it came, and put together. Pure.

Only for lines that a look at their whole file found to be exact JSON, and only where everything is where a chat
completion usually has it: one choice, one message, one of each key. All else is None here, and is decoded. JSON escapes
quotes within strings, so a key with its quotes and colon can be found by its bytes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from batchkit.collector.lines import plain

_STRING = rb'("[^"\\]+(?:\\.[^"\\]*)*")'
_CONTENT = re.compile(rb'"message":\{[^{}]*?"content":' + _STRING)
_FINISH = re.compile(rb'"finish_reason":("[a-z_]+")')
_MODEL = re.compile(rb'"model":("[^"\\]+")')
_INPUT = re.compile(rb'"prompt_tokens":(\d{1,15})[,}]')
_OUTPUT = re.compile(rb'"completion_tokens":(\d{1,15})[,}]')
_ONCE = (b'"choices":', b'"message":', b'"content":', b'"finish_reason":', b'"model":')


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
    for key in _ONCE:
        if body.count(key) != 1:
            return None
    asked, said, content = _INPUT.search(body), _OUTPUT.search(body), _CONTENT.search(body)
    finish, model = _FINISH.search(body), _MODEL.search(body)
    if not (asked and said and content and finish and model) or b'"error":' in body:
        return None
    choices = body.find(b'"choices":[{')
    between = body[choices + 12 : content.start()]
    if choices < 0 or between.count(b"{") != between.count(b"}") or b"},{" in between or b"]" in between:
        return None
    pieces = (
        head, name,
        b'","ok":true,"text":', content[1],
        b',"status_code":200,"error_code":null,"error_message":null,"finish_reason":', finish[1],
        b',"model":', model[1],
        b',"input_tokens":', asked[1],
        b',"output_tokens":', said[1],
        b',"request_id":"', found[2],
        tail, body, b"}\n",
    )  # fmt: skip
    return Spliced(b"".join(pieces), int(asked[1]), int(said[1]))
