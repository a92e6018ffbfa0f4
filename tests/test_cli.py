"""The command line as a process: what it prints where, its exit codes, and what survives a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import pytest

from .conftest import EXAMPLES, KEY, VERSION, request_line, request_lines
from .test_schemas import validate
from .tools.shell import RUN, Shell, emulating, rows, write_lines


def test_the_quick_start_answers_every_row_and_resumes(shell: Shell) -> None:
    run = (*RUN, "-o", "answers.csv", "--speed", "600")
    code, out, err = shell(*run)
    assert code == 8
    written = (shell.home / "answers.csv").read_bytes()
    answers = rows(shell.home / "answers.csv")
    assert [row["custom_id"] for row in answers] == [row["package"] for row in rows(EXAMPLES / "packages.csv")]
    bad = [row for row in answers if row["ok"] == "false"]
    assert bad and all(row["error_code"] and row["error_message"] for row in bad)
    assert f"answers.csv: 240 rows = {240 - len(bad)} ok + {len(bad)} failed + 0 missing" in out
    assert "next:  batchkit retry --emulator packages-" in err
    code, _, _ = shell(*run)
    assert code == 8
    assert (shell.home / "answers.csv").read_bytes() == written
    _, out, _ = shell("list", "--json", "--emulator")
    document = orjson.loads(out)
    validate("jobs", document)
    (job,) = document["jobs"]
    assert len(job["parts"][0]["batches"]) == 1


@pytest.mark.parametrize("dialect", ["v1", "dated", "openai"])
def test_a_session_in_three_terminals(shell: Shell, dialect: str) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        if dialect == "dated":
            env["OPENAI_API_VERSION"] = VERSION
        if dialect == "openai":
            env = {"OPENAI_BASE_URL": env["AZURE_OPENAI_ENDPOINT"] + "/v1", "OPENAI_API_KEY": KEY}
        build = ("build", *RUN[1:-1], "-o", "lines.jsonl")
        code, out, _ = shell(*build, "--json")
        validate("build", orjson.loads(out))
        assert code == 0
        assert shell("check", "lines.jsonl")[0] == 0
        code, out, err = shell("submit", "lines.jsonl", "--name", "nightly", **env)
        assert (code, "nightly: " in out, "batchkit track nightly" in err) == (0, True, True)
        code, out, _ = shell("track", "nightly", "--every", "0.1", "--json", **env)
        assert code == 0
        job = orjson.loads(out.splitlines()[-1])  # a document a line, after each look
        validate("job", job)
        assert (job["status"], job["state"]) == ("completed", "ended")
        code, out, _ = shell("fetch", "nightly", "-o", "answers.csv", "--json", **env)
        assert code == 0
        report = orjson.loads(out)
        validate("report", report)
        assert (report["total"], report["ok"], report["balanced"]) == (240, 240, True)
        assert len(rows(shell.home / "answers.csv")) == 240
        code, out, _ = shell("fetch", "nightly", **env)
        lines = [orjson.loads(line) for line in out.splitlines()]
        assert (code, len(lines)) == (0, 240)
        for line in lines[:3]:
            validate("result-line", line)
        assert "nightly" in shell("list", "--status", "completed", **env)[1]
        assert "nightly" not in shell("list", "--status", "failed", **env)[1]
        shown = shell("show", "nightly", "--parts", "--events", **env)[1]
        assert "240 = 240 ok + 0 failed + 0 missing" in shown
        assert "submitting" in shown
        write_lines(shell.home / "more.jsonl", request_lines(9))
        assert shell("submit", "more.jsonl", "--name", "more", **env)[0] == 0
        assert shell("cancel", "more", **env)[0] == 2
        assert shell("cancel", "more", "--yes", **env)[0] == 0
        assert shell("track", "more", "--every", "0.1", **env)[0] == 0
        code, _, err = shell("fetch", "more", "-o", "more.jsonl.out", "--format", "jsonl", **env)
        assert code in (0, 8), err
        code, out, _ = shell("doctor", "--json", **env)
        validate("doctor", orjson.loads(out))
        assert code == 0


def test_a_killed_run_goes_on_and_makes_no_second_batch(shell: Shell) -> None:
    run = (*RUN, "-o", "answers.csv", "--name", "nightly")
    process = shell.start(*run, "--speed", "30")
    assert process.stderr is not None
    for line in process.stderr:
        if b"in_progress" in line:
            break
    process.kill()
    process.communicate()
    assert not (shell.home / "answers.csv").exists()
    code, _, _ = shell(*run, "--speed", "3000")
    assert code == 8
    assert len(rows(shell.home / "answers.csv")) == 240
    _, out, _ = shell("show", "nightly", "--json", "--emulator")
    job = orjson.loads(out)
    assert [len(part["batches"]) for part in job["parts"]] == [1]
    batches = list((shell.home / "data/batchkit/emulator/service/batches").glob("*.json"))
    assert len(batches) == 1


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(shell: Shell, number: signal.Signals, expected: int) -> None:
    process = shell.start(*RUN, "-o", "answers.csv", "--name", "nightly", "--speed", "10")
    assert process.stderr is not None
    for line in process.stderr:
        if b"validating" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == expected
    assert b"1 batch runs on at the service and will be billed" in err
    assert b"batchkit cancel --emulator nightly" in err
    assert b"Traceback" not in err
    assert shell(*RUN, "-o", "answers.csv", "--name", "nightly", "--speed", "3000")[0] == 8


def bad_file(home: Path, kind: str) -> Path:
    path = home / "bad.jsonl"
    if kind == "empty":
        path.touch()
    elif kind == "BOM":
        path.write_bytes(b"\xef\xbb\xbf" + orjson.dumps(request_line(1)) + b"\n")
    else:
        write_lines(path, [request_line(1), request_line(2, model="other")])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "the file has no request"),
        ("BOM", "line 1, byte 0: the file begins with a byte order mark"),
        ("two deployments", "line 2, byte 148: body.model is 'other'"),
    ],
)
@pytest.mark.parametrize("command", ["check", "submit"])
def test_bad_files_are_refused_before_anything_is_sent(shell: Shell, kind: str, words: str, command: str) -> None:
    path = bad_file(shell.home, kind)
    nowhere = {"AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9", "AZURE_OPENAI_API_KEY": KEY}
    code, out, err = shell(command, str(path), **nowhere)
    assert code == 3
    where = out if command == "check" else err
    assert words.rsplit(": ", 1)[-1] in where
    assert "next:  " in err
    code, out, err = shell(command, str(path), "--json", **nowhere)
    assert code == 3
    document = orjson.loads(err)
    validate("error", document)
    if command == "check":
        validate("check", orjson.loads(out))
    else:
        assert words in document["message"]


def test_what_goes_wrong_at_the_service_is_one_sentence_and_a_next_step(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(2))
    with emulating(shell) as env:
        code, _, err = shell("submit", "lines.jsonl", **env | {"AZURE_OPENAI_API_KEY": "wrong"})
        assert code == 5
        assert ": unauthorized: Access denied" in err
        assert "next:  check the key" in err
        code, _, err = shell(
            "submit", "lines.jsonl", **env | {"AZURE_OPENAI_ENDPOINT": env["AZURE_OPENAI_ENDPOINT"] + "/x"}
        )
        assert code == 4
        assert "path that does not belong" in err
    assert shell("list", **env)[1].count("\n") == 2


@pytest.mark.parametrize(
    ("env", "code", "words"),
    [
        ({}, 4, "no service to talk to"),
        ({"AZURE_OPENAI_ENDPOINT": "http://contoso.example", "AZURE_OPENAI_API_KEY": KEY}, 4, "unencrypted"),
        ({"AZURE_OPENAI_ENDPOINT": "contoso", "AZURE_OPENAI_API_KEY": KEY}, 4, "is not an endpoint"),
        ({"AZURE_OPENAI_ENDPOINT": "https://:pw-7@x.de", "AZURE_OPENAI_API_KEY": KEY}, 4, "user name or password"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:99999/v1", "OPENAI_API_KEY": KEY}, 4, "is not an endpoint"),
        ({"AZURE_OPENAI_ENDPOINT": "https://contoso.openai.azure.com"}, 4, "AZURE_OPENAI_API_KEY"),
    ],
)
def test_wrong_settings(shell: Shell, env: dict[str, str], code: int, words: str) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(2))
    found, _, err = shell("submit", "lines.jsonl", **env)
    assert found == code
    assert err.startswith("error: ") or "\nerror: " in err
    assert words in err
    assert "pw-7" not in err
    assert "next:  " in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "rows.csv", "--emulator"), 2, "what to ask about each"),
        (("run", "rows.csv", "-p", "{a}", "--emulator"), 2, "no deployment"),
        (("run", "rows.csv", "-p", "{b}", "-d", "d", "--emulator"), 3, "no row has a column 'b' (there are: a)"),
        (("run", "rows.csv", "-p", "{a}", "-d", "d", "--emulator", "-o", "rows.csv"), 2, "overwrite the input"),
        (("run", "rows.csv", "-p", "{a}", "-d", "d", "--emulator", "-o", "out.xlsx"), 2, "'xlsx' is not a format"),
        (("run", "nowhere.csv", "-p", "{a}", "-d", "d", "--emulator"), 3, "no such file"),
        (("build", "rows.csv", "-d", "d"), 2, "either --prompt or --template"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "--param", "x"), 2, "key=value"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "-o", "no/such/place.jsonl"), 12, "no such file"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "-o", "rows.csv"), 2, "overwrite the rows"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "-o", "taken.jsonl"), 2, "--overwrite"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "--json"), 2, "-o LINES"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "--url", "/v1/foo"), 3, "batches do not take the url"),
        (("build", "rows.csv", "-d", "<name>", "-p", "{a}"), 3, "placeholder"),
        (("build", "rows.csv", "-d", "d", "-p", "{a}", "--param", "stream=true"), 3, "body.stream is true"),
        (("check", "rows.csv"), 3, "mend it, and again: batchkit check"),
        (("run", "taken.jsonl", "-o", "rows.csv", "--emulator"), 2, "next:  choose another -o, or add --overwrite"),
        (("fetch", "job", "--join", "rows.csv", "-o", "rows.csv", "--overwrite"), 2, "overwrite the rows"),
        (("check", "taken.jsonl", "--fix", "rows.csv"), 2, "rows.csv is there already and holds something else ("),
        (("run", "taken.jsonl", "-o", "nowhere/out.csv", "--emulator"), 12, "the directory must exist"),
        (("show", "nobody"), 2, "there is no job 'nobody'"),
        (("list", "--since", "yesterday"), 2, "is not a time"),
        (("list", "--since", "infd"), 2, "is not a time"),
        (("list", "--since", "1e400h"), 2, "is not a time"),
        (("list", "--since", "nand"), 2, "is not a time"),
        (("list", "--order", "random"), 2, "newest or oldest"),
        (("list", "--limit", "x"), 2, "invalid value for '--limit': it must be a valid integer\n"),
        (("build", "rows.csv", "--on-missing", "no"), 2, "'--on-missing': 'no' is not one of 'error', 'skip', 'empty'"),
        (("targets", "show", "nope"), 4, "next:  batchkit targets add nope --endpoint URL"),
        (("emulate", "--fault", "nope"), 4, "next:  batchkit emulate --fault help"),
        (("limits", "nope"), 0, "next:  batchkit limits  # all"),
    ],
)
def test_wrong_usage(shell: Shell, arguments: tuple[str, ...], code: int, words: str) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n")
    write_lines(shell.home / "taken.jsonl", request_lines(1))
    found, _, err = shell(*arguments)
    assert (found, words in err) == (code, True), err
    assert (shell.home / "rows.csv").read_text() == "a\n1\n"


def test_flags_may_be_set_in_the_environment(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n")
    env = {"BATCHKIT_DEPLOYMENT": "d", "BATCHKIT_PROMPT": "ask {a}", "BATCHKIT_OUT": "lines.jsonl"}
    assert shell("build", "rows.csv", **env)[0] == 0
    line = orjson.loads((shell.home / "lines.jsonl").read_bytes())
    validate("request-line", line)
    assert line["body"]["messages"][0]["content"] == "ask 1"


def test_a_targets_file(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(2))
    with emulating(shell, "--fail-rate", "0") as env:
        key = shell.home / "key"
        key.write_text(KEY)
        key.chmod(0o644)
        config = shell.home / "targets.toml"
        config.write_text(
            f'[targets.local]\nendpoint = "{env["AZURE_OPENAI_ENDPOINT"]}"\nkey_file = "{key}"\npoll_interval_s = 0.1\n'
        )
        flags = ("--config", str(config), "-t", "local")
        code, _, err = shell("run", "lines.jsonl", "-o", "out.csv", *flags)
        assert (code, "can be read by others" in err, "chmod 600" in err) == (4, True, True)
        key.chmod(0o600)
        assert shell("run", "lines.jsonl", "-o", "out.csv", *flags)[0] == 0
        assert len(rows(shell.home / "out.csv")) == 2
        code, _, err = shell("submit", "lines.jsonl", "--config", str(config), "-t", "nobody")
        assert (code, "known: local" in err) == (4, True)
        config.write_text("[targets.local]\nendpiont = 'x'\n")
        code, _, err = shell("submit", "lines.jsonl", *flags)
        assert (code, "unknown key 'endpiont'" in err) == (4, True)


def test_a_read_only_place_and_a_full_disk(shell: Shell) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        write_lines(shell.home / "lines.jsonl", request_lines(2))
        assert shell("submit", "lines.jsonl", "--name", "nightly", **env)[0] == 0
        assert shell("track", "nightly", "--every", "0.1", **env)[0] == 0
        code, _, err = shell("fetch", "nightly", "-o", "/proc/out.csv", **env)
        assert (code, "next:  " in err) == (12, True)
        code, _, err = shell("submit", "lines.jsonl", "--ledger", "/proc/ledger.sqlite3", **env)
        assert (code, "next:  " in err) == (12, True)
        limited = ["bash", "-c", 'ulimit -f 0; trap "" XFSZ; exec "$@"', "-", sys.executable, "-m", "batchkit"]
        full = subprocess.run(
            [*limited, "fetch", "nightly", "-o", "out.csv"],
            cwd=shell.home,
            env={**shell.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (full.returncode, "Traceback" in full.stderr) == (12, False), full.stderr
        assert not (shell.home / "out.csv").exists()
        assert shell("fetch", "nightly", "-o", "out.csv", **env)[0] == 0
        assert len(rows(shell.home / "out.csv")) == 2


def test_spreadsheets_run_no_formula_of_an_answer(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text('id\n"=cmd()"\n+1+1\n@x\n-1\n')
    run = ("run", "rows.csv", "--custom-id", "id", "-p", "{id}", "-d", "d", "--emulator", "--speed", "3000")
    assert shell(*run, "-o", "out.csv")[0] in (0, 8)
    assert [row["custom_id"] for row in rows(shell.home / "out.csv")] == ["'=cmd()", "'+1+1", "'@x", "-1"]


def test_a_full_disk_while_results_come_in_is_noticed(shell: Shell) -> None:
    """The limit of the file size stands for the disk's; results are larger than what was sent."""
    write_lines(shell.home / "lines.jsonl", request_lines(400))
    limited = ["bash", "-c", 'ulimit -f 200; trap "" XFSZ; exec "$@"', "-", sys.executable, "-m", "batchkit"]
    with emulating(shell, "--fail-rate", "0") as env:
        run = ["run", "lines.jsonl", "--name", "nightly", "-o", "out.csv"]
        assert shell("submit", "lines.jsonl", "--name", "nightly", **env)[0] == 0
        assert shell("track", "nightly", "--every", "0.1", **env)[0] == 0
        full = subprocess.run(
            [*limited, *run], cwd=shell.home, env={**shell.env, **env}, capture_output=True, text=True, check=False
        )
        assert (full.returncode, "the disk is full" in full.stderr) == (12, True), full.stderr
        code, out, _ = shell(*run, **env)
        assert (code, "400 rows = 400 ok" in out) == (0, True)


