"""Other people's clients cannot tell the emulator from the service: the official SDKs of two languages, and curl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchkit.emulator import Emulator

from .conftest import KEY
from .test_emulator import lines

CLIENTS = Path(__file__).parent / "clients"
INSTALL_S = 180


def live(tmp_path: Path, dialect: str, *command: str, **env: str) -> None:
    """Run one client through the whole life, against an emulator where ten minutes pass in a second."""
    path = tmp_path / "lines.jsonl"
    path.write_bytes(lines(20))
    with Emulator(tmp_path / "service", key=KEY, speed=600, fail_rate=0.0) as service:
        arguments = [*command, service.url, KEY, dialect, str(path)]
        done = subprocess.run(
            arguments, capture_output=True, timeout=120, env={**os.environ, **env}, cwd=tmp_path, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"lived")


def installed(*command: str) -> None:
    """Install a client by its name, or say why its test is left out."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"cannot be installed here: {error}")
    if done.returncode:
        pytest.skip(f"cannot be installed here: {done.stderr.decode()[-200:]}")


@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_the_python_sdk(tmp_path: Path, dialect: str) -> None:
    live(tmp_path, dialect, sys.executable, str(CLIENTS / "life.py"))


@pytest.fixture(scope="session")
def first_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("openai-1")
    installed(sys.executable, "-m", "pip", "install", "-q", "--target", str(target), "openai>=1.54,<2")
    return target


@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_the_python_sdk_of_the_first_generation(tmp_path: Path, first_sdk: Path, dialect: str) -> None:
    live(tmp_path, dialect, sys.executable, str(CLIENTS / "life.py"), PYTHONPATH=str(first_sdk))


@pytest.fixture(scope="session")
def node_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no Node here")
    home = tmp_path_factory.mktemp("openai-node")
    installed("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), "openai")
    shutil.copy(CLIENTS / "life.mjs", home)
    return home


@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_the_node_sdk(tmp_path: Path, node_sdk: Path, dialect: str) -> None:
    live(tmp_path, dialect, "node", str(node_sdk / "life.mjs"))


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_curl(tmp_path: Path, dialect: str) -> None:
    live(tmp_path, dialect, "bash", str(CLIENTS / "life.sh"))
