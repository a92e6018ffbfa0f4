"""A request of each kind, by the examples' own commands; and what check says where a model will refuse it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchkit import check
from batchkit.model import Problem

from .conftest import EXAMPLES, request_line
from .tools.shell import Shell, rows

REQUESTS = EXAMPLES.parent / "requests"
README = (REQUESTS / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"`batchkit (run [^`]+)`", README)


def lines(path: Path, *bodies: dict[str, Any], url: str = "/v1/chat/completions") -> Path:
    """A file of request lines with these bodies."""
    path.write_bytes(
        b"".join(
            orjson.dumps(request_line(n) | {"url": url, "body": request_line(n)["body"] | body}) + b"\n"
            for n, body in enumerate(bodies)
        )
    )
    return path


def warned(path: Path, **options: Any) -> list[Problem]:
    report = check(path, **options)
    assert report.ok
    return list(report.problems)


@pytest.mark.parametrize("command", COMMANDS, ids=[re.sub(r".*-o (\w+).*", r"\1", command) for command in COMMANDS])
def test_the_example_of_each_kind_runs(shell: Shell, command: str) -> None:
    shutil.copytree(REQUESTS, shell.home, dirs_exist_ok=True)
    arguments = shlex.split(command)
    out = arguments[arguments.index("-o") + 1]
    code, said, err = shell(*arguments)
    count = len(rows(shell.home / arguments[1]))
    assert (code, f"{out}: {count} rows = {count} ok" in said) == (0, True), err
    (sent,) = (shell.home / "data/batchkit/emulator").glob("ledger.jobs/*/0-000.lines.jsonl")
    bodies = [orjson.loads(line)["body"] for line in sent.read_bytes().splitlines()]
    report = check(sent)
    assert (report.ok, report.total) == (True, 0), report.problems
    by_kind: dict[str, Callable[[], object]] = {
        "chat.csv": lambda: bodies[0]["max_tokens"] == 5,
        "responses.csv": lambda: bodies[0]["input"] and bodies[0]["max_output_tokens"] == 20,
        "structured.csv": lambda: {row["kind"] for row in rows(shell.home / out)} <= {"praise", "complaint", "neither"},
        "images.csv": lambda: [_image(body)[:14] for body in bodies] == ["https://upload", "data:image/png"],
        "reasoning.csv": lambda: bodies[0]["reasoning_effort"] == "low",
        "reasons.csv": lambda: bodies[0]["reasoning"] == {"effort": "low"},
        "embeddings.jsonl": lambda: all(
            len(orjson.loads(line)["response"]["data"][0]["embedding"]) == 8
            for line in (shell.home / out).read_bytes().splitlines()
        ),
    }
    assert by_kind[out]()


def _image(body: dict[str, Any]) -> str:
    return next(str(piece["image_url"]["url"]) for piece in body["messages"][-1]["content"] if "image_url" in piece)


def test_what_the_examples_say_of_a_wrong_request(shell: Shell) -> None:
    shutil.copytree(REQUESTS, shell.home, dirs_exist_ok=True)
    block = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert block is not None
    commands, expected = re.findall(r"^\$ batchkit (.*)$", block[1], re.MULTILINE), block[1].splitlines()[2:]
    assert shell(*shlex.split(commands[0]))[0] == 0
    code, out, _ = shell(*shlex.split(commands[1]))
    assert (code, out.splitlines()) == (0, expected)


REASONING = ("o1", "o3-batch", "o4-mini", "my-gpt-5-batch", "gpt-5.1-2025-11-13", "prod-o3-mini")
OTHERS = ("gpt-4o-batch", "gpt-4.1", "photo3", "my-deployment", "gpt-5-chat", "pro1")


@pytest.mark.parametrize("deployment", REASONING)
def test_what_reasoning_models_refuse_is_told_once_a_file(tmp_path: Path, deployment: str) -> None:
    body = {"model": deployment, "max_tokens": 5, "temperature": 0.5, "logprobs": None, "reasoning_effort": "low"}
    path = lines(tmp_path / "lines.jsonl", *[body] * 50, body | {"top_p": 0.5})
    first, second, late = warned(path)
    assert [(p.code, p.severity, p.line) for p in (first, second, late)] == [
        ("unsupported_parameter", "warning", 1),
        ("unsupported_parameter", "warning", 1),
        ("unsupported_parameter", "warning", 51),
    ]
    assert re.match(
        r"body.max_tokens is set, which [\w.-]+ refuses as a reasoning model \(published 2026-", first.message
    )
    assert first.fix == "use max_completion_tokens, or max_output_tokens with /v1/responses"
    assert (second.message.split()[0], second.fix) == ("body.temperature", "leave it away")


@pytest.mark.parametrize("deployment", OTHERS)
def test_a_name_that_tells_nothing_is_left_alone(tmp_path: Path, deployment: str) -> None:
    path = lines(tmp_path / "lines.jsonl", {"model": deployment, "max_tokens": 5, "temperature": 0.5})
    assert warned(path) == []
    named = warned(path, model="o3")
    assert [problem.code for problem in named] == ["unsupported_parameter"] * 2
    assert warned(path, model="gpt-4o") == []


def test_what_a_model_takes_and_whether_it_is_offered(tmp_path: Path) -> None:
    (problem,) = warned(lines(tmp_path / "a.jsonl", {"model": "o3-pro"}, {"model": "o3-pro"}))
    assert problem.message == "url '/v1/chat/completions': o3-pro takes only /responses (published 2026-02-24)"
    (problem,) = warned(lines(tmp_path / "b.jsonl", {"model": "text-embedding-3-large"}))
    assert "text-embedding-3-large takes only /embeddings" in problem.message
    (problem,) = warned(lines(tmp_path / "c.jsonl", {"model": "gpt-5-mini"}), azure=True)
    assert (problem.code, problem.message) == (
        "model_not_offered",
        "gpt-5-mini is not among the models that are offered for batches (published 2026-01-27)",
    )
    assert warned(lines(tmp_path / "d.jsonl", {"model": "gpt-4o-batch"}), azure=True) == []
