"""The first signal stops between two steps, the second at once; both leave a ledger that goes on where it stood."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from batchkit import AsyncClient, Settings
from batchkit.emulator import Emulator
from batchkit.errors import Interrupted
from batchkit.model import State

from .conftest import KEY, World, request_lines
from .tools.processes import Zygote, send, zygote

RUN = """
import fcntl, os, sys, termios
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = sys.argv[1:]
from batchkit.__main__ import main
main()
"""
"""The command, whose controlling terminal is what it was given."""
ROWS = "run rows.csv --custom-id sku --prompt {text} -d gpt-4o-batch".split()
COMMAND = [*ROWS, "--name", "nightly", "-o", "out.csv"]


class Slow(httpx.AsyncBaseTransport):
    """A wire whose answers to creations come when they are let go."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.arrived, self.let_go = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if request.method == "POST" and request.url.path.endswith("/batches"):
            self.arrived.set()
            await self.let_go.wait()
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def interrupt(world: World, grace_s: float, *, answered: bool) -> str:
    """Interrupt a client while a creation is on its way; what it says."""

    async def work() -> str:
        wire = Slow()
        async with AsyncClient(
            world.target(),
            ledger=world.home / "ledger.sqlite3",
            clock=world.clock,
            transport=wire,
            settings=Settings(grace_s=grace_s),
        ) as client:
            doing = asyncio.create_task(client.run(request_lines(2), name="nightly"))
            await wire.arrived.wait()
            client.interrupt()
            await asyncio.sleep(0)
            if answered:
                wire.let_go.set()
            with pytest.raises(Interrupted) as caught:
                await doing
            return str(caught.value)

    return asyncio.run(work())


@pytest.mark.promise("D2")
def test_a_creation_on_its_way_may_finish(world: World) -> None:
    began = time.monotonic()
    words = interrupt(world, 60.0, answered=True)
    assert time.monotonic() - began < 30, "and no longer than it needs"
    assert "1 batch runs on at the service and will be billed" in words
    with world.client() as client:
        assert client.show("nightly").state is State.RUNNING
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert len(world.batches()) == 1


@pytest.mark.promise("D2", "A1")
def test_a_creation_that_takes_too_long_is_left_to_be_found(world: World) -> None:
    words = interrupt(world, 0.05, answered=False)
    assert "will be billed" in words
    with world.client() as client:
        assert client.show("nightly").state is State.SUBMITTING
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert len(world.batches()) == 1


def stopped(start: Zygote, home: Path, dice: random.Random, number: int, *, twice: bool) -> int:
    """Start a job, signal it at a random moment, and check what it leaves; its exit code."""
    command = [*ROWS, "--name", f"job-{number}", "-o", f"out-{number}.csv"]
    kind = dice.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    (pid,) = start.start(command)
    time.sleep(dice.uniform(0.05, 1.0))
    send(pid, kind)
    if twice:
        time.sleep(dice.uniform(0.0, 0.05))
        send(pid, kind)
    ended = start.wait(1)[pid]
    assert ended.code in (0, 128 + kind, -kind), start.log.read_text()
    assert ended.seconds < 12
    ledger = home / "data" / "batchkit" / "ledger.sqlite3"
    if ended.code == 128 + kind and ledger.exists():
        connection = sqlite3.connect(ledger)
        assert connection.execute("SELECT count(*) FROM leases").fetchone() == (0,), "the lease is free"
        connection.close()
    return ended.code


def many(home: Path, service: Emulator, seed: int, count: int) -> None:
    (home / "rows.csv").write_text("sku,text\na,thing\nb,thing\n")
    env = {"AZURE_OPENAI_ENDPOINT": service.url, "AZURE_OPENAI_API_KEY": KEY}
    dice, codes = random.Random(seed), list[int]()
    with service, zygote(home, env) as start:
        for number in range(count):
            codes.append(stopped(start, home, dice, number, twice=number % 3 == 0))
        assert sum(code > 128 for code in codes) > count / 2, codes
        assert "safe in the ledger" in start.log.read_text()
        for number in range(count):
            assert start.run([*ROWS, "--name", f"job-{number}", "-o", f"out-{number}.csv"]) == 0
        assert sum(call.name == "create_batch" for call in service.calls) == count


