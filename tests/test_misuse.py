"""What a caller gets wrong is said before anything is spent, and nothing secret is shown meanwhile."""

from __future__ import annotations

import pydoc
from collections.abc import Mapping
from typing import Any

import pytest

import batchkit
from batchkit import InputError, Settings, Unavailable

from .conftest import KEY, World, request_lines
from .shell import Shell, emulating


def prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": row["a"]}]}


def test_a_column_that_results_will_not_have_leaves_no_job(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a\n1\n")
    run = ("run", "rows.csv", "-o", "out.csv", "--name", "nightly", "-p", "{a}", "-d", "gpt-4o-batch", "--emulator")
    code, _, err = shell(*run, "--columns", "text,nope")
    assert (code, "nope" in err) == (2, True)
    assert "nightly" not in shell("list", "--emulator")[1]
    assert shell(*run, "--columns", "text", "--speed", "3000")[0] in (0, 8)


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
