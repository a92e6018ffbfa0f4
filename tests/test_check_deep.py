"""`check` against an independent strict reader, on generated lines that were bent and broken."""

from __future__ import annotations

import codecs
import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batchkit
from batchkit import check
from batchkit.builder.lines import encode

from .conftest import request_line

pytestmark = pytest.mark.deep
LINES = 10_000
_WORDS = [
    "hello",
    "Grüße",
    "日本語",
    'with "quotes"',
    "back\\slash",
    "new\nline",
    "🍡",
    "\u2028",
    "",
    "\x7f",
    "a" * 300,
]
_SNIPPETS = [
    b'"', b"\\", b",", b"}", b"{", b"]", b"[", b":", b"\x00", b"\t", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe9",
    b"NaN", b"-Infinity", b"1e999", b"01", b"1.", b"\\ud800", b"\\u00e9", b"\\x", b"'", b"true", b"None", b" ",
    b'"stream":true,', b'"model":"other",', b'"a":1,', b"\r", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"9" * 400,
]  # fmt: skip


class _Strict(Exception):
    """What the independent reader refuses."""


def strict(raw: bytes) -> Any:
    """A line as the standard library reads it at its strictest: codecs, json, and what json lets pass."""
    text, _ = codecs.getdecoder("utf-8")(raw, "strict")
    if text.startswith("\ufeff"):
        raise _Strict("BOM")
    document = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_fits)
    json.dumps(document, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be written
    return document


def _refuse(word: str) -> None:
    raise _Strict(word)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Strict(text)
    return value


def _fits(text: str) -> int:
    _finite(text)
    return int(text)


def accepts(raw: bytes) -> bool:
    try:
        return isinstance(strict(raw), dict)
    except (_Strict, ValueError, RecursionError):
        return False


def bent_in_its_text(draw: random.Random, raw: bytes) -> bytes:
    """A line with changes in nothing but the text that is asked about."""
    start, end = raw.index(b'"content":"') + 11, raw.rindex(b'"')
    return raw[:start] + bent(draw, raw[start:end]) + raw[end:]


def bent(draw: random.Random, raw: bytes) -> bytes:
    """Bytes with one to three small changes anywhere."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(data) + 1)
        change = draw.randrange(4)
        if change == 0:
            data[at:at] = draw.choice(_SNIPPETS)
        elif change == 1:
            del data[at : at + draw.randint(1, 4)]
        elif change == 2:
            data[at : at + 1] = bytes([draw.randrange(256)])
        else:
            start = draw.randrange(len(data) + 1)
            data[at:at] = data[start : start + draw.randint(1, 30)]
    return bytes(data).replace(b"\n", b"")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("share", "bend"), [(0.5, bent), (0.02, bent_in_its_text), (0.001, bent_in_its_text)])
def test_check_and_a_strict_reader_agree_on_every_line(tmp_path: Path, seed: int, share: float, bend: Any) -> None:
    """Few bad lines among many good ones, too, so that all quick ways are tried on them."""
    draw = random.Random(seed)
    lines = []
    for number in range(LINES):
        raw = orjson.dumps(request_line(number, text=draw.choice(_WORDS)))
        lines.append(bend(draw, raw) if draw.random() < share else raw)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    report = check(path, limits=None, max_problems=LINES * 10)
    unreadable = {p.line for p in report.problems if p.code in ("invalid_json_line", "not_utf8", "bom", "not_jsonl")}
    blank = {p.line for p in report.problems if p.code == "blank_line"}
    for number, line in enumerate(lines, 1):
        if number not in blank:
            assert accepts(line) == (number not in unreadable), (number, line)


@pytest.mark.parametrize("seed", range(3))
def test_the_quick_way_and_the_slow_way_agree(tmp_path: Path, seed: int) -> None:
    """The same lines, with and without good ones around them that they could be likened to."""
    draw = random.Random(100 + seed)
    path = tmp_path / "lines.jsonl"
    good = [orjson.dumps(request_line(number, text=draw.choice(_WORDS))) + b"\n" for number in range(2000)]
    for number in range(400):
        odd = bent(draw, orjson.dumps(request_line(5000 + number, text=draw.choice(_WORDS)))) + b"\n"
        path.write_bytes(good[0] + odd)
        slow = [(p.code, p.message) for p in check(path).problems if p.line == 2]
        path.write_bytes(b"".join(good[:20]) + odd + b"".join(good[20:40]))
        quick = [(p.code, p.message) for p in check(path).problems if p.line == 21]
        if "first on line" not in str(slow + quick) and "used twice" not in str(slow + quick):
            assert quick == slow, odd


text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner),
    max_leaves=20,
)


@settings(max_examples=2000)
@given(st.dictionaries(text, values, max_size=5))
def test_any_row_survives_being_a_line(row: dict[str, Any]) -> None:
    made = batchkit.lines([row], deployment="d", body=lambda row: {"input": "x", "metadata": row}, url="/v1/responses")
    (line,) = encode(made)
    assert orjson.loads(line)["body"]["metadata"] == row
    assert json.loads(line)["body"]["metadata"] == row
