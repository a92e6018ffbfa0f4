"""What is put together from bytes is what a full decode would have written."""

from __future__ import annotations

import random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from batchkit.collector.export import SCHEMA, document
from batchkit.collector.lines import name_of, read
from batchkit.collector.splice import as_it_came, joiner

JOIN = joiner(SCHEMA, 0, "b")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    [
        '"',
        "\\",
        '\\"',
        "{",
        "}",
        '{"a":1}',
        '"content":"x"',
        '","request_id":"q","status_code":200},"error":null}',
        "é🦜\u2028",
    ]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "content", "message", "model", "error", "finish_reason"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    """Chat completions as services write them, in any order of keys, and now and then with something odd."""
    message: dict[str, Any] = {"role": "assistant", "content": draw(TEXT), "refusal": None}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
    choice["content_filter_results"] = {"hate": {"filtered": False, "severity": "safe"}}
    usage: dict[str, Any] = {"prompt_tokens": draw(st.integers(0, 10**6)), "completion_tokens": 7, "total_tokens": 9}
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": draw(st.sampled_from(["gpt-4o", "m", 'quo"ted'])),
        "choices": [choice] * draw(st.sampled_from([1, 1, 1, 2])),
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
        "usage": usage,
    }
    for where in (body, choice, message, usage):
        if draw(st.integers(0, 5)) == 0:
            where[draw(st.sampled_from(["x", "y", "error", "content", "model", "prompt_tokens"]))] = draw(ODD)
    mix = random.Random(draw(st.integers(0, 1000)))
    mixed: dict[str, Any] = shuffled(body, mix)
    return mixed


def shuffled(value: Any, mix: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(item, mix) for item in value]
    if not isinstance(value, dict):
        return value
    items = list(value.items())
    mix.shuffle(items)
    return {key: shuffled(item, mix) for key, item in items}


def line_of(body: Any, *, azure: bool, status: int) -> bytes:
    response = {"body": body, "request_id": "r", "status_code": status}
    if not azure:
        response = dict(reversed(response.items()))
    return orjson.dumps({"custom_id": "row-1", "response": response, "error": None}) + b"\n"


@given(chats(), st.booleans(), st.sampled_from([200, 200, 200, 201, 429]))
def test_spliced_lines_are_those_of_a_full_decode(body: dict[str, Any], azure: bool, status: int) -> None:
    line = line_of(body, azure=azure, status=status)
    made = JOIN(line, b"row-1")
    result = read(line, b"row-1", 0, "b").result
    if made is not None:
        assert orjson.loads(made[0]) == orjson.loads(orjson.dumps(document(result)))
        assert made[1:] == (result.input_tokens, result.output_tokens, result.finish_reason)
        assert made[0].endswith(b"}\n")


def test_ordinary_lines_are_spliced() -> None:
    message = {"role": "assistant", "content": 'a "quoted" {text}\\ with é'}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message, "content_filter_results": {}}
    usage = {"completion_tokens": 1, "prompt_tokens": 2, "total_tokens": 3}
    body = {"id": "c", "model": "gpt-4o", "choices": [choice], "usage": usage}
    for azure in (True, False):
        line = line_of(body, azure=azure, status=200)
        assert name_of(line) == b"row-1"
        made = JOIN(line, b"row-1")
        assert made is not None
        assert orjson.loads(made[0])["text"] == message["content"]
        assert orjson.dumps(body) in made[0]
        assert as_it_came(line, b"row-1") == (line, 2, 1, "stop")
        assert as_it_came(line.removesuffix(b"\n"), b"row-1") is None  # it would run into the next
