"""A good result as JSON Lines, put together from pieces around its body as it came. Pure.

Only where everything is laid out as services lay it out; all else is None here, and is decoded in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from batchkit.collector.lines import AZURE_HEAD, AZURE_TAIL, FIRST, plain
from batchkit.collector.unusable import is_json

_MOST = 10**15
_NUMBER = re.compile(rb"(\d{1,15})[,}]")
_ESCAPE = ord("\\")

_USAGE = 800
"""Bytes from the end within which usage is looked for."""
_USAGE_KEY = b',"usage":{'
_ENDING = re.compile(
    rb',"usage":\{(?:(?:"prompt_tokens":(\d{1,15})|"completion_tokens":(\d{1,15})|"total_tokens":\d+'
    rb'|"\w+_details":(?:null|\{[^{}\[\]\\]*\}))[,}])+\}' + AZURE_TAIL.pattern.replace(rb"(\d{1,3})", b"200")
)
"""What stands at the end of Azure's lines, where usage is the last that a body has."""


_FINISH = b'"finish_reason":"'
_SAID = re.compile(
    _FINISH + rb'(\w+)",(?:"index":\d+,)?(?:"logprobs":null,)?"message":\{(?:"annotations":\[\],)?'
    rb'(?:"role":"assistant",)?"content":"[^"]'
)
"""Why an answer with a text ended, where that stands before the text, as in Azure's lines."""
_CHOICE = 1000
"""Bytes of a body within which that is looked for."""


Spliced = tuple[bytes, int, int, str]
"""A line of results, the tokens in and out that it counts, and why the answer ended."""


def joiner(
    schema: str, number: int, batch_id: str | None, *, structured: bool = False
) -> Callable[[bytes, bytes], Spliced | None]:
    """What makes a line of ours of a line of a round and a batch, for a row whose custom_id needs no escapes. None for
    a line that is not plain enough: anything but one choice with a text, JSON where answers are `structured`, and a
    count of tokens."""
    head = b'{"schema":"%s","custom_id":"' % schema.encode()
    tail = b'","round":%d,"batch_id":%s,"response":' % (number, orjson.dumps(batch_id))

    def join(line: bytes, name: bytes) -> Spliced | None:
        found = plain(line, name)
        if found is None or found[1] != b"200" or not found[2]:
            return None
        body = found[0]
        try:
            document = orjson.loads(body)
            (choice,), usage, model = document["choices"], document["usage"], document["model"]
            said, finish = choice["message"]["content"], choice["finish_reason"]
            asked, answered = usage["prompt_tokens"], usage["completion_tokens"]
        except (ValueError, LookupError, TypeError):
            return None
        if "error" in document or not (said and finish and model and {type(said), type(finish), type(model)} == {str}):
            return None
        if type(asked) is not int or type(answered) is not int or not (0 <= asked <= _MOST and 0 <= answered <= _MOST):
            return None
        if structured and not is_json(said):
            return None
        pieces = (
            head, name,
            b'","ok":true,"text":', orjson.dumps(said),
            b',"status_code":200,"error_code":null,"error_message":null,"finish_reason":', orjson.dumps(finish),
            b',"model":', orjson.dumps(model),
            b',"input_tokens":%d,"output_tokens":%d,"request_id":"%b' % (asked, answered, found[2]),
            tail, body, b"}\n",
        )  # fmt: skip
        return b"".join(pieces), asked, answered, finish

    return join


def as_it_came(line: bytes, name: bytes) -> Spliced | None:
    """A good answer that is handed on as it came; None for a line that is not plain enough."""
    if not line.endswith(b"\n"):
        return None
    at = line.rfind(_USAGE_KEY, -_USAGE)
    start = len(FIRST) + len(name) + 1
    if line.startswith(AZURE_HEAD, start) and line.startswith(FIRST) and (found := _ENDING.fullmatch(line, max(at, 0))):
        return _counted(line, start, found[1], found[2])
    found_plain = plain(line, name)
    if found_plain is None or found_plain[1] != b"200":
        return None
    body = found_plain[0]
    at = body.rfind(_USAGE_KEY, -_USAGE)
    if at < 0:
        return None
    usage = body[at:]
    counts = (_NUMBER.match(usage, _only(usage, key)) for key in (b'"prompt_tokens":', b'"completion_tokens":'))
    return _counted(line, start, *(count and count[1] for count in counts))


def _counted(line: bytes, start: int, asked: bytes | None, said: bytes | None) -> Spliced | None:
    """A line with its tokens, whose body begins at about `start`; None where one of the counts, or a text, is not
    found."""
    at = line.find(_FINISH, start, start + _CHOICE)
    found = _SAID.match(line, at) if at > 0 else None
    return (line, int(asked), int(said), found[1].decode()) if found and asked and said else None


def _only(body: bytes, name: bytes) -> int:
    """Where the value of the one key of this name begins; 0, where no value is, when there is none, or more."""
    at = body.find(name)
    if at < 0 or body[at - 1] == _ESCAPE or body.find(name, at + 1) >= 0:
        return 0
    return at + len(name)
