"""The face: help, completion, errors and documentation agree with what the commands really take."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

import batchkit
from batchkit import AsyncClient, Client, InputError, ManualClock, errors
from batchkit.cli import app, commands, main, slips
from batchkit.cli.commands import COMMANDS, load
from batchkit.cli.rehearsal import home
from batchkit.errors import BatchkitError
from batchkit.notify import environment

from .conftest import World, request_lines
from .test_schemas import validate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
_BOXES = str.maketrans(dict.fromkeys("│╭╮╰╯─"))


def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command, or those of a group, by what is typed."""
    children = getattr(command, "commands", None)
    if not children:
        yield name, command
    for child, found in (children or {}).items():
        yield from walk(f"{name} {child}", found)


LOADED = {typed: found for name in commands.COMMANDS for typed, found in walk(name, commands.load(name))}
OPTIONS = [(name, option) for name, found in LOADED.items() for option in found.params]


def subclasses(kind: type[BatchkitError]) -> Iterator[type[BatchkitError]]:
    for child in kind.__subclasses__():
        if not child.__name__.startswith("_"):
            yield child
        yield from subclasses(child)


ERRORS = sorted(subclasses(BatchkitError), key=str)


@pytest.mark.parametrize("name", sorted(LOADED))
def test_a_command_says_what_it_does_and_how_it_is_typed(name: str) -> None:
    found = LOADED[name]
    assert found.help
    assert re.match(rf"Example: batchkit {name}\b", found.epilog or ""), "the example of a command is of that command"
    assert f"batchkit {name.split()[0]}" in README, "the README shows every command"
    assert re.search(rf"\b{name.split()[-1]}\b", README)
    if name in commands.COMMANDS:
        assert found.help.startswith(commands.COMMANDS[name][2].rstrip("."))


@pytest.mark.parametrize("name", sorted(LOADED))
def test_the_example_of_a_command_fits_a_line(name: str) -> None:
    assert len(LOADED[name].epilog) <= 78, "at 80 columns"


@pytest.mark.parametrize("name", sorted(LOADED))
def test_the_example_of_a_command_is_one_that_it_takes(name: str) -> None:
    words = shlex.split(LOADED[name].epilog.removeprefix("Example: batchkit "))[len(name.split()) :]
    LOADED[name].make_context(name, words)


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_every_flag_and_argument_is_explained(name: str, option: Any) -> None:
    assert option.help, f"{name} {option.opts}"
    assert "[default" not in option.help, "brackets of a help text are taken for markup"
    if option.param_type_name == "option":
        assert option.envvar == commands.environment_form(option)


def test_help_shows_every_flag_with_its_default() -> None:
    env = {**os.environ, "COLUMNS": "200", "TERM": "dumb"}
    done = subprocess.run([sys.executable, "-m", "batchkit", "run", "--help"], env=env, capture_output=True, check=True)
    text = " ".join(done.stdout.decode().translate(_BOXES).split())
    for option in LOADED["run"].params:
        assert not option.opts[0].startswith("--") or option.opts[0] in text
    assert "[default: stdout]" in text
    assert "<bool>" not in text
    assert "Usage: batchkit run [OPTIONS] [ROWS|LINES]" in text
    assert "From rows to request lines" in text


def test_the_readme_has_the_rule_of_the_environment_and_every_exit_code() -> None:
    assert "BATCHKIT_<FLAG>" in README
    for kind in subclasses(BatchkitError):
        assert re.search(rf"\b{kind.exit}\b", README), kind
    assert app.info.epilog is not None
    assert {str(kind.exit) for kind in subclasses(BatchkitError)} <= set(re.findall(r"\d+", str(app.info.epilog)))


