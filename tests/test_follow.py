"""Following jobs, and asking about them: track, cancel, list and show, over the ledger and over the service."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import pty
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchkit import AsyncClient, ManualClock, Query
from batchkit.cli.live import View, bar, since
from batchkit.config import Dialect, Limits
from batchkit.engine.watch import Watched
from batchkit.errors import Interrupted, LedgerBusy, Unfinished, UsageError
from batchkit.model import Batch, Counts, Event, Job, Part, ServiceError, State
from batchkit.tracker.forecast import expected_end, trouble

from .conftest import World, request_lines
from .test_emulator import create, lines, upload
from .test_schemas import validate
from .tools.shell import Shell, emulating, write_lines

TWO = Limits(max_lines=2)


def part(number: int, state: State, batch: Batch | None = None, lines: int = 10) -> Part:
    return Part(f"p{number}", "j", 0, number, state, lines, 4000, "sha", batches=(batch,) if batch else ())


def job(*parts: Part, **changes: Any) -> Job:
    made = Job("j", "nightly", "sha", "https://a", "prod", "/v1/chat/completions", "d", 1000.0, parts=parts)
    return replace(made, **changes)


def running(done: int, failed: int = 0, *, made: float = 1000.0, seen: float = 1600.0) -> Batch:
    return Batch("b", "in_progress", counts=Counts(10, done, failed), created_at=made, looked_at=seen)


def ended(status: str = "completed", code: str = "", *, took: float = 3600.0) -> Batch:
    errors = (ServiceError(code, f"because of {code}"),) if code else ()
    return Batch("b", status, errors=errors, created_at=1000.0, looked_at=1000.0 + took, ended_at=1000.0 + took)


def test_an_end_is_foretold_by_the_jobs_own_pace_and_else_by_earlier_ones() -> None:
    assert expected_end(job(part(0, State.RUNNING, running(5)))) == 1000 + 600 * 2
    slow = job(part(0, State.RUNNING, running(5)), part(1, State.RUNNING, running(1)))
    assert expected_end(slow) == 1000 + 600 * 10
    fresh, earlier = job(part(0, State.RUNNING, running(0))), [job(part(0, State.SETTLED, ended(took=3000)))]
    assert expected_end(fresh) is None
    assert expected_end(fresh, earlier) == 1000 + 3000
    assert expected_end(fresh, [replace(earlier[0], deployment="other")]) is None
    assert expected_end(job(part(0, State.STAGED))) is None
    assert expected_end(job(part(0, State.SETTLED, ended()))) is None


def test_what_is_wrong_is_one_sentence() -> None:
    assert trouble(job(part(0, State.RUNNING, running(5)))) is None
    assert trouble(job(part(0, State.RUNNING, running(5, 2)))) == "2 of 10 rows failed; fetch says why"
    parts = [part(n, State.ENDED, ended("failed", code)) for n, code in enumerate(("a", "b", "b"))]
    assert trouble(job(*parts)) == "3 of 3 batches did not complete, 2 for b: because of b"
    assert trouble(job(part(0, State.ENDED, ended("expired")))) == "1 of 1 batches did not complete, 1 for expired"


def test_a_bar_has_a_mark_a_part_and_shows_the_one_furthest_behind() -> None:
    states = [part(n, state) for n, state in enumerate(State) if state is not State.RUNNING]
    assert bar(states) == "·↑∘?▣■■-"
    assert bar([part(n, State.RUNNING, running(n)) for n in (0, 5, 9)]) == "▁▅█"
    many = [part(n, State.SETTLED) for n in range(300)]
    assert bar(many) == "■" * 30
    many[150] = part(150, State.STAGED)
    assert bar(many) == "■" * 15 + "·" + "■" * 14


def test_the_time_in_a_state_is_counted_from_when_it_was_entered() -> None:
    diary = [Event(1.0, "staged", ""), Event(5.0, "running", "", 0), Event(9.0, "running", "", 1)]
    assert since(job(part(0, State.RUNNING), events=tuple(diary))) == 5.0
    assert since(job(part(0, State.RUNNING))) == 1000.0


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", ["nightly", "x" * 300, "\x1b]0;owned\x07\x1b[31mred", "日本語" * 30])
def test_the_view_fits_and_no_text_of_the_service_drives_the_terminal(width: int, name: str) -> None:
    from rich.cells import cell_len
    from rich.console import Console

    evil = "\x1b]52;c;AAAA\x07\x1b[2J\u202e"
    parts = [part(n, State.RUNNING, running(n % 10)) for n in range(300)]
    view = View(lambda: 2000.0)
    view.watched = [
        Watched(job(*parts, name=name), 2030.0),
        Watched(job(part(0, State.STAGED), name=name), 2030.0),
        Watched(job(part(0, State.ENDED, ended("failed", evil))), None, busy=evil),
    ]
    out = io.StringIO()
    Console(file=out, width=width).print(view)
    text = out.getvalue()
    assert "\x1b]" not in text and "\x1b[2J" not in text and "\x1b[31m" not in text and "\u202e" not in text
    assert "JOB" in text
    assert max(map(cell_len, text.splitlines())) <= width


def test_nothing_is_drawn_before_there_is_a_job() -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out).print(View(lambda: 0.0))
    assert out.getvalue().strip() == ""


def test_several_jobs_are_followed_together(world: World) -> None:
    with world.client(limits=TWO) as client:
        for number in range(3):
            client.submit(request_lines(4), name=f"job-{number}")
        steps = [[item.job.name for item in step] for step in client.watch()]
        assert {tuple(sorted(step)) for step in steps} == {("job-0", "job-1", "job-2")}
        assert {found.state for found in client.list()} == {State.ENDED}
        last = list(client.watch(["job-1"], settled=True))[-1]
        assert last[0].job.outcome is not None
        assert last[0].job.outcome.ok == 4
        with pytest.raises(Unfinished):
            client.submit(request_lines(1), name="late")
            list(client.watch(["late"], timeout_s=100))


def test_one_jobs_trouble_is_not_the_others(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0)
    with world.client() as client:
        client.submit(request_lines(2), name="good")
        client.submit(request_lines(3), name="bad")
        world.service.inject("error,418,call=get_batch", "error,418,call=list_batches")
        last = list(client.watch())[-1]
        assert {item.job.name: item.trouble is not None for item in last} == {"good": True, "bad": True}
        world.service.mend()
        last = list(client.watch())[-1]
    assert all(item.trouble is None and item.job.state is State.ENDED for item in last)


@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_the_service_is_asked_with_the_same_result_with_and_without_filters(world: World, dialect: Dialect) -> None:
    with world.http() as http:
        file_id = upload(http, lines(2)).json()["id"]
        made = []
        for number in range(6):
            made.append(create(http, file_id, metadata={"n": str(number % 2)}).json())
            world.clock.advance(100)
    with world.client(dialect) as client:
        client.submit(request_lines(1), name="ours")

        def ids(**query: Any) -> list[str]:
            return [item.batch.id for item in client.list_remote(Query(**query)).batches]

        newest = [batch["id"] for batch in reversed(made)]
        assert ids()[1:] == newest
        assert ids(name="ou*") == ids()[:1]
        assert ids(since=made[2]["created_at"], until=made[4]["created_at"]) == [made[3]["id"], made[2]["id"]]
        assert ids(since=made[2]["created_at"], until=made[4]["created_at"], oldest_first=True) == [
            made[2]["id"],
            made[3]["id"],
        ]
        assert ids(metadata={"n": "1"}) == newest[::2]
        assert ids(status="COMPLETED") == [batch.id for batch in completed(client)]
        page = client.list_remote(Query(limit=3))
        assert page.after == page.batches[-1].batch.id
        assert [item.batch.id for item in client.list_remote(Query(limit=3, after=page.after)).batches] == ids()[3:6]
        with pytest.raises(UsageError):
            ids(after="batch_none")
        (own,) = client.show_remote("ours")
        assert (own.job, own.batch.id) == ("ours", ids()[0])
        assert client.show_remote(made[0]["id"])[0].batch.status == "completed"


def completed(client: Any) -> list[Batch]:
    return [item.batch for item in client.list_remote().batches if item.batch.status == "completed"]


def test_the_ledger_is_asked_by_target_and_by_times(world: World, clock: ManualClock) -> None:
    with world.client() as client:
        client.run(request_lines(1), name="first")
        middle = clock.now()
        clock.advance(1000)
        client.submit(request_lines(1), name="second")

        def names(**query: Any) -> list[str]:
            return [found.name for found in client.list(Query(**query))]

        assert names() == ["second", "first"]
        assert names(until=middle) == ["first"]
        assert names(since=middle) == ["second"]
        assert names(ended_until=clock.now()) == ["first"]
        assert names(ended_since=clock.now()) == []
        assert names(target="test") == ["second", "first"]
        assert names(target="other") == []


def test_track_and_list_from_the_command_line(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(4))
    with emulating(shell, "--fail-rate", "0", "--deployment", "gpt-4o-batch") as env:
        for name in ("a", "b"):
            assert shell("submit", "lines.jsonl", "--name", name, **env)[0] == 0
        code, out, err = shell("track", "--all", **env)
        assert (code, out.splitlines()) == (0, ["b: completed, 4 of 4 rows done", "a: completed, 4 of 4 rows done"])
        assert "next:  batchkit fetch b -o b-results.csv" in err
        assert shell("track", "a", "b", "--until", "done", **env)[0] == 0
        code, out, _ = shell("list", "--remote", "--csv", **env)
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [(row["status"], row["ok"], row["job"]) for row in rows] == [
            ("completed", "4", "b"),
            ("completed", "4", "a"),
        ]
        code, out, _ = shell("list", "--remote", "--json", "--status", "completed", "--limit", "1", **env)
        document = orjson.loads(out)
        validate("batches", document)
        assert document["after"] == document["batches"][0]["id"]
        code, out, _ = shell("show", "a", "--remote", **env)
        assert "completed" in out
        code, out, _ = shell("track", "a", "--json", **env)
        for line in out.splitlines():
            validate("job", orjson.loads(line))
    for arguments, words in (
        (("track",), "which jobs?"),
        (("track", "a", "--until", "dawn"), "--until is ended or done"),
        (("list", "--status", "finished"), "none of the service's"),
        (("list", "--remote", "--state", "running"), "asked of the ledger"),
        (("list", "--metadata", "a=b"), "asked of batches"),
        (("list", "--remote", "--metadata", "a"), "not key=value"),
    ):
        code, _, err = shell(*arguments)
        assert (code, words in err) == (2, True), err


def test_what_a_job_waits_for_is_said_with_when_it_is_tried_again(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(2))
    with emulating(shell, "--fail-rate", "0", "--fault", "quota,times=1,how=now") as env:
        code, out, _ = shell("submit", "lines.jsonl", "--name", "n", "--no-wait", **env)
        assert (code, "; the next try is at 20" in out) == (7, True), out
        waits = re.compile(r"waiting for quota: .*; the next try is at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
        assert waits.search(shell("show", "n")[1])
        assert waits.search(shell("list")[2])
        code, out, err = shell("track", "n", "--once", **env)
        assert (code, bool(waits.search(out))) == (7, True), out
        said = [line for line in err.splitlines() if waits.search(line)]
        assert len(said) == 1, "each look is said once"


def test_cancel_waits_collects_and_says_what_is_billed(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(40))
    with emulating(shell, "--fail-rate", "0", "--speed", "20") as env:
        assert shell("submit", "lines.jsonl", "--name", "n", **env)[0] == 0
        assert shell("cancel", "n", **env)[0] == 2
        code, out, err = shell("cancel", "n", "--yes", **env)
        assert code == 0, err
        assert "finished: they are billed, and kept" in out
        assert "n: cancelled" in out
        _, shown, _ = shell("show", "n", "--json")
        assert orjson.loads(shown)["outcome"]["total"] == 40
        code, out, _ = shell("cancel", "n", **env)
        assert (code, "n: nothing to cancel" in out) == (0, True), "where nothing is stopped no word is needed"


def test_a_terminal_gets_a_table_and_ctrl_c_leaves_the_job(shell: Shell, tmp_path: Path) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(4))
    with emulating(shell, "--fail-rate", "0", "--speed", "1") as env:
        assert shell("submit", "lines.jsonl", "--name", "nightly", **env)[0] == 0
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(shell.home)
            words = [sys.executable, "-m", "batchkit", "track", "nightly"]
            os.execve(sys.executable, words, {**shell.env, **env, "TERM": "xterm", "COLUMNS": "120"})
        seen = b""
        while b"validating" not in seen:
            seen += os.read(terminal, 65536)
        os.kill(pid, signal.SIGINT)
        try:
            while piece := os.read(terminal, 65536):
                seen += piece
        except OSError:
            pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert b"nightly" in seen and b"LOOK IN" in seen
    assert b"1 batch runs on at the service and will be billed" in seen


def test_following_a_job_that_waits_does_not_ask_all_the_time(make_world: Callable[..., World]) -> None:
    world = make_world(faults=["pending_for,300"], fail_rate=0.0)
    with world.client() as client:
        client.submit(request_lines(2), name="slow", wait=False)
        world.service.calls.clear()
        began = world.clock.now()
        last = list(client.watch(["slow"]))[-1]
        waited = world.clock.now() - began
    assert last[0].job.state is State.ENDED
    assert len(world.service.calls) <= waited / 5 + 20


def test_a_lost_creation_ends_submit_and_cancel(make_world: Callable[..., World]) -> None:
    world = make_world(faults=["error,502,call=create_batch,nth=1"], fail_rate=0.0)
    with world.client() as client:
        client.submit(request_lines(2), name="doubted")
        began = world.clock.now()
        client.submit(request_lines(2), name="doubted")
        client.cancel("doubted")
        assert world.clock.now() - began < 600


def test_a_wish_to_stop_is_no_trouble_of_a_job(world: World) -> None:
    async def life() -> None:
        async with AsyncClient(world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock) as client:
            await client.submit(request_lines(2), name="stopped")
            async for _ in client.watch(["stopped"]):
                client.interrupt()

    with pytest.raises(Interrupted, match="1 batch runs on at the service"):
        asyncio.run(life())


def test_a_file_that_another_command_did_not_write_is_written(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("sku,text\na,one\nb,two\n")
    run = ("run", "rows.csv", "-o", "out.csv", "--name", "n", "-d", "d", "-p", "{text}", "--custom-id", "sku", "--once")
    with emulating(shell, "--fail-rate", "0") as env:
        assert shell(*run, **env)[0] == 7
        assert shell("track", "n", "--until", "done", **env)[0] == 0
        code, out, _ = shell(*run, **env)
    assert (code, "2 rows = 2 ok" in out) == (0, True)
    assert (shell.home / "out.csv").is_file()


def test_what_is_here_can_be_read_while_another_follows_the_job(world: World, tmp_path: Path) -> None:
    out = tmp_path / "so-far.csv"

    def client() -> AsyncClient:
        return AsyncClient(world.target(limits=TWO), ledger=world.home / "ledger.sqlite3", clock=world.clock)

    async def life() -> None:
        async with client() as follower, client() as reader:
            looks = follower.track(await follower.submit(request_lines(4), name="held"))
            await anext(looks)
            with pytest.raises(LedgerBusy) as busy:
                await reader.fetch("held")
            assert "--partial" in busy.value.hint
            report = (await reader.fetch("held", out, partial=True)).report
            assert (report.pending, report.ok, report.balanced) == (4, 0, True)
            async for _ in looks:
                continue
            assert (await reader.fetch("held", out)).report.ok == 4, "the file is known to be ours"

    asyncio.run(life())


def test_a_job_that_is_not_there_needs_no_word(shell: Shell) -> None:
    code, _, err = shell("cancel", "nosuch")
    assert (code, "there is no job 'nosuch'" in err, "--yes" in err) == (2, True, False), err


def test_a_batch_that_names_no_file_of_its_rows_is_waited_for_in_words_and_can_be_ended(shell: Shell) -> None:
    """What one command says is waited for, no other denies, and each names what ends it."""
    write_lines(shell.home / "lines.jsonl", request_lines(1))
    with emulating(shell, "--fault", "drop_rows,1") as env:
        run = ("run", "lines.jsonl", "-o", "o.csv", "--name", "n", "--every", "1", "--timeout", "2")
        code, _, err = shell(*run, **env)
        assert code == 7
        said = [line for line in err.splitlines() if "is not named yet; it is waited for until" in line]
        assert len(said) == 2, "one line while it waits, and how it ended"
        assert err.endswith("batchkit cancel n --give-up ends it without that\n")
        code, _, err = shell("fetch", "n", "-o", "o.csv", **env)
        assert (code, "is not named yet" in err, "cancel n --give-up" in err) == (7, True, True)
        code, out, err = shell("cancel", "n", "--yes", "--no-wait", **env)
        assert (code, "is not named yet" in out, "cancel n --give-up" in err) == (0, True, True)
        assert "batchkit fetch" not in err
        assert shell("cancel", "n", "--yes", "--give-up", **env)[0] == 10
        code, out, _ = shell("fetch", "n", "-o", "o.csv", **env)
        assert (code, "1 missing" in out) == (10, True)
