"""Every problem that check names, with its place, its code and the sentence that is printed; and the limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from batchkit import InputError, Limits, check
from batchkit.builder.findings import RULES

from .conftest import request_line
from .tools.shell import Command


def line(**changes: Any) -> bytes:
    return orjson.dumps(request_line(1) | changes) + b"\n"


def body(**changes: Any) -> bytes:
    return line(body=request_line(1)["body"] | changes)


GOOD = line(custom_id="first")
RESPONSE = {"url": "/v1/responses"}

# What stands after a good line, and what is printed about it: the byte within the line, then the sentence.
CASES: list[tuple[str, bytes, int, str]] = [
    ("legacy_encoding", b'{"a": "\xe9"}\n', 7, "not_utf8: byte 0xe9 is not UTF-8 but Latin-1 (WINDOWS-1252) for 'é'"),
    ("legacy_encoding", b'{"a": "\x93x"}\n', 7, "not_utf8: byte 0x93 is not UTF-8 but Latin-1 (WINDOWS-1252) for '“'"),
    ("overlong", b'{"a": "\xc0\xaf"}\n', 7, "not_utf8: byte 0xc0 begins an overlong form, which UTF-8 forbids"),
    ("overlong", b'{"a": "\xe0\x80\xaf"}\n', 7, "not_utf8: byte 0xe0 begins an overlong form, which UTF-8 forbids"),
    ("surrogate_bytes", b'{"a": "\xed\xa0\x80"}\n', 7, "not_utf8: bytes 0xed 0xa0 are half a surrogate pair (CESU-8)"),
    ("broken_utf8", b'{"a": "\xe2\x82"}\n', 7, "not_utf8: byte 0xe2 is not UTF-8: invalid continuation byte"),
    ("not_json", b'{"custom_id": oops}\n', 14, "invalid_json_line: not JSON: unexpected character"),
    ("nan", b'{"a": NaN}\n', 6, "invalid_json_line: JSON has no NaN"),
    ("nan", b'{"a": -Infinity}\n', 6, "invalid_json_line: JSON has no -Infinity"),
    ("python_literal", b'{"a": None}\n', 6, "invalid_json_line: JSON has no None"),
    ("single_quotes", b"{'a': 1}\n", 1, "invalid_json_line: JSON takes double quotes only"),
    ("trailing_comma", b'{"a": 1,}\n', 7, "invalid_json_line: JSON allows no comma after the last item"),
    ("control_character", b'{"a": "\t"}\n', 7, "invalid_json_line: a raw control character 0x09 stands in a string"),
    ("lone_surrogate", b'{"a": "\\ud800"}\n', 7, "invalid_json_line: an escape is half a surrogate pair"),
    ("number_too_large", b'{"a": 1e999}\n', 6, "invalid_json_line: a number is beyond what a double holds"),
    ("too_deep", b'{"a": ' + b"[" * 1100 + b"]" * 1100 + b"}\n", 1030, "invalid_json_line: nested more than 254 deep"),
    ("too_deep", body(user="DEEP").replace(b'"DEEP"', b"[" * 300 + b"]" * 300), 0, "nested more than 254 deep"),
    ("too_deep", b'{"a": "\\u0022", "b": ' + b"[" * 1020 + b"]" * 1020 + b"}\n", 0, "nested more than 254 deep"),
    ("two_objects", b'{"a": 1} {"b": 2}\n', 9, "invalid_json_line: more than one value on the line"),
    ("cut_short", b'{"a": 1,\n', 9, "invalid_json_line: the object does not end on this line"),
    ("not_object", b"[1]\n", 0, "invalid_json_line: a JSON array, not an object"),
    ("keys_missing", b'{"custom_id": "b"}\n', 0, "invalid_request: the line has no method, url, body"),
    ("keys_unknown", line(priority=1), 0, "warning: unknown_key: the line has keys no service knows: 'priority'"),
    ("key_twice", line(custom_id="b")[:-2] + b',"url":"/v1/chat/completions"}\n', 0,
     "the key 'url' stands twice in the line"),
    ("key_twice", b'{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o-batch",'
     b'"messages":[{"role":"user"}],"model":"gpt-4o-batch"}}\n', 0, "the key 'model' stands twice in body"),
    ("param_misspelt", body(max_token=5), 0, "warning: unknown_parameter: body.max_token is no known parameter"),
    ("custom_id", line(custom_id=7), 0, "invalid_request: custom_id is 7"),
    ("custom_id", line(custom_id=""), 0, "invalid_request: custom_id is ''"),
    ("custom_id_twice", GOOD, 0, "duplicate_custom_id: custom_id 'first' is used twice, first on line 1"),
    ("method", line(method="GET"), 0, "invalid_request: method is 'GET'; it must be \"POST\""),
    ("url_type", line(url=None), 0, "invalid_request: url is null"),
    ("url_deployment", line(url="/deployments/x/chat/completions"), 0, "/deployments/ has no place here"),
    ("url_unknown", line(url="/v1/images"), 0, "url_mismatch: url '/v1/images': batches do not take it"),
    ("url_differs", line(url="/chat/completions"), 0, "url_mismatch: url is '/chat/completions', the first line's"),
    ("body_type", line(body="x"), 0, "invalid_request: body is a JSON string, not an object"),
    ("model_missing", body(model=""), 0, "model_not_found: body.model is missing"),
    ("model_type", body(model=4), 0, "model_not_found: body.model is 4, not a name"),
    ("model_placeholder", body(model="<your-deployment>"), 0, "body.model is the placeholder '<your-deployment>'"),
    ("model_placeholder", body(model="REPLACE-WITH-MODEL-DEPLOYMENT-NAME"), 0, "is the placeholder 'REPLACE-WITH-"),
    ("model_placeholder", body(model="YOUR_DEPLOYMENT_NAME"), 0, "is the placeholder 'YOUR_DEPLOYMENT_NAME'"),
    ("model_differs", body(model="other"), 0, "model_mismatch: body.model is 'other', the first line's 'gpt-4o-batch'"),
    ("stream", body(stream=True), 0, "invalid_request: body.stream is true; remove it: a batch does not stream"),
    ("content_missing", body(messages=[]), 0, "invalid_request: body.messages is missing or empty"),
    ("content_elsewhere", line(body={"model": "gpt-4o-batch", "input": "x"}), 0,
     "invalid_request: the body has input where /v1/chat/completions takes messages"),
    ("content_type", body(messages="x"), 0, "body.messages is a JSON string; it must be a list of messages"),
    ("message", body(messages=["x"]), 0, "invalid_request: body.messages[0] is a JSON string, not an object"),
    ("message", body(messages=[{"content": "x"}]), 0, "invalid_request: body.messages[0] has no role"),
    ("message", body(messages=[{"role": "bot", "content": "x"}]), 0, "body.messages[0] has the role 'bot'"),
    ("param", body(n="2"), 0, "invalid_parameter: body.n is '2'; it must be a whole number from 1 to 128"),
    ("param", body(max_tokens=True), 0, "body.max_tokens is true; it must be a whole number of 1 or more"),
    ("param", body(temperature=3), 0, "body.temperature is 3; it must be a number from 0 to 2"),
    ("blank_line", b" \t\n", 0, "warning: blank_line: the line is blank"),
    ("crlf", line(custom_id="b")[:-1] + b"\r\n", len(line(custom_id="b")) - 1, "warning: crlf: the line ends in CR LF"),
]  # fmt: skip

WHOLE: list[tuple[str, bytes, int | None, str]] = [
    ("utf16", GOOD.decode().encode("utf-16"), None, "error: not_utf8: the file is UTF-16, not UTF-8"),
    ("utf16", GOOD.decode().encode("utf-16-le"), None, "error: not_utf8: the file is UTF-16LE, not UTF-8"),
    ("bom", b"\xef\xbb\xbf" + GOOD, 0, "error: bom: the file begins with a byte order mark"),
    ("array_file", b"[\n", 0, "error: not_jsonl: the file is one JSON array, not one object a line"),
    ("array_file", b"[" + GOOD[:-1] + b"]\n", 0, "error: not_jsonl: the file is one JSON array, not one object a line"),
    ("empty_file", b"", None, "error: empty_file: the file has no request"),
    ("no_final_newline", GOOD[:-1], None, "warning: no_final_newline: the last line has no newline"),
]


@pytest.mark.parametrize(("rule", "data", "byte", "words"), CASES)
def test_what_is_wrong_with_a_line_is_told_with_its_place(
    tmp_path: Path, rule: str, data: bytes, byte: int, words: str
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + data)
    report = check(path)
    (problem,) = report.problems
    assert (problem.line, problem.byte) == (2, len(GOOD) + byte)
    assert words in f"{problem.severity}: {problem.code}: {problem.message}; {problem.fix}"
    assert report.ok == (RULES[rule].severity == "warning")
    assert (problem.code, problem.severity) == RULES[rule][:2]


@pytest.mark.parametrize(("rule", "data", "byte", "words"), WHOLE)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, rule: str, data: bytes, byte: int | None, words: str
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(data)
    problem = check(path).problems[0]
    assert (problem.code, problem.severity, problem.byte) == (*RULES[rule][:2], byte)
    assert words in f"{problem.severity}: {problem.code}: {problem.message}; {problem.fix}"


def test_every_rule_has_a_case() -> None:
    elsewhere = {"table", "too_many_tasks", "file_too_large", "token_limit_exceeded", "url_not_azure"}
    elsewhere |= {"param_refused", "url_refused", "model_not_offered"}  # test_request_kinds
    assert {rule for rule, *_ in CASES} | {rule for rule, *_ in WHOLE} | elsewhere == set(RULES)


def test_what_is_printed(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + b"".join(data for _, data, _, _ in CASES))
    code, out, err = command(tmp_path, "check", str(path), "--max-problems", "999")
    assert code == 3
    offset = len(GOOD)
    for number, (_, data, byte, words) in enumerate(CASES, 2):
        said = [text for text in out.splitlines() if text.startswith(f"{path}:{number} (byte {offset + byte})")]
        assert any(words in text for text in said), (number, words, said)
        offset += len(data)
    assert err.startswith("error: ")
    assert "next:  mend them, and again: batchkit check " in err


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_lines=1), "too_many_tasks"),
        (Limits(max_bytes=100), "file_too_large"),
        (Limits(enqueued_tokens=5), "token_limit_exceeded"),
    ],
)
def test_the_limits_of_a_file(tmp_path: Path, limits: Limits, code: str) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + line())
    assert [problem.code for problem in check(path, limits=limits, tokens=True).problems] == [code]
    assert check(path, limits=None).ok


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + line())
    report = check(path)
    assert (report.ok, report.problems) == (True, ())
    assert (report.lines, report.bytes) == (2, path.stat().st_size)
    assert (report.url, report.deployment) == ("/v1/chat/completions", "gpt-4o-batch")


def test_what_azure_alone_does_not_take_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(line(url="/v1/embeddings", body={"model": "d", "input": "x"}))
    assert check(path).problems == ()
    report = check(path, azure=True)
    assert (report.ok, [problem.code for problem in report.problems]) == (True, ["url_not_on_azure"])


def test_a_table_is_called_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    (problem,) = check(path).problems
    assert (problem.code, "batchkit build" in problem.fix) == ("not_jsonl", True)


def test_all_problems_are_counted_and_some_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"oops\n" * 500)
    report = check(path, max_problems=7)
    assert (report.total, report.errors, len(report.problems)) == (500, 500, 7)
    assert report.codes == {"invalid_json_line": 500}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        check(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        check(tmp_path)


# Lines that are like a good one in most bytes are cleared quickly; these are not like it where it counts.
ALMOST: dict[str, tuple[bytes, bytes, str]] = {
    "a second role": (b'"content":"x"', b'"content":"x"},{"role":"bot","content":"x"', "invalid_request"),
    "a hidden stream": (b'"x"}]', b'"x"}],"stream":true,"z":[{"q":"x"}]', "invalid_request"),
    "a hidden second model": (b'"x"}]', b'"x"}],"model":"other","z":[{"q":"x"}]', "invalid_request"),
    "an escaped quote too few": (b'"x"', b'"x"y"', "invalid_json_line"),
    "a backslash before the end": (b'"x"', b'"x\\"', "invalid_json_line"),
    "a surrogate in the text": (b'"x"', b'"x\\ud800"', "invalid_json_line"),
    "Latin-1 in the text": (b'"x"', b'"\xe9"', "not_utf8"),
    "another method": (b'"POST"', b'"PUT"', "invalid_request"),
    "another deployment": (b'"model":"d"', b'"model":"e"', "model_mismatch"),
    "another url": (b"/v1/chat/completions", b"/v1/responses", "url_mismatch"),
    "a limit as text": (b'"max_tokens":5', b'"max_tokens":"5"', "invalid_parameter"),
    "no text at all": (b'"content":"x"', b'"text":"x"', ""),
    "an empty id": (b'"row-9"', b'""', "invalid_request"),
    "an id spelled otherwise": (b'"row-9"', b'"row\\u002d1"', "duplicate_custom_id"),
    "an id of before": (b'"row-9"', b'"row-1"', "duplicate_custom_id"),
}


@pytest.mark.parametrize("name", ALMOST)
def test_a_line_that_is_almost_like_a_good_one_is_judged(tmp_path: Path, name: str) -> None:
    old, new, code = ALMOST[name]
    like = (
        b'{"custom_id":"row-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"d",'
        b'"messages":[{"role":"system","content":"be brief"},{"role":"user","content":"x"}],"max_tokens":5}}\n'
    )
    odd = (like % 9).replace(old, new)
    assert odd != like % 9
    path = tmp_path / "lines.jsonl"
    for good in (3, 3000):
        before = b"".join(like % number for number in [1, *range(10, good + 9)])
        path.write_bytes(before + odd + like % 100_000)
        assert [(p.line, p.code) for p in check(path).problems if p.severity == "error"][:1] == (
            [(good + 1, code)] if code else []
        )


def test_likeness_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    for url, key in (("/v1/responses", "input"), ("/v1/embeddings", "input"), ("/v1/completions", "prompt")):
        lines = [
            orjson.dumps({"custom_id": f"r{n}", "method": "POST", "url": url, "body": {"model": "d", key: text}})
            + b"\n"
            for n, text in enumerate(["a", 'with "quotes"', "c" * 50, "", 7])
        ]
        path.write_bytes(b"".join(lines))
        assert [(problem.line, problem.message.split(" ")[-1]) for problem in check(path).problems] == [
            (4, "empty"),
            (5, "number"),
        ]


def test_annotations_for_github(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + GOOD)
    _, out, _ = command(tmp_path, "check", str(path), "--github")
    assert out.startswith(f"::error file={path},line=2,title=duplicate_custom_id::custom_id 'first' is used")


def test_programs_get_all_problems_with_their_place(tmp_path: Path, command: Command) -> None:
    name = "50%, a:b.jsonl"
    (tmp_path / name).write_bytes(GOOD + b"[1]\n" * 30)
    said = command(tmp_path, "check", name, "--github")[1].splitlines()
    assert len(said) == 30
    assert said[0].startswith("::error file=50%25%2C a%3Ab.jsonl,line=2,title=invalid_json_line::")
    assert len(orjson.loads(command(tmp_path, "check", name, "--sarif")[1])["runs"][0]["results"]) == 30
    assert len(command(tmp_path, "check", name, "--github", "--max-problems", "3")[1].splitlines()) == 3
    assert "10 more; in all" in command(tmp_path, "check", name)[1]


def test_fix_mends_what_is_mechanical_into_a_new_file(tmp_path: Path, command: Command) -> None:
    path, new = tmp_path / "lines.jsonl", tmp_path / "new.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD[:-1] + b"\r\n\r\n" + line()[:-1])
    assert not check(path).ok
    code, _, _ = command(tmp_path, "check", str(path), "--fix", str(new))
    assert (code, new.read_bytes()) == (0, GOOD + line())
    code, _, _ = command(tmp_path, "check", str(path), "--fix", str(path))
    assert (code, path.read_bytes()[:3]) == (2, b"\xef\xbb\xbf")


def test_texts_that_hide_one_another_in_a_list_are_not_cleared(tmp_path: Path) -> None:
    good = [orjson.dumps(request_line(number, text="x" * 900)) + b"\n" for number in range(400)]
    bad = [
        (orjson.dumps(request_line(number, text="hole")) + b"\n").replace(f"hole {number}".encode(), text)
        for number, text in zip((400, 401, 402), (b'a",["x', b"mid", b'y"],"b'), strict=True)
    ]
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"".join(good + bad))
    report = check(path)
    assert [problem.line for problem in report.problems] == [401, 403]


def test_problems_as_sarif(tmp_path: Path, command: Command) -> None:
    (tmp_path / "a b.jsonl").write_bytes(GOOD + body(n=0) + line(custom_id="c").rstrip(b"\n"))
    code, out, _ = command(tmp_path, "check", "a b.jsonl", "--sarif")
    (run,) = orjson.loads(out)["runs"]
    assert (code, run["tool"]["driver"]["name"]) == (3, "batchkit")
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {item["ruleId"] for item in run["results"]}
    found = {item["ruleId"]: (item["level"], item["locations"][0]["physicalLocation"]) for item in run["results"]}
    level, place = found["invalid_parameter"]
    assert (level, place["artifactLocation"]["uri"]) == ("error", "a%20b.jsonl")
    assert (place["region"]["startLine"], place["region"]["byteOffset"]) == (2, len(GOOD))
    assert found["no_final_newline"][0] == "warning"
    code, _, err = command(tmp_path, "check", "a b.jsonl", "--sarif", "--github")
    assert (code, "three forms" in err) == (2, True)


def test_ids_of_any_type_stand_above_one_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    ids: list[object] = [["x"], {"a": 1}, "twice", 7, "twice"]
    path.write_bytes(b"".join(orjson.dumps(request_line(0) | {"custom_id": name}) + b"\n" for name in ids))
    problems = check(path).problems
    assert [problem.code for problem in problems].count("duplicate_custom_id") == 1
    assert "first on line 3" in next(problem.message for problem in problems if "twice" in problem.message)
