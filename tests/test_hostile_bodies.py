"""120 bodies that nobody hoped for: each ends in the right result, and in the right cell of every format."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars
import pytest

from batchkit import AsyncClient
from batchkit.emulator import Emulator
from batchkit.model import Result

from .conftest import World, request_lines
from .test_rows_add_up import Tampering
from .test_schemas import validate


@dataclass(frozen=True)
class Case:
    """A result line (`ID` stands for the row's name), and what is to come of it."""

    line: bytes
    ok: bool
    text: str | None = None
    code: str | None = None


def body(value: bytes, status: bytes = b"200") -> bytes:
    return (
        b'{"custom_id":"ID","response":{"body":'
        + value
        + b',"request_id":"r","status_code":'
        + status
        + b'},"error":null}'
    )


def chat(content: bytes) -> bytes:
    return body(b'{"choices":[{"message":{"content":' + content + b"}}]}")


def failed(error: bytes, status: bytes = b"400") -> bytes:
    return body(b'{"error":' + error + b"}", status)


def openai(value: bytes) -> bytes:
    return (
        b'{"id":"batch_req_1","custom_id":"ID","response":{"status_code":200,"request_id":"r","body":'
        + value
        + b'},"error":null}'
    )


GOOD = b'{"choices":[{"message":{"content":"fine"}}]}'
DEEP = b"[" * 300 + b"]" * 300
UNREADABLE = "unreadable"

TEXTS: list[tuple[bytes, str | None]] = [
    (b"\"=cmd|' /C calc'!A0\"", "=cmd|' /C calc'!A0"),
    (b'"+1"', "+1"),
    (b'"-"', "-"),
    (b'"@SUM(1)"', "@SUM(1)"),
    (b'"\\t=1"', "\t=1"),
    (b'"\\r\\n"', "\r\n"),
    (b'"a\\rb"', "a\rb"),
    (b'"\\u0000"', "\0"),
    (b'"\\u001b]52;c;aGk=\\u0007"', "\x1b]52;c;aGk=\x07"),
    (b'"\\u202egnp.exe"', "\u202egnp.exe"),
    (b'"\\u2028\\u2029"', "\u2028\u2029"),
    (b'"../../etc/passwd"', "../../etc/passwd"),
    (b'"CON.txt"', "CON.txt"),
    (b'"<script>alert(1)</script>"', "<script>alert(1)</script>"),
    (b'"\\"quoted\\", and comma"', '"quoted", and comma'),
    (b'"{\\"a\\":1}"', '{"a":1}'),
    (b'"\\\\"', "\\"),
    ('"Ünïcödé 🦜"'.encode(), "Ünïcödé 🦜"),
    (b'"\\ud83e\\udd9c"', "🦜"),
    (b'""', None),
    (b"null", None),
    (b"5", None),
    (b"true", None),
    (b"{}", None),
    (b"[]", None),
    (b'[{"type":"text","text":"a"},{"type":"text","text":"b"}]', "ab"),
    (b'[{"type":"image"},5,null,{"text":7}]', None),
    (b'"' + b"x" * 100_000 + b'"', "x" * 100_000),
    (
        b'"\\",\\"request_id\\":\\"q\\",\\"status_code\\":500},\\"error\\":null}"',
        '","request_id":"q","status_code":500},"error":null}',
    ),
    (b'"{\\"custom_id\\":\\"row-0\\""', '{"custom_id":"row-0"'),
]
BODIES: list[tuple[bytes, str | None]] = [
    (GOOD, "fine"),
    (orjson.dumps(GOOD.decode()), "fine"),
    (b'"<html>502 Bad Gateway</html>"', None),
    (b'"plain text"', None),
    (b"{}", None),
    (b"[]", None),
    (b"7", None),
    (b"null", None),
    (b'{"choices":null}', None),
    (b'{"choices":{}}', None),
    (b'{"choices":[]}', None),
    (b'{"choices":[null]}', None),
    (b'{"choices":["x"]}', None),
    (b'{"choices":[{}]}', None),
    (b'{"choices":[{"message":null}]}', None),
    (b'{"choices":[{"message":"x"}]}', None),
    (b'{"choices":[{"text":"old"}]}', "old"),
    (b'{"choices":[{"message":{"refusal":"no"}}]}', "no"),
    (b'{"output":[{"content":[{"text":"re"},{"text":"sp"}]}]}', "resp"),
    (b'{"output":[null,5,{"content":"s"}]}', "s"),
    (b'{"output":{}}', None),
    (b'{"usage":null,' + GOOD[1:], "fine"),
    (b'{"usage":[],' + GOOD[1:], "fine"),
    (b'{"usage":{"prompt_tokens":-1,"completion_tokens":"5"},' + GOOD[1:], "fine"),
    (b'{"usage":{"prompt_tokens":1e400,"completion_tokens":99999999999999999999},' + GOOD[1:], "fine"),
    (b'{"usage":{"prompt_tokens":true,"completion_tokens":1.5},' + GOOD[1:], "fine"),
    (b'{"model":5,' + GOOD[1:], "fine"),
    (b'{"model":"=1+1",' + GOOD[1:], "fine"),
    (b'{"error":null,' + GOOD[1:], "fine"),
    (b'{"n":NaN,' + GOOD[1:], "fine"),
    (b'{"n":-Infinity,' + GOOD[1:], "fine"),
    (b'{"n":"\\ud800",' + GOOD[1:], "fine"),
    (b'{"n":' + DEEP + b"," + GOOD[1:], "fine"),
    (b'{"choices":[{"message":{"content":"first"}}],' + GOOD[1:], "fine"),
    (b'{"created":"soon",' + GOOD[1:], "fine"),
    (b'{"id":{"$gt":""},' + GOOD[1:], "fine"),
]
ERRORS: list[tuple[bytes, str]] = [
    (b'{"code":"content_filter","message":"no"}', "content_filter"),
    (b'{"code":429,"message":"slow"}', "429"),
    (b'{"code":null,"message":"slow"}', "http_400"),
    (b'{"code":["x"],"message":{}}', "http_400"),
    (b'{"code":"","message":""}', "http_400"),
    (b'{"code":"=1+1","message":"=1+1"}', "=1+1"),
    (b'{"code":"\\u001b[31m","message":"\\u001b[31m"}', "\\x1b[31m"),
    (b'{"code":"' + b"x" * 5000 + b'"}', "x" * 99 + "…"),
    (b'{"code":true}', "True"),
    (b'"just words"', "http_400"),
    (b"null", "http_400"),
    (b"5", "http_400"),
    (b"[]", "http_400"),
    (b"{}", "http_400"),
]
LINES: list[tuple[bytes, bool, str | None, str | None]] = [
    (b'{"custom_id":"ID"}', False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":null,"error":null}', False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":5}', False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":"<html>"}', False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":[]}', False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":{}}', False, None, UNREADABLE),
    (
        b'{"custom_id":"ID","response":null,"error":{"code":"batch_expired","message":"late"}}',
        False,
        None,
        "batch_expired",
    ),
    (b'{"custom_id":"ID","error":{"code":"request_timeout"}}', False, None, "request_timeout"),
    (b'{"custom_id":"ID","error":"words"}', False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":{"body":' + GOOD + b"}}", True, "fine", None),
    (b'{"response":{"status_code":200,"body":' + GOOD + b'},"custom_id":"ID"}', True, "fine", None),
    (b'{"custom_id":"ID","response":{"status_code":"200","body":' + GOOD + b"}}", True, "fine", None),
    (b'{"custom_id":"ID","response":{"status_code":200.0,"body":' + GOOD + b"}}", True, "fine", None),
    (b'{"custom_id":"ID","response":{"status_code":201,"body":' + GOOD + b"}}", False, None, "http_201"),
    (b'{"custom_id":"ID","response":{"status_code":0,"body":' + GOOD + b"}}", False, None, UNREADABLE),
    (b'{"custom_id":"ID","response":{"status_code":-5,"body":' + GOOD + b"}}", True, "fine", None),
    (b'{"custom_id":"ID","response":{"status_code":1e99,"body":' + GOOD + b"}}", True, "fine", None),
    (b'{"custom_id":"ID","response":{"status_code":503,"body":"<html>busy</html>"}}', False, None, "http_503"),
    (b'  {"custom_id" : "ID", "response" : {"body" : ' + GOOD + b', "status_code" : 200}}', True, "fine", None),
    (b'{"custom_id":"ESCAPED","response":{"body":' + GOOD + b',"status_code":200}}', True, "fine", None),
    (openai(GOOD), True, "fine", None),
    (openai(b'"<html>"'), True, None, None),
    (openai(b'{"n":NaN,' + GOOD[1:]), True, "fine", None),
    (openai(GOOD).replace(b'"status_code":200', b'"status_code":500'), False, None, "http_500"),
    (openai(GOOD) + b" ", True, "fine", None),
    (body(GOOD) + b" \t", True, "fine", None),
    (body(GOOD).replace(b',"request_id":"r"', b',"x":1,"request_id":"r"'), True, "fine", None),
    (body(GOOD).replace(b'"r"', b'"r\\"q"'), True, "fine", None),
    (body(GOOD).replace(b'"r"', b"null"), True, "fine", None),
    (body(GOOD).replace(b'"r"', b'"\xc3"'), False, None, UNREADABLE),
    (body(b'{"n":"\xff\xfe",' + GOOD[1:]), False, None, UNREADABLE),
    (body(GOOD + b"," + GOOD), False, None, UNREADABLE),
    (body(GOOD[:-1]), False, None, UNREADABLE),
    (body(GOOD).replace(b'"error":null', b'"error":{"code":"x"}'), True, "fine", None),
    (b'{"custom_id":"ID","response":' + DEEP * 40 + b"}", False, None, UNREADABLE),
    (
        b'{"custom_id":"ID","response":{"body":' + GOOD + b',"request_id":"r","status_code":200},"error":null,'
        b'"response":{"body":{},"request_id":"r","status_code":400},"error":null}',
        False,
        None,
        "http_400",
    ),
]
CASES = (
    [Case(chat(raw), True, text) for raw, text in TEXTS]
    + [Case(body(raw), True, text) for raw, text in BODIES]
    + [Case(failed(raw), False, code=code) for raw, code in ERRORS]
    + [
        Case(failed(b'{"message":"busy"}', status), False, code=f"http_{status.decode()}")
        for status in (b"500", b"302", b"99", b"1")
    ]
    + [Case(line, ok, text, code) for line, ok, text, code in LINES]
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases through the whole pipe, once: results, and the files of all formats."""
    from batchkit import ManualClock

    from .conftest import KEY

    home = tmp_path_factory.mktemp("hostile")
    clock = ManualClock()

    def tampered(lines: list[bytes]) -> list[bytes]:
        return [
            case.line.replace(b"ID", b"row-%d" % n).replace(b"ESCAPED", b"\\u0072ow-%d" % n) + b"\n"
            for n, case in enumerate(CASES)
        ]

    async def work(world: World) -> dict[str, Any]:
        async with AsyncClient(
            world.target(), ledger=home / "ledger.sqlite3", clock=clock, transport=Tampering(tampered, files=True)
        ) as client:
            results = await client.run(request_lines(len(CASES)), name="hostile", out=home / "out.jsonl")
            for suffix in ("csv", "parquet"):
                await client.fetch("hostile", home / f"out.{suffix}")
            return {"results": list(results), "report": results.report, "home": home}

    with Emulator(home / "service", key=KEY, clock=clock, fail_rate=0.0) as service:
        return asyncio.run(work(World(service, clock, home)))


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 120
    assert len({case.line for case in CASES}) == len(CASES)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_hostile_line_ends_in_the_right_result(answers: dict[str, Any], number: int) -> None:
    case, result = CASES[number], answers["results"][number]
    assert isinstance(result, Result)
    assert (result.custom_id, result.ok) == (f"row-{number}", case.ok), case.line[:200]
    assert result.text == case.text
    assert result.error_code == case.code
    assert result.input_tokens is None or result.input_tokens >= 0


def test_every_row_is_in_every_format_once(answers: dict[str, Any]) -> None:
    home: Path = answers["home"]
    names = [f"row-{number}" for number in range(len(CASES))]
    documents = [orjson.loads(line) for line in (home / "out.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [document["custom_id"] for document in documents] == names
    for document in documents:
        validate("result-line", document | {"response": None})
    rows = list(csv.DictReader(io.StringIO((home / "out.csv").read_bytes().decode(), newline="")))
    assert [row["custom_id"] for row in rows] == names
    for row, case in zip(rows, CASES, strict=True):
        assert row["ok"] == ("true" if case.ok else "false")
        for cell in (row["text"], row["error_code"], row["error_message"], row["model"]):
            assert not cell.startswith(("=", "@", "\t", "\r")), cell
    frame = polars.read_parquet(home / "out.parquet")
    assert frame["custom_id"].to_list() == names
    assert frame["text"].to_list() == [case.text for case in CASES]


def test_the_account_holds(answers: dict[str, Any]) -> None:
    report = answers["report"]
    assert (report.ok, report.failed) == (sum(case.ok for case in CASES), sum(not case.ok for case in CASES))
    assert report.missing == report.unknowns == report.duplicates == 0


@pytest.mark.parametrize("kind", ["html", "empty", "bomb", "binary"])
def test_a_file_that_holds_no_result_at_all(make_world: Callable[..., World], kind: str) -> None:
    junk = {
        "html": [b"<html>\n", b"<body>502</body>\n", b"</html>\n"],
        "empty": [],
        "bomb": [b"\x1f\x8b\x08\x00" + bytes(range(256)) * 100],
        "binary": [bytes(range(256)) * 10],
    }[kind]
    world = make_world(fail_rate=0.0)

    async def work() -> None:
        async with AsyncClient(
            world.target(),
            ledger=world.home / "ledger.sqlite3",
            clock=world.clock,
            transport=Tampering(lambda _: junk, files=True),
        ) as client:
            report = (await client.run(request_lines(3), name="junk")).report
            assert (report.ok, report.missing, report.balanced) == (0, 3, False)

    asyncio.run(work())
