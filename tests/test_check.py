"""Every problem that check names, with its place and its code; and the limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from batchkit import InputError, Limits, check

from .conftest import request_line


def line(**changes: Any) -> bytes:
    return orjson.dumps(request_line(1) | changes) + b"\n"


def body(**changes: Any) -> bytes:
    return line(body=request_line(1)["body"] | changes)


GOOD = line(custom_id="first")

CASES: dict[str, tuple[bytes, str, int, int, str]] = {
    "BOM": (b"\xef\xbb\xbf" + GOOD, "bom", 1, 0, "byte order mark"),
    "Latin-1": (GOOD + b'{"custom_id": "caf\xe9"}\n', "not_utf8", 2, len(GOOD) + 18, "0xe9"),
    "no JSON": (GOOD + b'{"custom_id": oops}\n', "invalid_json_line", 2, len(GOOD) + 14, "not JSON"),
    "NaN": (GOOD + b'{"custom_id": NaN}\n', "invalid_json_line", 2, len(GOOD) + 14, "not JSON"),
    "trailing comma": (GOOD + b'{"a": 1,}\n', "invalid_json_line", 2, len(GOOD) + 7, "not JSON"),
    "lone surrogate": (GOOD + b'{"a": "\\ud800"}\n', "invalid_json_line", 2, len(GOOD) + 7, "not JSON"),
    "array": (GOOD + b"[1]\n", "invalid_json_line", 2, len(GOOD), "JSON list"),
    "keys missing": (GOOD + b'{"custom_id": "b"}\n', "invalid_request", 2, len(GOOD), "method, url, body"),
    "number as id": (GOOD + line(custom_id=7), "invalid_request", 2, len(GOOD), "custom_id is 7"),
    "empty id": (GOOD + line(custom_id=""), "invalid_request", 2, len(GOOD), "custom_id is ''"),
    "duplicate id": (GOOD + GOOD, "duplicate_custom_id", 2, len(GOOD), "first by number 1"),
    "GET": (GOOD + line(method="GET"), "invalid_request", 2, len(GOOD), "'GET'"),
    "other url": (GOOD + line(url="/chat/completions"), "url_mismatch", 2, len(GOOD), "first line's"),
    "deployment url": (line(url="/deployments/x/chat/completions"), "url_mismatch", 1, 0, "/deployments/"),
    "url no string": (line(url=None), "invalid_request", 1, 0, "url is None"),
    "other deployment": (GOOD + body(model="other"), "model_mismatch", 2, len(GOOD), "'other'"),
    "no deployment": (GOOD + body(model=""), "model_not_found", 2, len(GOOD), "missing"),
    "placeholder": (body(model="<your-deployment>"), "model_not_found", 1, 0, "placeholder"),
    "guide's placeholder": (body(model="REPLACE-WITH-MODEL-DEPLOYMENT-NAME"), "model_not_found", 1, 0, "placeholder"),
    "stream": (body(stream=True), "invalid_request", 1, 0, "stream"),
    "no messages": (body(messages=[]), "invalid_request", 1, 0, "messages"),
    "body no object": (line(body="x"), "invalid_request", 1, 0, "not an object"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    data, code, number, byte, words = CASES[name]
    path = tmp_path / "lines.jsonl"
    path.write_bytes(data)
    report = check(path)
    assert not report.ok
    (problem,) = report.problems
    assert (problem.code, problem.line, problem.byte, problem.severity) == (code, number, byte, "error")
    assert words in problem.message
    assert problem.fix


@pytest.mark.parametrize(
    ("data", "code"),
    [(GOOD + b"\n" + line(), "blank_line"), (GOOD[:-1] + b"\r\n", "crlf"), (GOOD[:-1], "no_final_newline")],
)
def test_what_batchkit_mends_by_itself_is_a_warning(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(data)
    report = check(path)
    assert report.ok
    assert [(problem.code, problem.severity) for problem in report.problems] == [(code, "warning")]


@pytest.mark.parametrize(
    ("limits", "code"), [(Limits(max_lines=1), "too_many_tasks"), (Limits(max_bytes=100), "file_too_large")]
)
def test_the_limits_of_a_file(tmp_path: Path, limits: Limits, code: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + line())
    assert [problem.code for problem in check(path, limits=limits).problems] == [code]
    assert check(path, limits=None).ok


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + line())
    report = check(path)
    assert report.ok
    assert (report.lines, report.bytes) == (2, path.stat().st_size)
    assert (report.url, report.deployment) == ("/v1/chat/completions", "gpt-4o-batch")


def test_a_table_is_called_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    (problem,) = check(path).problems
    assert (problem.code, "batchkit build" in problem.fix) == ("not_jsonl", True)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.touch()
    assert [problem.code for problem in check(path).problems] == ["empty_file"]


def test_all_problems_are_counted_and_some_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"oops\n" * 500)
    report = check(path, max_problems=7)
    assert (report.total, report.errors, len(report.problems)) == (500, 500, 7)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        check(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        check(tmp_path)
