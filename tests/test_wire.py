"""What the service says, in all the ways it has been seen to say it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit import wire
from batchkit.errors import Unintelligible
from batchkit.model import Counts

BATCH: dict[str, Any] = {
    "id": "batch_1",
    "object": "batch",
    "status": "completed",
    "endpoint": "/chat/completions",
    "input_file_id": "file-1",
    "output_file_id": "file-2",
    "error_file_id": "",
    "errors": None,
    "created_at": 1729011128,
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "metadata": {"a": "b"},
}


def test_a_batch() -> None:
    batch = wire.batch(BATCH)
    assert (batch.id, batch.status, batch.ended) == ("batch_1", "completed", True)
    assert (batch.output_file_id, batch.error_file_id) == ("file-2", None)
    assert batch.counts == Counts(3, 2, 1)
    assert batch.created_at == 1729011128
    assert batch.metadata == {"a": "b"}


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Validating", "validating"),
        ("In_Progress", "in_progress"),
        ("in progress", "in_progress"),
        ("InProgress", "in_progress"),
        ("Canceled", "cancelled"),
        ("canceling", "cancelling"),
        ("Thinking", "thinking"),
        (None, ""),
        (7, ""),
    ],
)
def test_statuses(said: Any, read: str) -> None:
    batch = wire.batch(BATCH | {"status": said})
    assert batch.status == read
    assert batch.ended == (read == "cancelled")


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("2024-07-19T17:13:57.2491382+00:00", 1721409237.249138),
        ("2024-07-19T17:13:57Z", 1721409237.0),
        ("2024-07-19T17:13:57", 1721409237.0),
        (1721409237, 1721409237.0),
        (1721409237.5, 1721409237.5),
        (None, None),
        ("", None),
        ("soon", None),
        (True, None),
        (-5, None),
        (1e300, None),
        ("9999-12-31T23:59:59-23:59", None),
    ],
)
def test_times(said: Any, read: float | None) -> None:
    found = wire.batch(BATCH | {"created_at": said}).created_at
    assert found == (None if read is None else pytest.approx(read, abs=1e-3))


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (None, None),
        ("many", None),
        ({}, None),
        ({"total": 10, "completed": None, "failed": None}, None),
        ({"total": "10", "completed": True, "failed": -1}, None),
        ({"total": 1e300, "completed": 1, "failed": 0}, Counts(0, 1, 0)),
    ],
)
def test_counts(said: Any, read: Counts | None) -> None:
    assert wire.batch(BATCH | {"request_counts": said}).counts == read


def test_errors_of_a_batch_in_all_shapes() -> None:
    entry = {"code": "model_mismatch", "message": "no", "param": None, "line": "4"}
    for said in ({"object": "list", "data": [entry]}, {"data": entry}, [entry]):
        (error,) = wire.batch(BATCH | {"errors": said}).errors
        assert (error.code, error.message, error.line) == ("model_mismatch", "no", 4)
    assert wire.batch(BATCH | {"errors": "bad"}).errors == ()


def test_pages_under_both_names_and_without_last_id() -> None:
    assert wire.page({"data": [{"id": "a"}, {"id": "b"}], "has_more": True})[1] == "b"
    assert wire.page({"value": [{"id": "a"}], "has_more": True, "last_id": "z"}) == ([{"id": "a"}], "z")
    for lost in ({"data": [], "has_more": True}, {"data": [{}], "has_more": True}, {"data": [], "has_more": 1}):
        with pytest.raises(Unintelligible, match="more"):
            wire.page(lost)
    assert wire.page({"data": ["noise", {"id": "a"}]}) == ([{"id": "a"}], None)
    with pytest.raises(Unintelligible):
        wire.page({"object": "list"})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error": {"code": "quotaExceeded", "message": "full"}}', "quotaExceeded", "full"),
        (b'{"code": 429, "message": "slow"}', "429", "slow"),
        (b'{"error": "nope"}', "", "nope"),
        (b"<html>", "", ""),
        (b"[]", "", ""),
        (b"", "", ""),
    ],
)
def test_envelopes_of_refusals(body: bytes, code: str, message: str) -> None:
    error = wire.error(body)
    assert (error.code, error.message) == (code, message)


CHAT = {"choices": [{"finish_reason": "stop", "message": {"content": "hi"}}], "usage": {"prompt_tokens": 3}}


@pytest.mark.parametrize(
    ("line", "ok", "code", "text"),
    [
        ({"response": {"status_code": 200, "body": CHAT}, "error": None}, True, None, "hi"),
        ({"response": {"status_code": 200, "body": orjson.dumps(CHAT).decode()}}, True, None, "hi"),
        ({"response": {"body": CHAT}}, True, None, "hi"),
        (
            {"response": {"status_code": 400, "body": {"error": {"code": "content_filter"}}}},
            False,
            "content_filter",
            None,
        ),
        ({"response": {"status_code": 400, "body": CHAT}}, False, "http_400", None),
        ({"response": {"status_code": 500, "body": None}, "error": None}, False, "http_500", None),
        ({"response": None, "error": {"code": "batch_expired", "message": "late"}}, False, "batch_expired", None),
        ({"error": {"code": "batch_cancelled"}}, False, "batch_cancelled", None),
        ({}, False, "unreadable", None),
        ({"response": "what"}, False, "unreadable", None),
        (
            {"response": {"status_code": 200, "body": {"output": [{"content": [{"text": "a"}, {"text": "b"}]}]}}},
            True,
            None,
            "ab",
        ),
        ({"response": {"status_code": 200, "body": {"choices": [{"text": "old"}]}}}, True, None, "old"),
        ({"response": {"status_code": 200, "body": {"choices": [{"message": {"refusal": "no"}}]}}}, True, None, "no"),
    ],
)
def test_result_lines_are_judged_by_their_status_code(
    line: dict[str, Any], ok: bool, code: str | None, text: str | None
) -> None:
    result = wire.result("a", line, 0, "batch_1")
    assert (result.ok, result.error_code, result.text) == (ok, code, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*BATCH, "data", "value", "response", "error", "bytes"]), JSON))
def test_whatever_comes_is_read_or_unintelligible(changes: dict[str, Any]) -> None:
    for read in (wire.batch, wire.file, wire.page):
        with suppress(Unintelligible):
            read(BATCH | changes)
    assert wire.result("a", changes, 0, None).custom_id == "a"
    assert isinstance(wire.error(json.dumps(changes).encode()).code, str)


@given(st.binary())
def test_whatever_bytes_come_are_a_document_or_unintelligible(body: bytes) -> None:
    with suppress(Unintelligible):
        assert isinstance(wire.document(body), dict)


def test_an_error_without_a_code_is_called_by_its_type() -> None:
    said = wire.result("a", {"error": {"type": "request_failed", "message": "boom"}}, 0, None)
    assert (said.ok, said.error_code, said.error_message) == (False, "request_failed", "boom")
