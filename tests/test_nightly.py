"""A night with cron: who hears of an end, how often, and by which exit code."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from batchkit.emulator import Emulator
from batchkit.ledger import open_ledger

from .conftest import KEY, request_lines
from .tools.shell import Shell, rows, write_lines

ROWS = ("run", "rows.csv", "-o", "out.csv", "--name", "nightly", "-p", "{a}", "-d", "gpt-4o-batch", "--once")
DUE = ("run", "--once")


@contextmanager
def night(shell: Shell, **options: Any) -> Iterator[Mapping[str, str]]:
    """A service, and the rows that are asked about."""
    table = shell.home / "rows.csv"
    table.write_text("a\n" + "".join(f"{number}\n" for number in range(8)))
    os.utime(table, (time.time() - 60,) * 2)  # what was changed a moment ago is read again each time
    with Emulator(shell.home / "service", key=KEY, speed=20_000, **{"fail_rate": 0.0, **options}) as service:
        yield {"AZURE_OPENAI_ENDPOINT": service.url, "AZURE_OPENAI_API_KEY": KEY, "BATCHKIT_POLL": "0.1"}


def until_done(shell: Shell, command: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, str, str]:
    """A command again and again, as cron calls it, until it is not 7; how it ended."""
    for _ in range(200):
        ended = shell(*command, **env)
        if ended[0] != 7:
            return ended
        assert "--quiet" not in command or ended[1:] == ("", "")
    raise AssertionError("it never ends")


def test_an_end_that_nobody_heard_of_is_told_once_by_the_first_who_has_somebody_to_tell(shell: Shell) -> None:
    with night(shell) as env:
        assert shell(*ROWS, **env)[0] == 7
        assert until_done(shell, DUE, env)[0] == 0
        assert shell(*ROWS, **env)[0] == 0
        for number in range(2):  # whatever the words of the command, such as the time of day
            assert shell(*ROWS, "--on-done", f"{{ cat; echo; echo {number}; }} >> ends", **env)[0] == 0
        assert shell("track", "nightly", "--on-done", "echo track >> ends", **env)[0] == 0
    end, word = (shell.home / "ends").read_bytes().split()
    assert (orjson.loads(end)["outcome"]["ok"], word) == (8, b"0")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"fail_rate": 0.5}, 8, " failed"),
        ({"faults": ["double_rows,1"]}, 10, "do not add up"),
    ],
)
def test_a_bad_end_is_said_by_the_turn_that_meets_it_and_not_every_minute(
    shell: Shell, options: dict[str, Any], code: int, words: str
) -> None:
    with night(shell, **options) as env:
        quiet = (*ROWS, "--quiet")
        ended = until_done(shell, quiet, env)
        assert (ended[0], words in ended[2]) == (code, True)
        for _ in range(2):
            assert shell(*quiet, **env) == (code, "", "")
        loud = shell(*ROWS, **env)
        assert (loud[0], words in loud[2], "out.csv: 8 rows = " in loud[1]) == (code, True, True)
        (shell.home / "out.csv").unlink()
        again = shell(*quiet, **env)
        assert (again[0], words in again[2]) == (code, True)
        assert len(rows(shell.home / "out.csv")) == 8


def test_the_turn_that_settles_a_job_ends_with_its_code(shell: Shell) -> None:
    with night(shell, faults=["double_rows,1"]) as env:
        assert shell(*ROWS, **env)[0] == 7
        code, _, err = until_done(shell, (*DUE, "--quiet"), env)
        assert (code, "error: the results of 'nightly' do not add up" in err) == (10, True)
        assert shell(*DUE, "--quiet", **env) == (0, "", "")
        assert shell("track", "nightly", "--until", "done", **env)[0] == 10


@pytest.mark.deep
def test_each_job_that_ended_badly_has_its_sentence(shell: Shell) -> None:
    with night(shell, faults=["fail_all,400"]) as env:
        for name in ("one", "two"):
            write_lines(shell.home / f"{name}.jsonl", request_lines(3 if name == "one" else 4))
            assert shell("submit", f"{name}.jsonl", "--name", name, **env)[0] == 0
        said = ""
        for _ in range(200):
            code, _, err = shell(*DUE, **env)
            said += err
            if "one" in said and "two" in said and code == 8:
                break
    assert "error: 3 of 3 rows of 'one' failed" in said
    assert "error: 4 of 4 rows of 'two' failed" in said


def test_metrics_that_cannot_be_written_keep_nobody_from_the_turn(shell: Shell) -> None:
    with night(shell) as env:
        metrics = ("--metrics-file", "nowhere/batchkit.prom", "--quiet")
        code, _, err = shell(*ROWS, *metrics, **env)
        assert (code, "error: the metrics are not written: " in err) == (7, True)
        assert until_done(shell, DUE, env)[0] == 0
        code, _, err = shell(*ROWS, *metrics, **env)
        assert (code, "error: the metrics are not written: " in err) == (12, True)
        assert len(rows(shell.home / "out.csv")) == 8


def test_one_row_is_one_and_the_emulators_jobs_are_found(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n")
    code, out, err = shell(*ROWS[:-1], "--emulator", "--speed", "3000")
    said = out + err + shell("show", "nightly", "--emulator", "--events", "--parts")[1]
    assert code == 0
    assert "1 row = 1 ok" in said
    assert "round 0: 1 row in 1 part" in said
    assert "1 rows" not in said and "1 parts" not in said
    assert "batchkit list --emulator" in shell("list")[2]
    (shell.home / "copy.csv").write_text("a\n1\n")
    copy = ("run", "copy.csv", *ROWS[2:4], *ROWS[6:-1], "--overwrite", "--emulator", "--speed", "3000")
    assert "batchkit fetch --emulator nightly -o results.csv takes its answers instead" in shell(*copy)[2]
    assert "CREATED (EMULATOR'S TIME)" in shell("list", "--emulator")[1]


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_what_another_line_brought_of_a_retry_is_written_by_the_nightly_one(
    shell: Shell, quiet: tuple[str, ...]
) -> None:
    with night(shell, fail_rate=0.5) as env:
        until_done(shell, (*ROWS, *quiet), env)
        before = (shell.home / "out.csv").read_bytes()
        assert shell("retry", "nightly", "--only", "4xx", "--only", "5xx", **env)[0] == 0
        until_done(shell, DUE, env)
        shell(*ROWS, *quiet, **env)
        after = (shell.home / "out.csv").read_bytes()
        assert after != before
        shell("fetch", "nightly", "-o", "as-it-is.csv", **env)
        assert after == (shell.home / "as-it-is.csv").read_bytes()


def test_a_notice_that_is_lost_is_said_also_under_quiet_and_once(shell: Shell) -> None:
    with night(shell) as env:
        quiet = (*ROWS, "--on-done", "echo said; exit 3", "--quiet")
        assert shell(*quiet, **env)[0] == 7
        code, _, err = until_done(shell, quiet, env)
        assert (code, err.count("warning: "), "said" in err) == (0, 1, False)
        assert "ended with exit code 3; it is not told of it again" in err
        assert shell(*quiet, **env) == (0, "", "")


def test_a_job_in_other_hands_is_no_mail(shell: Shell) -> None:
    async def work() -> None:
        ledger, _ = open_ledger(shell.home / "data" / "batchkit" / "ledger.sqlite3")
        hold = await ledger.hold(await ledger.job("nightly"))
        for _ in range(50):  # 7 until the next look is due
            ended = await asyncio.to_thread(lambda: shell(*ROWS, "--quiet", **env))
            if ended[0] != 7:
                break
        assert ended == (9, "", "")
        code, _, err = await asyncio.to_thread(lambda: shell(*ROWS, **env))
        assert (code, "is being worked on by process" in err) == (9, True)
        await hold.release()
        await ledger.close()

    with night(shell) as env:
        assert shell(*ROWS, **env)[0] == 7
        asyncio.run(work())


def test_a_throttle_is_no_quota_and_its_end_is_said(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(2))
    with night(shell, faults=["throttle,5,call=create_batch"]) as env:
        code, out, err = shell("submit", "lines.jsonl", "--name", "n", "--no-wait", **env)
        said = out + err + shell("show", "n", **env)[1]
    assert (code, "quota" in said, "the service asks to wait: " in said) == (7, False, True), said
    assert "; the next try is at 20" in err
