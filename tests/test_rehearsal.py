"""Rehearsals as the README shows them: faults and answers from the command line, and the examples."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from batchkit.emulator.faults import load

from .conftest import World, request_lines
from .test_emulator_answers import local_server
from .test_schemas import validate
from .tools.shell import Shell, emulating

REHEARSE = Path(__file__).parent.parent / "examples" / "rehearse"
ROWS = "sku,text\n" + "".join(f"A{n},article number {n}\n" for n in range(40))
RUN = (
    "run",
    "rows.csv",
    "-o",
    "out.csv",
    "-p",
    "Classify: {text}",
    "-d",
    "gpt-4o-batch",
    "--custom-id",
    "sku",
    "--name",
    "n",
)


def answers(shell: Shell) -> dict[str, str]:
    with (shell.home / "out.csv").open(encoding="utf-8", newline="") as file:
        return {row["custom_id"]: row["text"] or row["error_code"] for row in csv.DictReader(file)}


def test_a_bad_night_from_the_file_of_faults(make_world: Callable[..., World]) -> None:
    world = make_world(faults=load((REHEARSE / "faults.toml").read_text("utf-8")), fail_rate=0.0)
    with world.client() as client:
        report = client.run(request_lines(40), name="nightly").report
    assert (report.ok, report.missing, report.missing_ids[0][:4]) == (39, 1, "row-")
    assert len(world.service.batches) == 1
    struck = {call.status for call in world.service.calls}
    assert {None, 429, 502} <= struck


def test_answers_of_ones_own(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text(ROWS)
    shutil.copy(REHEARSE / "answers.py", shell.home)
    with emulating(shell, "--answers", "answers:answer") as env:
        assert shell(*RUN, **env)[0] == 0
    assert set(answers(shell).values()) == {"4 words"}


def test_a_model_server_behind_the_emulator(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text(ROWS)
    with local_server() as (url, asked), emulating(shell, "--forward", url, "-d", "gpt-4o-batch:llama3") as env:
        code, _, _ = shell(*RUN, **env, BATCHKIT_FORWARD_KEY="local")
    assert code == 8
    assert answers(shell)["A7"] == "CLASSIFY: ARTICLE NUMBER 7"
    assert {call["body"]["model"] for call in asked} == {"llama3"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--fault", "gremlins"), 4, "there is no fault 'gremlins'; there are lose_answer, reset_at,"),
        (("--faults", "none.toml"), 3, "none.toml"),
        (("--faults", "bad.toml"), 4, "bad.toml: there is no fault 'gremlins'"),
        (("--answers", "nothing:here"), 4, "--answers nothing:here: No module named 'nothing'"),
        (("--answers", "json:codecs"), 4, "names no function"),
        (("--answers", "json:loads", "--forward", "http://localhost"), 4, "both say what rows are answered"),
        (("-d", "a:b:c:much"), 4, "'much' is no number of tokens"),
    ],
)
def test_a_wrong_rehearsal_is_told_what_is_right(
    shell: Shell, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (shell.home / "bad.toml").write_text('[[fault]]\nkind = "gremlins"\n')
    seen, _, err = shell("emulate", "--port", "0", *arguments)
    assert (seen, words in err, "next:  " in err) == (code, True, True), err


def test_the_vocabulary_of_faults(shell: Shell) -> None:
    code, out, _ = shell("emulate", "--fault", "help")
    assert code == 0
    assert "lose_answer " in out
    code, out, _ = shell("emulate", "--fault", "help", "--json")
    validate("faults", orjson.loads(out))


def test_the_example_of_a_test(tmp_path: Path) -> None:
    shutil.copy(REHEARSE / "test_nightly.py", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=120, cwd=tmp_path, check=False)
    assert b"1 passed" in done.stdout, done.stdout.decode()