def test_a_proxy_of_the_environment_is_not_between_us_and_this_machine(shell: Shell) -> None:
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    assert shell(*RUN, "-o", "answers.csv", "--speed", "3000", **proxies)[0] == 8


def test_the_emulator_keeps_its_key_and_a_rehearsal_its_own_ledger(shell: Shell) -> None:
    keys = set()
    for _ in range(2):
        process = shell.start("emulate", "--port", "0", "--json")
        assert process.stdout is not None
        document = orjson.loads(process.stdout.readline())
        keys.add(Path(document["key_file"]).read_text())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert len(keys) == 1
    assert shell(*RUN, "-o", "a.csv", "--speed", "3000", BATCHKIT_LEDGER=str(shell.home / "real.sqlite3"))[0] == 8
    assert not (shell.home / "real.sqlite3").exists()


def test_an_interrupt_at_any_moment_of_the_start_is_no_traceback(shell: Shell) -> None:
    for delay in range(6):
        process = shell.start(*RUN, "-o", "answers.csv", "--name", "nightly", "--speed", "3000")
        try:
            process.wait(0.02 + delay * 0.06)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        # The interpreter's own start, until our first line runs, is not ours.
        assert b"batchkit/cli" not in err.partition(b"Traceback")[2]


def test_help_and_version(shell: Shell) -> None:
    code, out, _ = shell("--help")
    assert code == 0
    for command in "build check submit track fetch run retry cancel list show files limits doctor emulate".split():
        assert command in out
        code, text, _ = shell(command, "--help")
        assert (code, "Example: batchkit" in text) == (0, True), command
    assert shell("--version")[1].startswith("batchkit 0.")


def test_the_emulator_needs_its_key_and_keeps_to_this_machine(shell: Shell) -> None:
    with emulating(shell) as env:
        url = env["AZURE_OPENAI_ENDPOINT"]
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/openai/v1/batches").status_code == 401
