"""batchkit as a user meets it: commands in a directory of their own, with nothing configured."""

from __future__ import annotations

import csv
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from ..conftest import EXAMPLES, KEY
from ..test_schemas import validate
from .processes import Zygote, zygote

RUN = (
    "run",
    str(EXAMPLES / "packages.csv"),
    "--custom-id",
    "package",
    "--template",
    str(EXAMPLES / "prompt.txt"),
    "-d",
    "gpt-4o-batch",
    "--emulator",
)


Command = Callable[..., tuple[int, str, str]]


@dataclass
class Shell:
    """Runs batchkit in a directory of its own, as a user with nothing configured."""

    home: Path
    env: Mapping[str, str]
    commands: Zygote

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "batchkit", *arguments],
            cwd=self.home,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr. A traceback, or the key, is never right."""
        code, out, err = self.commands.call([*arguments], self.home, {**self.env, **env}, timeout_s=120)
        assert "Traceback" not in out + err
        assert KEY not in out + err
        return code, out, err


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """What starts the commands of all tests, so that each need not be loaded anew."""
    with zygote(tmp_path_factory.mktemp("commands")) as started:
        yield started


@pytest.fixture
def shell(tmp_path: Path, commands: Zygote) -> Shell:
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "SYSTEMROOT")}
    home = tmp_path / "home"
    home.mkdir()
    return Shell(home, {**keep, "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "COLUMNS": "200"}, commands)


@pytest.fixture
def command(commands: Zygote) -> Command:
    """Runs batchkit in a directory: exit code, stdout, stderr."""

    def run(home: Path, *arguments: str) -> tuple[int, str, str]:
        return Shell(home, {"PATH": os.environ["PATH"], "HOME": str(home)}, commands)(*arguments)

    return run


@contextmanager
def emulating(shell: Shell, *arguments: str) -> Iterator[dict[str, str]]:
    """`batchkit emulate` in a second terminal; the environment that its output tells to set."""
    settings = {"BATCHKIT_EMULATOR_KEY": KEY, "BATCHKIT_SPEED": "3000"}  # a flag in `arguments` beats it
    process = shell.start("emulate", "--port", "0", "--json", *arguments, **settings)
    assert process.stdout is not None
    document = orjson.loads(process.stdout.readline())
    validate("emulator", document)
    assert stat.S_IMODE(Path(document["key_file"]).stat().st_mode) == 0o600
    try:
        yield {"AZURE_OPENAI_ENDPOINT": document["url"], "AZURE_OPENAI_API_KEY": KEY}
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
