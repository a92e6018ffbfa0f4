"""What machines watch: Prometheus' text file, and logs of one JSON object a line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from batchkit.metrics import render
from batchkit.model import Batch, Counts, Job, Outcome, Part, State

from .conftest import request_lines
from .test_schemas import validate
from .tools.shell import RUN, Shell, emulating, write_lines

Samples = dict[tuple[str, str], float]


def parsed(text: str) -> Samples:
    """Samples by name and label's value, as Prometheus' own client reads them; each has its HELP and TYPE."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge", family.name
        for sample in family.samples:
            name = sample.name, "".join(sample.labels.values())
            assert name not in found, name
            found[name] = sample.value
    return found


def job(*statuses: str, state: State = State.RUNNING, **changes: Any) -> Job:
    words: dict[str, Any] = dict.fromkeys("id name sha256 service target url deployment".split(), "x")
    batches = (Batch(str(i), status, looked_at=900.0 + i, counts=Counts(10, 4, 1)) for i, status in enumerate(statuses))
    part = Part("p", "x", 0, 0, state, 10, 1, "x", batches=tuple(batches))
    return replace(Job(**words, created_at=400.0, parts=(part,)), **changes)


def test_every_number_comes_from_the_ledger() -> None:
    settled = job("completed", state=State.SETTLED, settled_at=800.0, outcome=Outcome(10, 7, 2, 1), created_at=1.0)
    waiting = job("in_progress", parts=(replace(job("in_progress").parts[0], held="quota"),))
    found = parsed(render([settled, waiting, job("failed", "validating")], 1000.0))
    assert found["batchkit_jobs", "running"] == 2
    assert found["batchkit_jobs", "settled"] == 1
    assert found["batchkit_jobs", "staged"] == 0
    assert found["batchkit_jobs_held", ""] == 1
    assert [found["batchkit_rows", outcome] for outcome in ("ok", "failed", "missing", "pending")] == [15, 4, 1, 10]
    assert found["batchkit_batches", "in_progress"] == 1
    assert found["batchkit_batches", "expired"] == 0
    assert found["batchkit_last_look_timestamp_seconds", ""] == 901
    assert found["batchkit_last_look_age_seconds", ""] == 99
    assert found["batchkit_oldest_unfinished_job_age_seconds", ""] == 600


def test_an_empty_ledger_has_metrics() -> None:
    found = parsed(render([], 1000.0))
    assert found["batchkit_oldest_unfinished_job_age_seconds", ""] == 0
    assert ("batchkit_last_look_age_seconds", "") not in found


@given(st.lists(st.text(max_size=80), max_size=5))
def test_a_status_of_any_text_is_one_label(statuses: list[str]) -> None:
    found = parsed(render([job(*statuses)], 1000.0))
    counted = sum(value for (name, _), value in found.items() if name == "batchkit_batches")
    assert counted == len(statuses)


def test_the_file_follows_a_run_and_cron(shell: Shell) -> None:
    path = shell.home / "batchkit.prom"
    with emulating(shell, "--fail-rate", "0") as env:
        write_lines(shell.home / "lines.jsonl", request_lines(5))
        metrics = ("--metrics-file", str(path))
        assert shell("run", "--once", *metrics, **env)[0] == 0
        assert parsed(path.read_text())["batchkit_jobs", "settled"] == 0
        code, _, _ = shell("run", "lines.jsonl", "-o", "out.csv", "--name", "n", "--once", *metrics, **env)
        assert code == 7
        first = parsed(path.read_text())
        assert (first["batchkit_rows", "pending"], first["batchkit_jobs", "running"]) == (5, 1)
        assert shell("run", "lines.jsonl", "-o", "out.csv", "--name", "n", "--every", "0.1", *metrics, **env)[0] == 0
        assert parsed(path.read_text())["batchkit_rows", "ok"] == 5
        path.unlink()
        assert shell("run", "--once", *metrics, **env)[0] == 0
        last = parsed(path.read_text())
        assert last["batchkit_jobs", "settled"] == 1
        assert last["batchkit_last_look_age_seconds", ""] >= 0
        assert [item.name for item in shell.home.iterdir() if "prom" in item.name] == ["batchkit.prom"]
        code, _, err = shell("run", "--once", "--metrics-file", "nowhere/batchkit.prom", **env)
        assert (code, "the directory must exist" in err) == (12, True)


@pytest.mark.parametrize("flags", [(), ("-v",), ("--json",)])
def test_logs_are_one_object_a_line(shell: Shell, flags: tuple[str, ...]) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        write_lines(shell.home / "lines.jsonl", request_lines(5))
        run = ("run", "lines.jsonl", "-o", "out.csv", "--name", "nightly", "--every", "0.1", "--log-format", "json")
        code, out, err = shell(*run, "--on-done", "echo well", *flags, **env)
    assert code == 0
    lines = [orjson.loads(line) for line in err.splitlines()]
    for line in lines:
        validate("log-line", line)
    assert any(line["message"] == "--on-done: well" for line in lines)
    assert any(line["message"].startswith("nightly: ") for line in lines)
    assert any(line["level"] == "debug" for line in lines) is ("-v" in flags)
    assert {line["job"] for line in lines if line["message"].startswith(("nightly: ", "--on-done"))} == {"nightly"}
    if "--json" in flags:
        validate("report", orjson.loads(out))


def test_an_error_is_a_line_too_and_quiet_leaves_only_it(shell: Shell) -> None:
    run = (*RUN, "-o", "answers.csv", "--name", "nightly", "--speed", "600")
    code, _, err = shell(*run, "--quiet", BATCHKIT_LOG_FORMAT="json")
    (line,) = [orjson.loads(text) for text in err.splitlines()]
    validate("log-line", line)
    assert (line["level"], line["code"], line["exit"], code) == ("error", "results.rows_failed", 8, 8)
    assert line["job"] == "nightly"
    assert line["hint"].startswith("batchkit retry --emulator nightly")


@pytest.mark.parametrize("command", ["list", "doctor", "check", "build", "emulate"])
def test_every_command_has_the_flag(shell: Shell, command: str) -> None:
    assert "--log-format" in shell(command, "--help")[1]


def test_the_service_cannot_write_a_line_of_the_log(shell: Shell) -> None:
    code, _, err = shell("show", 'a"}\n{"level": "info\x1b[2J', "--log-format", "json")
    (line,) = [orjson.loads(text) for text in err.splitlines()]
    validate("log-line", line)
    assert (code, line["code"]) == (2, "ledger.unknown_job")
    assert "\x1b" not in line["message"] and "\n" not in line["message"]
