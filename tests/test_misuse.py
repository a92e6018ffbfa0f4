"""What a caller gets wrong is said before anything is spent, and nothing secret is shown meanwhile."""

from __future__ import annotations

import pydoc
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import batchkit
from batchkit import ConfigError, InputError, Refused, Settings, Unavailable, Unfinished
from batchkit.collector.verdict import settled
from batchkit.errors import BatchkitError
from batchkit.hints import in_python

from .conftest import KEY, World, request_line, request_lines
from .tools.shell import Shell, emulating, write_lines


def prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": row["a"]}]}


def test_a_column_that_results_will_not_have_leaves_no_job(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n")
    run = ("run", "rows.csv", "-o", "out.csv", "--name", "nightly", "-p", "{a}", "-d", "gpt-4o-batch", "--emulator")
    code, _, err = shell(*run, "--columns", "text,nope")
    assert (code, "nope" in err) == (2, True)
    assert "nightly" not in shell("list", "--emulator")[1]
    assert shell(*run, "--columns", "text", "--speed", "3000")[0] in (0, 8)


def test_a_backslash_in_a_path_is_no_bug(shell: Shell) -> None:
    for flags in (("--ledger", r"a\1.sqlite3"), ("--ledger", r"C:\g<9>.db"), ("--emulator", "--ledger", r"x\d")):
        code, _, err = shell("show", "nope", *flags)
        assert (code, f"next:  batchkit list --ledger '{flags[-1]}'" in err) == (2, True), err


@pytest.mark.parametrize(
    "address",
    [
        "https://x.openai.azure.com/?api-key=SECRET123",
        "https://me:SECRET123@x1.test",
        "x.openai.azure.com?api-key=SECRET123",
        "x.openai.azure.com/openai/SECRET123",
        "me:SECRET123@x1",
    ],
)
def test_an_address_in_a_targets_place_is_not_repeated(shell: Shell, address: str) -> None:
    for arguments, env in (
        (("targets", "show", address), {}),
        (("targets", "test", address), {}),
        (("targets", "remove", address, "--yes"), {}),
        (("targets", "add", address, "--endpoint", "https://x1.openai.azure.com"), {}),
        (("targets", "show"), {"BATCHKIT_TARGET": address}),
        (("list", "--remote", "-t", address, "--json"), {}),
        (("doctor", "-t", address), {}),
    ):
        code, out, err = shell(*arguments, **env)
        assert (code, "an address is not a target's name" in out + err) == (4, True), (arguments, out, err)
        assert "SECRET123" not in out + err
        assert "--endpoint URL" in out + err


def test_a_hint_repeats_the_flags_that_the_environment_does_not_have(shell: Shell) -> None:
    (shell.home / "targets.toml").write_text('[targets.east]\nendpoint = "https://x1.openai.azure.com"\n')
    named = {"BATCHKIT_LEDGER": "a.sqlite3", "BATCHKIT_CONFIG": "targets.toml", "BATCHKIT_TARGET": "east"}
    typed = ("--ledger", "a.sqlite3", "--config", "targets.toml", "-t", "east")
    assert "next:  batchkit list\n" in shell("show", "nope")[2]
    assert "next:  batchkit list\n" in shell("show", "nope", **named)[2]
    flags = "--target east --ledger a.sqlite3 --config targets.toml"
    assert f"next:  batchkit list {flags}\n" in shell("show", "nope", *typed)[2]
    assert "next:  batchkit list --ledger b.sqlite3\n" in shell("show", "nope", "--ledger", "b.sqlite3", **named)[2]
    assert "next:  batchkit list\n" in shell("show", "nope", BATCHKIT_EMULATOR="1")[2]
    assert "next:  batchkit list --emulator\n" in shell("show", "nope", "--emulator")[2]
    assert "next:  batchkit targets list\n" in shell("targets", "remove", "b", "--yes", **named)[2]
    removed = shell("targets", "remove", "b", "--yes", "--config", "targets.toml")[2]
    assert "next:  batchkit targets list --config targets.toml\n" in removed


def test_help_shows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    for name in batchkit.__all__:
        assert KEY not in pydoc.render_doc(getattr(batchkit, name))


def test_misspelt_words_of_fetch_and_run(world: World) -> None:
    with world.client() as client:
        wrong: dict[str, Any] = {"joni": []}
        with pytest.raises(TypeError, match="there is no joni; results take format, columns, join"):
            client.run(request_lines(1), name="nightly", **wrong)
        assert not client.list().jobs


def test_words_that_belong_to_a_prompt() -> None:
    with pytest.raises(InputError, match="system, schema belongs to a prompt"):
        batchkit.lines([{"a": "x"}], deployment="d", body=prompt, system="s", schema={"type": "object"})
    with pytest.raises(InputError, match="the prompt is empty"):
        batchkit.lines([{"a": "x"}], deployment="d", body=" ")


ROW = {"a": "x"}
LINES: list[tuple[dict[str, Any], str]] = [
    ({"rows": "rows.csv"}, "rows are mappings or a dataframe, not the path of a file"),
    ({"rows": None}, "rows must be mappings or a dataframe, not None"),
    ({"rows": ROW}, "rows must be mappings or a dataframe, not a dict"),
    ({"rows": ["x", "y"]}, "row 1 must be a mapping from column to value, not a str"),
    ({"rows": [ROW, ("x",)], "body": prompt}, "row 2 must be a mapping from column to value, not a tuple"),
    ({"body": lambda row: None}, "row 1: what the function of body returns must be the body of a request, not None"),
    ({"body": {"messages": []}}, "body must be a prompt, or a function from a row to the request's body, not a dict"),
    ({"deployment": None}, "deployment must be the name of a deployment, not None"),
    ({"deployment": " "}, "the deployment has no name"),
    ({"on_missing": "skp"}, "on_missing must be 'error' or 'skip' or 'empty', not 'skp'"),
    ({"params": "temperature=0"}, "params must be a mapping, not a str"),
    ({"custom_id": 3}, "custom_id must be a column, a template, @hash or a function, not an int"),
    ({"system": 3}, "system must be text, not an int"),
]


@pytest.mark.parametrize(("given", "said"), LINES)
def test_wrong_kinds_of_things_for_lines(given: dict[str, Any], said: str) -> None:
    asked: dict[str, Any] = {"rows": [ROW], "deployment": "d", "body": "{a}", **given}
    with pytest.raises(InputError, match=said) as refused:
        list(batchkit.lines(**asked))
    assert refused.value.hint


def test_what_a_function_of_the_users_own_raises_is_told_with_its_row() -> None:
    table = [{"sku": "x", "n": 1}, {"sku": "y", "n": 0}]
    words = r"row 2 \('y'\): the function of body failed: ZeroDivisionError: integer"
    with pytest.raises(InputError, match=words) as failed:
        list(batchkit.lines(table, deployment="d", custom_id="sku", body=lambda row: {"n": 1 // row["n"]}))
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    with pytest.raises(InputError, match=r"^row 2: the function of custom_id failed: ZeroDivisionError"):
        list(batchkit.lines(table, deployment="d", custom_id=lambda row: str(1 // row["n"]), body="{n}"))
    with pytest.raises(InputError, match=r"^row 1: .* failed: KeyError: 'nope' \(the row has: sku, n\)"):
        list(batchkit.lines(table, deployment="d", body=lambda row: {"n": row["nope"]}))


def test_a_directory_for_images_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 32)
    rows = [{"a": "x", "file": "a.png"}]
    (line,) = batchkit.lines(rows, deployment="d", body="{a}", images="file", base=str(tmp_path))
    assert line.body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


def test_wrong_kinds_of_things_for_a_client(world: World) -> None:
    wrong: Any
    with world.client() as client:
        for wrong, said in (
            (None, "source must be request lines, or the path of a file of them, not None"),
            (ROW, "source must be request lines, or the path of a file of them, not a dict"),
            (["x"], "line 1 must be a request line or a Line, not a str"),
        ):
            with pytest.raises(InputError, match=said):
                client.submit(wrong)
        wrong = date(2026, 11, 24)
        with pytest.raises(InputError, match="name must be text, not a date"):
            client.submit(request_lines(1), name=wrong)
        wrong = timedelta(hours=36)
        with pytest.raises(InputError, match="timeout_s must be a number of seconds, not a timedelta"):
            client.run(request_lines(1), timeout_s=wrong)
        wrong = "nightly"
        with pytest.raises(InputError, match=r"query must be a batchkit\.Query, not a str"):
            client.list(wrong)
        assert not client.list().jobs
        client.run(request_lines(1), name="nightly")
        wrong = "nightly"  # one where several may be
        assert [watched.job.name for watched in list(client.watch(wrong))[-1]] == ["nightly"]
        wrong = client.fetch("nightly")
        with pytest.raises(InputError, match="job must be a Job or its name, not a Results"):
            client.fetch(wrong)
    with pytest.raises(ConfigError, match="an address is not a target's name") as refused:
        batchkit.load_target("https://x1.openai.azure.com")
    assert "export AZURE_OPENAI_ENDPOINT=URL" in refused.value.hint
    wrong = {"endpoint": "https://x1.openai.azure.com"}
    with pytest.raises(ConfigError, match="a target must be the name of one in the targets file, or a Target, not a d"):
        batchkit.load_target(wrong)


def test_a_traceback_says_what_to_do_in_python(world: World) -> None:
    def advice(call: Callable[[], object]) -> str:
        with pytest.raises(BatchkitError) as raised:
            call()
        (note,) = raised.value.__notes__
        return note

    with world.client() as client:
        client.submit(request_lines(2), name="my job")
        conflict = advice(lambda: client.submit(request_lines(3), name="my job"))
        assert conflict == (
            "next: choose another name, or leave name away to get one from the content; "
            "client.show('my job') tells of the one that is there"
        )
        assert advice(lambda: client.fetch("my job")) == "next: client.track('my job')  # or the same call again later"
        assert advice(lambda: client.retry("my job")) == "next: client.track('my job')"
        unfinished = advice(lambda: list(client.track("my job", timeout_s=1)))
        assert unfinished.endswith("or the same call again to go on; client.cancel('my job') stops it")
        assert advice(lambda: client.fetch("other")) == "next: client.list()"
        client.run(request_lines(2), name="my job")
        assert advice(lambda: client.retry("my job")).startswith("next: client.fetch('my job', 'results.csv')")


def test_commands_in_words_for_python() -> None:
    for hint, words in {
        "batchkit fetch a -o out.csv --partial  # reads": "client.fetch('a', 'out.csv', partial=True)  # reads",
        "batchkit retry JOB --only CODE": "client.retry(job, only=[code])",
        "batchkit cancel 'a b' --give-up ends it": "client.cancel('a b', give_up=True) ends it",
        "batchkit show a --events says": "client.show('a').events says",
        "batchkit doctor --probe -d gpt-4o": "client.doctor(probe=True, deployment='gpt-4o')",
        "batchkit check lines.jsonl  # mend": "batchkit.check('lines.jsonl')  # mend",
        "batchkit check finds them": "batchkit.check('lines.jsonl') finds them",
        "batchkit targets add a --endpoint b": "batchkit targets add a --endpoint b",
        "-t west, or another --ledger": "target='west', or another ledger",
        "batchkit track a\\": "batchkit track a\\",
        "batchkit track 'it'\"'\"'s'": 'client.track("it\'s")',
        "batchkit fetch a -o 'my results.csv'": "client.fetch('a', 'my results.csv')",
        "batchkit track NIGHTLY": "client.track('NIGHTLY')",
        "batchkit track 'a -t b'  # --name": "client.track('a -t b')  # name",
        "batchkit track 'the same command'": "client.track('the same command')",
        "batchkit track --all": "batchkit track --all",
        "batchkit track a 'b c'": "batchkit track a 'b c'",
        "batchkit list --after 2026-11-01, or --join": "batchkit list --after 2026-11-01, or join",
        "batchkit check LINES --fix NEW": "batchkit check LINES --fix NEW",
        "batchkit check a.jsonl b.jsonl": "batchkit check a.jsonl b.jsonl",
        "batchkit check lines  # mend": "batchkit.check('lines')  # mend",
        "add --overwrite, or choose another -o": "add overwrite=True, or choose another out",
        "add --join ROWS to keep them": "add join=rows to keep them",
        "batchkit build ROWS -o LINES makes lines": "batchkit.lines(rows, deployment=…, body=…) makes lines",
        "choose a place (-o for results); no-other": "choose a place (out for results); no-other",
    }.items():
        assert in_python(hint) == words


def test_a_warning_says_what_to_do_to_each_in_his_own_words(
    world: World, shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    lines = write_lines(shell.home / "lines.jsonl", request_lines(2))
    with world.client() as client:
        client.run(lines, name="first")
        client.submit(lines, name="second")
        (warned,) = [record.getMessage() for record in caplog.records if "billed again" in record.getMessage()]
        assert warned.endswith("client.fetch('first', 'results.csv') takes its answers instead")
        (world.home / "out.csv").write_text("of somebody else")
        with pytest.raises(BatchkitError) as refused:
            client.fetch("first", world.home / "out.csv")
        assert refused.value.__notes__ == ["next: choose another out, or add overwrite=True to replace it"]
    env = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY}
    env["BATCHKIT_LEDGER"] = str(world.home / "ledger.sqlite3")
    for more in ([], ["--log-format", "json"]):
        _, _, err = shell("submit", "lines.jsonl", "--name", f"third-{len(more)}", "--no-wait", *more, **env)
        assert "batchkit fetch" in err
        assert "client." not in err


def test_a_wrong_deployment_is_no_quiet_success(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(deployments=["gpt-4o-batch"])
    lines = [request_line(number, model="gpt-4o-bathc") for number in range(2)]
    with world.client() as client:
        results = client.run(lines, name="nightly")
        assert [result.ok for result in results] == [False, False]
        (warning,) = [record.getMessage() for record in caplog.records if record.name == "batchkit.ended"]
        assert "job 'nightly' has no good row: the service refused the whole batch: model_not_found" in warning
        assert "next: check body.model" in warning
        with pytest.raises(Refused, match="the service refused the whole batch: model_not_found"):
            results.raise_for_failures()
        told = settled(client.show("nightly"))
    assert told is not None
    assert told.exit == 5
    assert "the service refused the whole batch of 'nightly': model_not_found" in str(told)


def test_results_as_an_exception(make_world: Callable[..., World], caplog: pytest.LogCaptureFixture) -> None:
    world = make_world(fail_rate=0.0)
    with world.client() as client:
        client.run(request_lines(3), name="good").raise_for_failures()
        job = client.submit(request_lines(4), name="open")
        with pytest.raises(Unfinished, match="4 of 4 rows not back yet"):
            client.fetch(job, partial=True).raise_for_failures()
    failing = make_world(fail_rate=0.5)
    with failing.client(name="failing") as client:
        results = client.run(request_lines(40), name="half")
        with pytest.raises(BatchkitError, match="of 40 rows failed; the most frequent reason: ") as failed:
            results.raise_for_failures()
        assert failed.value.code == "results.rows_failed"
    assert not [record for record in caplog.records if record.name == "batchkit.ended"]


def test_a_closed_client_says_so(world: World) -> None:
    client = world.client()
    client.close()
    with pytest.raises(RuntimeError, match="this Client is closed"):
        client.list()


def test_work_under_way_is_no_error_to_who_asked_for_quiet(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n")
    run = ("run", "rows.csv", "-o", "out.csv", "-p", "{a}", "-d", "gpt-4o-batch", "--once")
    with emulating(shell, "--speed", "1") as env:
        assert shell(*run, "--quiet", **env) == (7, "", "")
        code, _, err = shell(*run, **env)
        assert (code, "is not finished" in err) == (7, True)


def test_the_last_try_promises_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with world.client(base_url="http://127.0.0.1:9/openai/v1") as client, pytest.raises(Unavailable):
        client.show_remote("batch_1")
    assert sum("trying again" in record.getMessage() for record in caplog.records) == Settings().max_attempts - 1


def test_what_a_notebook_does_twice_or_by_short_words(make_world: Callable[..., World], tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    frame = pyarrow.table({"sku": ["a", "b"], "text": ["x", "y"]})
    lines = batchkit.lines(frame, deployment="gpt-4o-batch", custom_id="sku", body="{text}", url="responses")
    assert [line.custom_id for line in lines] == [line.custom_id for line in lines] == ["a", "b"]
    reader = batchkit.lines(frame.to_reader(), deployment="gpt-4o-batch", custom_id="sku", body="{text}")
    assert len(list(reader)) == 2
    with pytest.raises(InputError, match="read only once"):
        list(reader)
    (tmp_path / "prices.toml").write_text(
        'date = 2026-11-01\ncurrency = "USD"\n[models."gpt-4o"]\ninput = 1.25\noutput = 5.0\n'
    )
    world = make_world(fail_rate=0.0)
    with world.client() as client:
        for _ in range(2):
            results = client.run(lines, name="twice")
        assert results.report.ok == 2
        cost = client.report("twice", prices=str(tmp_path / "prices.toml"))["cost"]
        assert cost["currency"] == "USD"
        for wrong in ({"name": ""}, {"retries": -1}):
            with pytest.raises(InputError):
                client.run(lines, **wrong)
    assert len(world.batches()) == 1


@pytest.mark.parametrize("name", ["", " ", "a\u200bb", "x" * 201])
def test_a_name_that_is_none_makes_no_job(world: World, shell: Shell, name: str) -> None:
    with world.client() as client, pytest.raises(InputError, match="the job's name"):
        client.run(request_lines(1), name=name)
    (shell.home / "rows.csv").write_text("a\n1\n")
    code, _, err = shell("run", "rows.csv", "--name", name, "-p", "{a}", "-d", "gpt-4o-batch", "--emulator")
    assert (code, "the job's name" in err) == (3, True), err
    assert world.batches() == []


def test_params_that_would_replace_the_prompt() -> None:
    for url, key in (("chat", "messages"), ("embeddings", "input")):
        with pytest.raises(InputError, match=f"the prompt makes '{key}'"):
            batchkit.lines([{"a": "x"}], deployment="m", body="{a}", url=url, params={key: []})


FORKED = """
import os, sys
from batchkit import Client, UsageError
client = Client(ledger=sys.argv[1])
client.list()
if os.fork() == 0:
    try:
        client.list()
    except UsageError as error:
        print(error, "-", error.hint)
    client.close()
    with Client(ledger=sys.argv[1]) as own:
        print(len(own.list()), flush=True)
    os._exit(0)
os.wait()
client.close()
"""


def test_a_client_of_before_a_fork_says_so_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger.sqlite3")
    made = subprocess.run([sys.executable, "-c", FORKED, ledger], capture_output=True, text=True, timeout=60)
    words, count = made.stdout.splitlines()
    assert "was made before the process was forked" in words
    assert "make a new Client in the child" in words
    assert (count, made.returncode, made.stderr) == ("0", 0, "")
