"""What README.md and examples/README.md tell to type is typed here, and prints what they say.

A block of `sh` runs in bash, of `console` prints what stands below its commands (numbers apart, … for anything), of
`python` runs, of `toml` is loaded by what reads such files. They find a service, rows and what they name; SUBSTITUTIONS
is all that is changed in them. The quick start and the tests' own command are run by `.ci/run`.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars
import pytest

from batchkit.config.prices import read_prices
from batchkit.config.targets import load_target
from batchkit.emulator import Emulator

from .conftest import EXAMPLES, KEY
from .test_schemas import validate

ROOT = Path(__file__).parent.parent
SUBSTITUTIONS = {
    "export AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com": "export AZURE_OPENAI_ENDPOINT=$SERVICE",
    "export AZURE_OPENAI_API_KEY=…": f"export AZURE_OPENAI_API_KEY={KEY}",
    "postgresql://me@host/database": "many-hosts.sqlite3",
    "mail -s": "echo",
    "batchkit emulate": "batchkit emulate --port 0",
    "--once --quiet": "--once --quiet || [ $? -eq 7 ]",  # cron looks at no code; here 7 must not end the block
}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, the comment before it, and its text."""

    where: str
    language: str
    mark: str
    text: str


def blocks() -> Iterator[Block]:
    for name in ("README.md", "examples/README.md"):
        text = (ROOT / name).read_text("utf-8")
        for found in re.finditer(r"^(?:<!-- (\w+) -->\n)?```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(f"{name}:{line}", found[2], found[1] or "", found[3])


BLOCKS = list(blocks())


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if block.language in languages and block.mark not in ("quickstart", "tests")]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.where)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what the blocks name."""
    packages = polars.read_csv(EXAMPLES / "packages.csv", infer_schema=False)
    rows = packages.select(sku="package", shop=polars.lit("S"), description=polars.col("summary").fill_null(""))
    rows.write_csv(tmp_path / "rows.csv")
    rows.write_parquet(tmp_path / "rows.parquet")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("create table items (sku text, description text)")
        database.executemany("insert into items values (?, ?)", [("a", "tea"), ("b", "soap")])
    (tmp_path / "prompt.j2").write_text("Classify: {{ description }}")
    (tmp_path / "photos.csv").write_text("file\nhttps://example.com/a.png\n")
    (tmp_path / "answers.py").write_text("from pydantic import BaseModel\nclass Thing(BaseModel):\n    name: str\n")
    prices = next(block.text for block in BLOCKS if "currency" in block.text)
    (tmp_path / "prices.toml").write_text(prices)
    (tmp_path / "moved").write_text("#!/bin/sh\ncat >/dev/null\n")
    (tmp_path / "moved").chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "batchkit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m batchkit "$@"\n')
    (tmp_path / "bin" / "batchkit").chmod(0o755)
    return tmp_path


@pytest.fixture
def service(place: Path) -> Iterator[Emulator]:
    with Emulator(place / "service", key=KEY, speed=36000.0, fail_rate=0.0) as found:
        yield found


def environment(place: Path, service: Emulator | None = None) -> dict[str, str]:
    home = {"HOME": str(place), "XDG_DATA_HOME": str(place / "data"), "XDG_CONFIG_HOME": str(place / "config")}
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    found = (
        {"SERVICE": service.url, "AZURE_OPENAI_ENDPOINT": service.url, "AZURE_OPENAI_API_KEY": KEY} if service else {}
    )
    return home | {"PATH": path, "LANG": "C.UTF-8", "PYTHONPATH": str(place)} | found


def typed(text: str) -> str:
    for said, meant in SUBSTITUTIONS.items():
        text = text.replace(said, meant)
    return text


@pytest.mark.deep
@of("sh")
def test_commands(block: Block, place: Path, service: Emulator) -> None:
    env = environment(place, service)
    if "fetch nightly" in block.text:
        run = "batchkit run rows.csv -d gpt-4o-batch -p '{description}' --custom-id sku --name nightly -o old.csv"
        subprocess.run(["bash", "-c", run], cwd=place, env=env, check=True, capture_output=True)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed(block.text)], cwd=place, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.deep
@of("console")
def test_commands_and_what_they_print(block: Block, place: Path, service: Emulator) -> None:
    env = environment(place, service)
    for command, expected in sessions(block.text):
        command = typed(command)
        with subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=place,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            if "emulate" in command:
                said = [process.stdout.readline() for _ in expected]
                process.send_signal(signal.SIGINT)
            else:
                said = process.stdout.readlines()
        for line in expected:
            assert any(re.fullmatch(pattern(line), other.rstrip("\n")) for other in said), (line, said)


def sessions(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console, each with what is printed below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, rest = re.sub(r"\\\n\s*", "", part).partition("\n")
        yield command, rest.splitlines()


def pattern(line: str) -> str:
    """What a printed line may look like: with other numbers, anything for …, another status of progress."""
    if line.endswith(" rows done"):
        line = re.sub(r": \w+, ", ": …, ", line)
    pieces = re.split(r"(\d+|…)", line)
    return "".join(r"\d+" if piece.isdigit() else ".*" if piece == "…" else re.escape(piece) for piece in pieces)


MY_JOB = """
import batchkit

def my_job():
    lines = batchkit.lines([{"a": "tea"}], deployment="d", body="Classify: {a}")
    with batchkit.Client(clock=CLOCK) as client:
        return client.run(lines, name="mine").report.failed
"""
"""What the reader of a block about tests has."""


@of("python")
def test_python(block: Block, place: Path, service: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(place, service).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place)
    names: dict[str, Any] = {"__name__": "__main__", "CLOCK": service.clock}
    if "my_job" in block.text:
        exec(MY_JOB, names)
    exec(compile(block.text, block.where, "exec"), names)
    for name in [name for name in names if name.startswith("test_")]:
        names[name](service)
    assert service.batches


@of("toml")
def test_toml(block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "block.toml"
    path.write_text(block.text)
    if "currency" in block.text:
        assert read_prices(path).currency == "USD"
        return
    document = tomllib.loads(block.text)
    validate("targets", document)
    for name in ("WEST_KEY", "PROD_KEY", "LOCAL_KEY", "HOOK_SECRET"):
        monkeypatch.setenv(name, "a-secret-of-this-test")
    key = place / ".keys" / "contoso"
    key.parent.mkdir()
    key.write_text("a-secret-of-this-test")
    key.chmod(0o600)
    monkeypatch.setenv("HOME", str(place))
    for name in document["targets"]:
        assert load_target(name, config=path).name == name


def test_all_blocks_are_of_a_kind_that_is_tried() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "console", "python", "toml"}
    assert {block.mark for block in BLOCKS if block.language == "sh"} >= {"quickstart", "tests"}
    assert textwrap.dedent(BLOCKS[0].text) == BLOCKS[0].text
