"""Slips that would cost money or rows unseen are said before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

import batchkit
from batchkit import Client, InputError, Settings
from batchkit.builder.lines import encode
from batchkit.emulator import Reply
from batchkit.errors import Unauthorized, Unfinished, UsageError

from .conftest import World, request_lines
from .tools.shell import Command, Shell, rows


def test_the_same_rows_under_another_name_are_not_sent_without_a_word(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(fail_rate=0.0)
    with world.client() as client:
        client.submit(request_lines(3), name="first")
        assert "billed again" not in caplog.text
        client.submit(request_lines(3), name="second")
        assert "job 'second' asks the very same as job 'first' of 0 s ago, and is billed again" in caplog.text
        assert "client.track('first') follows it, and then client.fetch('first', 'results.csv')" in caplog.text
        caplog.clear()
        client.run(request_lines(3), name="second")
        client.submit(request_lines(2), name="third")
        assert "billed again" not in caplog.text
    failing = make_world(faults=["fail_all,400"])
    with failing.client() as client:
        for name in ("fails", "again"):
            client.run(request_lines(5), name=name)
    assert "billed again" not in caplog.text, "there are no answers to take instead"


def test_who_is_strict_is_refused_what_others_are_warned_of(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n2\n")
    slip = {**request_lines(1)[0], "extra": 1}
    (shell.home / "slip.jsonl").write_bytes(orjson.dumps(slip) + b"\n")
    run = ("run", "rows.csv", "--overwrite", "-d", "d", "--emulator", "--speed", "3000", "-o", "out.csv", "-p")
    again = "job 'second' asks the very same as job 'first' of"
    away = "? Or leave --strict away, if it is meant so"
    assert shell(*run, "{a}", "--name", "first", "--strict")[0] in (0, 8)
    for arguments, says, hint in (
        ((*run, "{a}", "--name", "second"), again, "batchkit fetch --emulator first -o results.csv takes its answers"),
        (
            (*run, "{a}", "--param", "max_token=5"),
            "body.max_token is no known parameter",
            f"is max_tokens meant{away}",
        ),
        ((*run, "Hello"), "the prompt has no {column}: every row asks the same", away),
        (("build", "rows.csv", "-d", "d", "-p", "Hello"), "the prompt has no {column}: every row asks the same", away),
        (
            ("build", "rows.csv", "-d", "d", "-p", "{a}", "--param", "max_token=5"),
            "body.max_token is no known parameter",
            f"is max_tokens meant{away}",
        ),
        (("submit", "slip.jsonl", "--emulator"), "slip.jsonl, line 1, byte 0: the line has keys no service knows", ""),
        (("submit", "slip.jsonl", "--dry-run"), "1 problem in slip.jsonl", "mend it, and again"),
        (("check", "slip.jsonl"), "1 problem in slip.jsonl", "mend it, and again: batchkit check slip.jsonl --strict"),
    ):
        code, out, err = shell(*arguments, "--strict")
        assert (code, says in err, hint in err) == (3, True, True), (arguments, out, err)
        assert "good" not in out
    assert [job["name"] for job in orjson.loads(shell("list", "--emulator", "--json")[1])["jobs"]] == ["first"]
    assert shell("check", "slip.jsonl")[0] == 0


@pytest.mark.parametrize(
    ("url", "param", "meant"),
    [
        ("chat", "max_token=5", "max_tokens"),
        ("chat", "maxTokens=5", "max_tokens"),
        ("responses", "max_output_token=5", "max_output_tokens"),
        ("chat", "top_k=5", None),
        ("chat", "verbosity=low", None),
    ],
)
def test_a_misspelt_parameter_is_likened_to_the_one_that_is_meant(
    tmp_path: Path, command: Command, url: str, param: str, meant: str | None
) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n2\n")
    build = ("build", "rows.csv", "-o", "lines.jsonl", "-d", "d", "-p", "{a}", "--url", url, "--param", param)
    code, _, err = command(tmp_path, *build)
    assert (code, err.count(f"is {meant} meant?"), "no known parameter" in err) == (
        0,
        int(meant is not None),
        bool(meant),
    )
    problems = batchkit.check(tmp_path / "lines.jsonl").problems
    assert [problem.fix for problem in problems] == ([f"is {meant} meant?"] if meant else []), "once a file"


def test_a_misspelt_parameter_of_a_retry_is_said(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(fail_rate=0.5)
    with world.client() as client:
        client.run(request_lines(20), name="nightly")
        client.retry("nightly", only=["4xx", "5xx"], params={"max_token": 5})
    assert "body.max_token is no known parameter of /v1/chat/completions" in caplog.text
    assert "is max_tokens meant?" in caplog.text
    with Client(world.target(), ledger=world.home / "l", clock=world.clock, settings=Settings(strict=True)) as client:
        client.run(request_lines(20), name="strictly")
        with pytest.raises(InputError, match="max_token is no known parameter"):
            client.retry("strictly", only=["4xx", "5xx"], params={"max_token": 5})


@pytest.mark.parametrize(
    ("suffix", "on_missing"),
    [("csv", "skip"), ("csv", "empty"), ("jsonl", "empty"), ("parquet", "empty"), ("sql", "skip")],
)
def test_a_column_that_no_row_has_is_a_slip(tmp_path: Path, command: Command, suffix: str, on_missing: str) -> None:
    table = [{"name": "x", "colour": "red"}, {"name": "y", "colour": None}]
    source, flags = f"rows.{suffix}", ["--on-missing", on_missing, "-d", "d", "-o", "lines.jsonl"]
    (tmp_path / "rows.csv").write_text("name,colour\nx,red\ny,\n")
    if suffix == "jsonl":
        (tmp_path / source).write_bytes(b"\n".join(map(orjson.dumps, [*table, {"name": "z"}])))
    elif suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(table), tmp_path / source)
    elif suffix == "sql":
        source, flags = "rows.csv", [*flags, "--sql", "select * from rows"]
    code, _, err = command(tmp_path, "build", source, *flags, "-p", "{color}")
    assert (code, "no row has a column 'color' (there are: colour, name)" in err) == (3, True), err
    assert "next:  is 'colour' meant?" in err
    assert not (tmp_path / "lines.jsonl").exists()
    code, _, err = command(tmp_path, "build", source, *flags, "-p", "{colour}", "--custom-id", "nmae")
    assert (code, "is 'name' meant?" in err or (suffix, on_missing) == ("jsonl", "empty")) == (3, True), err
    assert command(tmp_path, "build", source, *flags, "-p", "{colour}")[0] == 0


def test_a_table_without_the_column_is_not_read_to_its_end() -> None:
    read = []

    def later() -> Any:
        for number in range(1000):
            read.append(number)
            yield {"a": number}

    made = batchkit.lines(later(), deployment="d", body="{b}", on_missing="skip")
    made.uniform = True
    with pytest.raises(InputError, match="no row has a column 'b'"):
        list(encode(made))
    assert len(read) == 1
    some = [{"a": 1}, {"b": 2}, {"a": 3}]
    assert len(list(encode(batchkit.lines(some, deployment="d", body="{b}", on_missing="skip")))) == 1


def test_joined_columns_stay_in_front_of_those_that_are_chosen(world: World, tmp_path: Path) -> None:
    table, out = [{"sku": "x", "a": "1"}], tmp_path / "out.csv"
    made = batchkit.lines(table, deployment="d", body="{a}")
    with world.client() as client:
        client.run(made, name="n", out=out, join=table, columns=["ok", "text"])
        assert list(rows(out)[0]) == ["sku", "a", "ok", "text"]
        client.run(made, name="n", out=out, join=table, columns=["text", "sku"])
        assert list(rows(out)[0]) == ["text", "sku"]


def test_results_with_the_inputs_columns_are_not_written_over_without_them(world: World, tmp_path: Path) -> None:
    table, out = [{"sku": "x", "a": "1"}], tmp_path / "out.csv"
    with world.client() as client:
        client.run(batchkit.lines(table, deployment="d", body="{a}"), name="n", out=out, join=table)
        with pytest.raises(UsageError, match=r"out.csv has the input's columns") as caught:
            client.fetch("n", out)
        assert "--join ROWS" in caught.value.hint
        assert "sku" in rows(out)[0]
        client.fetch("n", out, join=table, columns=["sku", "ok"])
        client.fetch("n", out, overwrite=True)
        assert "sku" not in rows(out)[0]
        client.fetch("n", out, join=table)


def test_a_join_of_what_has_no_rows_is_refused(shell: Shell) -> None:
    (shell.home / "lines.jsonl").write_bytes(b"\n".join(map(orjson.dumps, request_lines(1))))
    code, _, err = shell("run", "lines.jsonl", "-o", "out.csv", "--join", "--emulator")
    assert (code, "--join needs rows, and lines.jsonl is taken for request lines" in err) == (2, True)


def test_lines_that_name_no_deployment_of_their_pool(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(fail_rate=0.0)
    east = replace(world.target(), name="east", deployment="gpt-4o-batch")
    west = replace(world.target(), name="west", deployment="gpt-4o-west", identity="west")
    with Client(replace(east, name="all", pool=(east, west)), ledger=world.home / "l", clock=world.clock) as client:
        client.submit(request_lines(3), name="known")
        assert "name the deployment" not in caplog.text
        lines = [{**line, "body": {**line["body"], "model": "gpt-4.1"}} for line in request_lines(3)]
        client.submit(lines, name="unknown")
    words = "all 3 requests of job 'unknown' name the deployment 'gpt-4.1': they are sent as 'gpt-4o-batch' (east)"
    assert caplog.text.count(words) == 1


def test_check_holds_lines_against_the_deployment_of_a_target(shell: Shell) -> None:
    (shell.home / "lines.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in request_lines(2)))
    config = '[targets.a]\nendpoint = "https://contoso.openai.azure.com"\nkey_env = "K"\ndeployment = "{}"\n'
    for deployment, told in (("gpt-4o-batch", False), ("other", True)):
        (shell.home / "targets.toml").write_text(config.format(deployment))
        code, out, _ = shell("check", "lines.jsonl", "-t", "a", K="x", BATCHKIT_CONFIG="targets.toml")
        assert (code, "all 2 requests name the deployment 'gpt-4o-batch'" in out) == (0, told), out


def test_a_file_given_as_the_prompt_or_the_target_is_likened_to_the_template(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("ticket\nx\n")
    (shell.home / "prompt.txt").write_text("Classify: {ticket}")
    build = ("build", "rows.csv", "-o", "lines.jsonl", "-d", "d")
    for command in (build, ("run", "rows.csv", "-o", "out.csv", "-d", "d", "--emulator")):
        code, _, err = shell(*command, "-p", "prompt.txt")
        assert (code, "next:  is --template prompt.txt meant?" in err) == (2, True), err
    assert not (shell.home / "lines.jsonl").exists()
    code, _, err = shell(*build, "-p", "prompt.text")
    assert (code, "warning: the prompt has no {column}" in err) == (0, True), err
    assert shell(*build, "--overwrite", "-p", "Translate. " * 1000)[0] == 0, "longer than a file's name can be"
    for more in ((), ("--emulator",)):
        code, _, err = shell("run", "rows.csv", "-o", "out.csv", "-d", "d", "-t", "prompt.txt", *more)
        assert (code, "-t is short for --target" in err) == (2, True), err
        assert "next:  is --template prompt.txt meant?" in err


@pytest.mark.parametrize("flags", [("-p", "{ticket}", "--custom-id", "tiket"), ("-p", "{tiket}")])
def test_a_flag_is_named_only_where_it_helps(tmp_path: Path, command: Command, flags: tuple[str, ...]) -> None:
    (tmp_path / "rows.csv").write_text("ticket\nx\n")
    (tmp_path / "rows.jsonl").write_text('{"ticket": "x"}\n{"tiket": "y"}\n')
    code, _, err = command(tmp_path, "build", "rows.csv", "-d", "d", *flags)
    assert (code, err.endswith("next:  is 'ticket' meant?\n")) == (3, True), err
    code, _, err = command(tmp_path, "build", "rows.jsonl", "-d", "d", *flags)
    assert (code, "Or say --on-missing skip or empty" in err) == (3, True), err


def test_what_results_cannot_be_written_to_or_joined_with_is_found_before_anything_is_sent(
    world: World, tmp_path: Path
) -> None:
    table, out = [{"sku": str(n), "a": "1"} for n in range(3)], tmp_path / "out.csv"
    made = batchkit.lines(table, deployment="d", body="{a}", custom_id="sku")
    with world.client() as client:
        for wrong in (table[:2], [*reversed(table)], [{"sku": "other"}]):
            with pytest.raises(InputError, match=r"not those of the job|in another order than the job's"):
                client.run(made, name="n", out=out, join=wrong)
        assert list(client.list()) == [], "nothing is kept that would be sent later"
        with pytest.raises(Unfinished):
            client.run(made, name="n", out=out, join=[{"sku": "left out"}, *table], once=True)
    assert len(world.batches()) == 1


def test_a_job_that_waits_to_be_sent_is_not_sent_for_a_file_that_holds_something_else(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world, out = make_world(faults=["error,401,call=upload"]), tmp_path / "out.csv"
    with world.client() as client:
        with pytest.raises(Unauthorized):
            client.submit(request_lines(2), name="n")
        world.service.mend()
        out.write_text("mine")
        with pytest.raises(UsageError, match=r"out.csv .* holds something else \(4 bytes, of "):
            client.run(request_lines(2), name="n", out=out)
        assert (out.read_text(), world.batches()) == ("mine", [])
        assert client.run(request_lines(2), name="n", out=out, overwrite=True).report.total == 2


@pytest.mark.parametrize("wrong", ["clash", "join"])
def test_rows_are_not_asked_again_for_results_that_cannot_be_written(
    make_world: Callable[..., World], tmp_path: Path, wrong: str
) -> None:
    busy = Reply(429, {"error": {"code": "429", "message": "no"}})
    world = make_world(fail_rate=0.0, answer=lambda line: busy if line["custom_id"] == "row-1" else "yes")
    out, table = tmp_path / "out.csv", [{"sku": f"row-{n}"} for n in range(6)]
    with world.client() as client:
        client.run(request_lines(6), name="n", out=out)
        if wrong == "clash":
            out.write_text("mine")
            with pytest.raises(UsageError, match=r"out.csv .* holds something else \(4 bytes, of "):
                client.run(request_lines(6), name="n", out=out, retries=1)
            assert out.read_text() == "mine"
        else:
            with pytest.raises(InputError, match=r"not those of the job|in another order than the job's"):
                client.run(request_lines(6), name="n", out=out, join=table[2:], retries=1)
        assert (len(world.batches()), client.show("n").round) == (1, 0)
        assert client.run(request_lines(6), name="n", out=out, join=table, overwrite=True, retries=1).job.round == 1