@pytest.mark.promise("D2")
def test_signals_at_random_moments(tmp_path: Path) -> None:
    many(tmp_path, Emulator(tmp_path / "service", key=KEY, speed=2000, fail_rate=0.0), 1, 8)


@pytest.mark.promise("D2")
def test_a_terminal_that_is_closed_leaves_a_job_that_goes_on(tmp_path: Path) -> None:
    """As when a window is closed: the terminal is gone before the signal comes, and nothing can be said any more."""
    (tmp_path / "rows.csv").write_text("sku,text\na,thing\n")
    with Emulator(tmp_path / "service", key=KEY, speed=60, fail_rate=0.0) as service:
        ours, theirs = os.openpty()
        process = command(tmp_path, service, terminal=theirs)
        os.close(theirs)
        until_created(service, process)
        os.close(ours)
        assert process.wait(20) == 128 + signal.SIGHUP
        connection = sqlite3.connect(tmp_path / "data" / "batchkit" / "ledger.sqlite3")
        assert connection.execute("SELECT count(*) FROM leases").fetchone() == (0,)
        assert connection.execute("SELECT state FROM parts").fetchone() == (State.RUNNING,)
        connection.close()


@pytest.mark.promise("D2")
def test_a_command_under_nohup_stays_when_the_terminal_goes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("sku,text\na,thing\n")
    with Emulator(tmp_path / "service", key=KEY, speed=2000, fail_rate=0.0) as service:
        process = command(tmp_path, service, "nohup")
        until_created(service, process)
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0
    assert (tmp_path / "out.csv").exists()


def command(home: Path, service: Emulator, *before: str, terminal: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """The command as a process that leads a session, on a terminal of its own where there is one."""
    env = {"PATH": os.environ["PATH"], "XDG_DATA_HOME": str(home / "data"), "XDG_CONFIG_HOME": str(home / "config")}
    env |= {"AZURE_OPENAI_ENDPOINT": service.url, "AZURE_OPENAI_API_KEY": KEY}
    return subprocess.Popen(
        [*before, sys.executable, "-c", RUN, "batchkit", *COMMAND],
        cwd=home,
        env=env,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )


def until_created(service: Emulator, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while not any(call.name == "get_batch" for call in service.calls):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.deep
@pytest.mark.promise("D2")
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_signals_at_random_moments(tmp_path: Path, seed: int) -> None:
    many(tmp_path, Emulator(tmp_path / "service", key=KEY, speed=2000, fail_rate=0.0), seed, 20)


NOTEBOOK = """
import json, socket, sys, time
look_up = socket.getaddrinfo
def slow(host, *rest, **kind):
    if "slow.contoso.net" not in str(host):
        return look_up(host, *rest, **kind)
    print("waiting", flush=True)
    time.sleep(60)
socket.getaddrinfo = slow
from batchkit import Client
from tests.conftest import request_lines
with Client(ledger=sys.argv[1]) as client:
    client.run(request_lines(2), name="nightly")
"""
"""A program of somebody's, on a network where names take long to be found."""
NAMED = os.environ | {"OPENAI_BASE_URL": "https://slow.contoso.net/v1", "OPENAI_API_KEY": KEY}


def test_an_interrupted_program_waits_for_no_name(world: World, tmp_path: Path) -> None:
    """Ctrl-C in a Client's call: the program is over at once, and the job goes on from where it stood."""
    program = [sys.executable, "-c", NOTEBOOK, str(tmp_path / "ledger.sqlite3")]
    with subprocess.Popen(program, env=NAMED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert process.returncode == -signal.SIGINT
    assert err.strip().splitlines()[-1].startswith("KeyboardInterrupt: stopped; ")
    with world.client(identity="https://slow.contoso.net/v1") as client:  # nobody holds the lease
        assert client.run(request_lines(2), name="nightly").report.ok == 2


def test_an_interrupted_program_waits_for_no_ledger(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections, and never answers
        ledger = f"postgresql://127.0.0.1:{server.getsockname()[1]}/batchkit"
        program = [sys.executable, "-c", NOTEBOOK, ledger]
        server.settimeout(20)
        with subprocess.Popen(program, env=NAMED, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = server.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=5)
    assert process.returncode == -signal.SIGINT
    assert err.strip().splitlines()[-1].startswith("KeyboardInterrupt: stopped; ")
