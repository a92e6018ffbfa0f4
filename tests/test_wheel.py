"""The wheel, as a stranger installs it: without extras it works, and each extra that is missing says its name."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import distribution, requires
from pathlib import Path

import orjson
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import batchkit

from .conftest import request_lines

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]


def needed(package: str, seen: set[str]) -> set[str]:
    """The distributions that one needs, all the way down, without extras."""
    for text in requires(package) or []:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in seen and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            seen.add(name)
            needed(name, seen)
    return seen


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the built wheel, and of all else only what the wheel itself requires.

    The required packages are linked from this environment file by file, so that no index is asked.
    """
    home = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(home)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = home.glob("*.whl")
    venv.create(home / "venv", symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home / "venv"), "platbase": str(home / "venv")}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (metadata,) = site.glob("*.dist-info/METADATA")
    asked = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.read_text().splitlines()
        if line.startswith("Requires-Dist")
    ]
    plain = [Requirement(text).name for text in asked if "extra ==" not in text]
    assert sorted(plain) == ["aiofiles", "httpx", "orjson", "tenacity", "typer"]
    for name in {*plain, *(other for required in plain for other in needed(required, set()))}:
        for file in distribution(name).files or []:
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(str(distribution(name).locate_file(file)))
    return home / "venv" / "bin" / "python"


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """batchkit in that environment."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    env |= {"AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9", "AZURE_OPENAI_API_KEY": "nobody-is-asked"}

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(installed), "-I", "-m", "batchkit", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)

    return start


@pytest.mark.deep
def test_without_extras_rows_are_built_checked_and_tried(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("sku,text\na,tea\nb,soap\n")
    assert run("--version").stdout == f"batchkit {batchkit.__version__}\n"
    assert "emulate" in run("--help").stdout
    built = run("build", "rows.csv", "-o", "lines.jsonl", "-d", "gpt-4o-batch", "-p", "{text}", "--custom-id", "sku")
    assert built.returncode == 0, built.stderr
    assert run("check", "lines.jsonl").returncode == 0
    tried = run("submit", "lines.jsonl", "--dry-run", "--json")
    assert (tried.returncode, orjson.loads(tried.stdout)["ok"]) == (0, True)
    assert run("list").returncode == 0


MISSING = [
    ("parquet", "build rows.parquet -d d -p {a}"),
    ("sql", "build sqlite:///shop.db --sql x -d d -p {a}"),
    ("jinja", "build rows.csv -d d --template prompt.j2"),
    ("tokens", "check lines.jsonl --exact"),
    ("postgres", "list --ledger postgresql://localhost/none"),
    ("emulator", "emulate"),
    ("emulator", "run lines.jsonl --emulator"),
    ("parquet", "run lines.jsonl -o out.parquet"),
    ("entra", "run lines.jsonl --target cloud --config targets.toml"),
    ("keyring", "run lines.jsonl --target ring --config targets.toml"),
]
"""Each extra, and what cannot be done without it."""


@pytest.mark.deep
@pytest.mark.parametrize(("extra", "arguments"), MISSING)
def test_a_missing_extra_says_its_name_in_one_sentence(run: Run, tmp_path: Path, extra: str, arguments: str) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    (tmp_path / "shop.db").touch()
    (tmp_path / "prompt.j2").write_text("{{ a }}")
    (tmp_path / "targets.toml").write_text(
        '[targets.cloud]\nendpoint = "https://contoso.openai.azure.com"\nentra = true\n'
        '[targets.ring]\nendpoint = "https://contoso.openai.azure.com"\nkeyring = "batchkit/ring"\n'
    )
    (tmp_path / "lines.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in request_lines(1)))
    done = run(*arguments.split())
    assert done.returncode == 4, done.stderr
    told, following = done.stderr.strip().splitlines()
    assert told.startswith("error: ")
    assert f".[{extra}]" in following


def test_the_extras_are_those_that_are_tried() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {extra for extra, _ in MISSING} == set(extras) - {"test", "dev"}