def test_what_a_notice_sets_is_no_flags_form(world: World) -> None:
    forms = {commands.environment_form(option) for _, option in OPTIONS if option.param_type_name == "option"}
    with world.client() as client:
        job = client.submit(request_lines(1), name="told")
    given = environment({}, job, [])
    assert given["BATCHKIT_JOB"] == "told"
    assert not forms & set(given)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_sentence_a_next_step_and_a_name(kind: type[BatchkitError]) -> None:
    error = kind()
    assert str(error).endswith(".")
    assert error.hint
    assert re.fullmatch(r"[a-z]+(\.[a-z_]+)?", error.code)
    assert kind.__name__ in (errors.__doc__ or ""), "the tree shows it"
    assert list(subclasses(BatchkitError)).count(kind) == 1
    assert [other.code for other in subclasses(BatchkitError)].count(kind.code) == 1


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["run", "--foo"], "no such option: --foo", "batchkit run --help"),
        (
            ["submit", "lines.jsonl", "-d", "gpt"],
            "no such option: -d; -d/--deployment is a flag of run, build, doctor, emulate",
            "request lines hold it: batchkit build ROWS -o LINES -d …, or batchkit run, which does it all",
        ),
        (["track", "-n", "x"], "no such option: -n; --name", "a job is named without a flag: batchkit track JOB"),
        (
            ["fetch", "x", "--output=y"],
            "no such option: --output; here it is -o/--out",
            "is -o/--out meant? batchkit fetch --help",
        ),
        (
            ["doctor", "--api-key", "x"],
            "no such option: --api-key",
            "no flag takes a key: export AZURE_OPENAI_API_KEY, or name a key_file in the targets file",
        ),
        (["rnu"], "no such command 'rnu'", "batchkit --help"),
        (["show"], "missing argument 'JOB'", "batchkit show --help"),
        (["list", "--limit", "x"], "invalid value for '--limit'", "batchkit list --help"),
    ],
)
def test_the_parsers_errors_are_told_as_all_others(
    arguments: list[str],
    words: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    for as_json in (False, True):
        monkeypatch.setattr(sys, "argv", ["batchkit", *arguments, *["--json"] * as_json])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsysbinary.readouterr()
        assert (ended.value.code, out) == (2, b"")
        if as_json:
            document = orjson.loads(err)
            validate("error", document)
            assert words in document["message"]
            assert document["hint"] == hint
        else:
            assert err.decode().startswith(f"error: {words}")
            assert err.decode().endswith(f"next:  {hint}\n")


def test_what_is_said_of_a_misplaced_flag_is_true() -> None:
    flags = {name: {flag for option in load(name).params for flag in option.opts} for name in COMMANDS}
    assert set(slips.SPELT.values()) <= set().union(*flags.values())
    for flag, told in slips.INSTEAD.items():
        assert [name for name in told if flag in flags[name]] == [], f"{flag} is there"


def complete(words: str, home: Path) -> list[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    asked = {"_BATCHKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run([sys.executable, "-m", "batchkit"], env=env | asked, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split()


def test_the_shell_completes_names_of_jobs_and_targets_offline(
    tmp_path: Path, clock: ManualClock, world: World
) -> None:
    directory = tmp_path / "batchkit"
    directory.mkdir()
    (directory / "targets.toml").write_text('[targets.prod]\nendpoint = "https://contoso.openai.azure.com"\n')
    with Client(world.target(), ledger=directory / "ledger.sqlite3", clock=clock) as client:
        client.submit(request_lines(1), name="nightly")
    assert complete("batchkit show n", tmp_path) == ["nightly"]
    assert complete("batchkit track nightly x", tmp_path) == []
    assert complete("batchkit list -t p", tmp_path) == ["prod"]
    assert complete("batchkit fetch nightly --part", tmp_path) == ["--partial"]
    (directory / "ledger.sqlite3").write_bytes(b"no ledger at all")
    assert complete("batchkit show n", tmp_path) == []


@pytest.mark.parametrize("name", batchkit.__all__)
def test_public_names_say_what_they_are(name: str) -> None:
    found = getattr(batchkit, name)
    about = inspect.getdoc(found)
    assert about
    assert about.rstrip().endswith((".", ")", "`")), name
    assert not about.startswith(f"{name}("), "a docstring, and not what dataclass puts there"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_clients_methods_say_what_they_do_and_raise(kind: type) -> None:
    other = AsyncClient if kind is Client else Client
    verbs = {name for name, found in inspect.getmembers(kind, callable) if not name.startswith("_")}
    assert verbs - {name for name in dir(other) if not name.startswith("_")} <= {"interrupt"}
    for name in verbs:
        about = inspect.getdoc(getattr(kind, name))
        assert about, name
        same = inspect.getdoc(getattr(other, name)) if hasattr(other, name) else about
        assert name == "close" or about == same, "the two clients say the same, each where it is read"
        assert name in ("close", "interrupt") or re.search(r"[Rr]aises\b", about), f"{name} does not say what it raises"
        assert f"{name}" in README, name


def test_contributing_says_what_is_public() -> None:
    assert "## What is public" in CONTRIBUTING
    assert typer.main.get_command(app).name == "batchkit"


def test_lines_used_twice_say_so_rather_than_that_there_are_no_rows(world: World) -> None:
    rows = ({"a": str(number)} for number in range(2))
    lines = batchkit.lines(rows, deployment="d", body="{a}")
    with world.client() as client:
        assert client.submit(lines, name="first").lines == 2
        with pytest.raises(InputError, match="used before"):
            client.submit(lines, name="second")
        again = batchkit.lines([{"a": "1"}], deployment="d", body="{a}")
        assert [client.submit(again, name=name).lines for name in ("third", "fourth")] == [1, 1]


def test_rehearsals_of_two_ledgers_have_two_homes(tmp_path: Path) -> None:
    ledgers = [
        None,
        str(tmp_path / "x.db"),
        str(tmp_path / "x.sqlite3"),
        "postgresql://me:pw@host/a",
        "postgresql://host/b",
    ]
    homes = [home(ledger) for ledger in ledgers]
    assert len(set(homes)) == len(ledgers)
    assert not any("pw" in str(home) for home in homes)
    assert home(f"sqlite://{tmp_path}/x.db") == homes[1]


def test_list_shows_how_many_rows_are_missing(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world(faults=["drop_rows,1"])
    with world.client() as client:
        client.run(request_lines(3), name="lossy")
    monkeypatch.setattr(sys, "argv", ["batchkit", "list", "--ledger", str(world.home / "ledger.sqlite3")])
    with pytest.raises(SystemExit):
        main()
    header, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert row[header.index("MISSING")] == "3"


def test_the_recording_is_small_and_needs_nothing_from_elsewhere() -> None:
    picture = (ROOT / "examples" / "quickstart" / "recording.svg").read_text("utf-8")
    assert "(examples/quickstart/recording.svg)" in README
    assert len(picture) < 10_000
    outside = re.findall(r"(?:https?:|href|src=|url\(|@import|<script)[\w./:]*", picture)
    assert outside == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme:dark" in picture
