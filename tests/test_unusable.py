"""Answers that are HTTP 200 and of no use: cut off, refused, or no JSON where a schema was to be followed. They are ok,
they are seen, and they are asked again by wish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import pytest

from batchkit import InputError

from .conftest import KEY, World, request_line
from .test_schemas import validate
from .tools.shell import Shell, rows

SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {}}}}
CUT_OFF = {"cut_off": 1, "refused": 2, "off_schema": 1}
FULL = "max_completion_tokens"


def chat(body: dict[str, Any], custom_id: str) -> dict[str, Any]:
    """What the model says to rows 0 to 5: whole, cut off, filtered, refused, no JSON, a call of a tool."""
    number = int(custom_id[4:])
    reasons = {1: "length", 2: "content_filter", 5: "tool_calls"}
    said: dict[int, Any] = {1: '{"a": "cut', 2: "", 3: None, 4: "so: {}", 5: None}
    message = {
        "role": "assistant",
        "content": said.get(number, '{"a": 1}'),
        "refusal": "I can't" if number == 3 else None,
    }
    if FULL in body and number != 3:
        message, reasons = message | {"content": '{"a": 2}', "refusal": None}, {}
    choice = {"index": 0, "finish_reason": reasons.get(number, "stop"), "logprobs": None, "message": message}
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    return {"id": "c", "model": "gpt-4o", "object": "chat.completion", "choices": [choice], "usage": usage}


def response(body: dict[str, Any], custom_id: str) -> dict[str, Any]:
    """The same as responses."""
    number = int(custom_id[4:])
    incomplete = {1: "max_output_tokens", 2: "content_filter"}.get(number)
    said = {1: '{"a": "cut', 2: "", 4: "so: {}"}.get(number, '{"a": 1}')
    part = {"type": "refusal", "refusal": "I can't"} if number == 3 else {"type": "output_text", "text": said}
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    output = [call if number == 5 else {"type": "message", "content": [part]}]
    made = {"id": "r", "object": "response", "model": "gpt-4o", "output": output, "usage": {"input_tokens": 2}}
    return made | {
        "status": "incomplete" if incomplete else "completed",
        "incomplete_details": incomplete and {"reason": incomplete},
    }


def lines(url: str, *, structured: bool = True) -> list[dict[str, Any]]:
    made = [request_line(number) | {"url": f"/v1{url}"} for number in range(6)]
    for line in made:
        if url == "/responses":
            line["body"] = {"model": "gpt-4o-batch", "input": "x"}
        if structured:
            form = {"type": "json_schema", "name": "s", "schema": {"type": "object", "properties": {}}}
            line["body"] |= {"text": {"format": form}} if url == "/responses" else {"response_format": SCHEMA}
    return made


@pytest.fixture(params=["/chat/completions", "/responses"])
def asked(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> tuple[World, str]:
    say = chat if request.param == "/chat/completions" else response
    return make_world(fail_rate=0.0, answer=lambda line: say(line["body"], line["custom_id"])), request.param


@pytest.mark.parametrize("format", ["csv", "jsonl", "raw"])
def test_they_are_ok_and_seen(asked: tuple[World, str], format: str) -> None:
    world, url = asked
    with world.client() as client:
        results = client.run(lines(url), name="seen", out=world.home / "out", format=format)
        report = results.report
        assert (report.ok, report.failed, report.balanced) == (6, 0, True)
        assert report.unusable == CUT_OFF
        assert sum(report.finish_reasons.values()) == 6
        assert report.finish_reasons["refusal"] == report.finish_reasons["content_filter"] == 1
        refused = [result for result in results if result.finish_reason == "refusal"]
        assert [(result.ok, result.text) for result in refused] == [(True, "I can't")]
        told = client.report("seen")
        validate("job-report", told)
        assert told["rows"]["unusable"] == CUT_OFF
        assert told["finish_reasons"] == report.finish_reasons
        free = client.run(lines(url, structured=False), name="free", out=world.home / "free", format=format).report
        assert free.unusable == {"cut_off": 1, "refused": 2}


def test_they_are_asked_again_by_wish(asked: tuple[World, str]) -> None:
    world, url = asked
    with world.client() as client:
        client.run(lines(url), name="again", retries=3)
        assert client.show("again").round == 0, "by wish only"
        for word, count in CUT_OFF.items():
            assert client.retry("again", only=[word], dry_run=True)[1] == count
        with pytest.raises(InputError, match="failed for a reason that may pass"):
            client.retry("again", dry_run=True)
        with pytest.raises(InputError, match="no row failed with stop"):
            client.retry("again", only=["stop"], dry_run=True)
        if url == "/responses":
            return
        assert client.retry("again", only=list(CUT_OFF), params={FULL: 4000})[1] == 4
        results = client.run(lines(url), name="again")
        assert results.report.unusable == {"refused": 1}
        assert [result.round for result in results] == [0, 1, 1, 1, 1, 0]
        assert asdict(client.show("again").so_far) == asdict(results.report.outcome)


def test_the_command_line_says_them_and_what_asks_again(asked: tuple[World, str], shell: Shell) -> None:
    world, url = asked
    with world.client() as client:
        client.run(lines(url), name="told")
    env = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY}
    env["BATCHKIT_LEDGER"] = str(world.home / "ledger.sqlite3")
    code, out, err = shell("fetch", "told", "-o", "out.csv", **env)
    assert code == 0, err
    assert "out.csv: 6 rows = 6 ok (1 cut off, 2 refused, 1 off schema) + 0 failed + 0 missing" in out
    most = "max_output_tokens" if url == "/responses" else FULL
    assert f"batchkit retry told --only cut_off --only refused --only off_schema --param {most}=N" in err
    assert [row["finish_reason"] for row in rows(shell.home / "out.csv")][3] == "refusal"
    code, out, _ = shell("fetch", "told", "-o", "out.csv", "--json", **env)
    validate("report", orjson.loads(out))
    assert orjson.loads(out)["unusable"] == CUT_OFF
    assert shell("report", "told", "-o", "page.html", **env)[0] == 0
    assert "Of those that are ok: 1 cut off, 2 refused, 1 off schema." in (shell.home / "page.html").read_text("utf-8")
