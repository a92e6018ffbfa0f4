"""Many at once on one job: one works, the others leave at once; who was stopped and comes back does no harm."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchkit.emulator import Emulator
from batchkit.ledger import open_ledger

from .conftest import KEY, World
from .tools.postgres import database
from .tools.processes import ROOT, Zygote, send, zygote

ROWS = 6
RUN = "run rows.csv --custom-id sku --prompt {text} -d gpt-4o-batch --quiet".split()
COMMAND = [*RUN, "--name", "nightly", "-o", "out.csv"]


@pytest.fixture
def service(tmp_path: Path) -> Emulator:
    return Emulator(tmp_path / "service", key=KEY, speed=600, fail_rate=0.0)


def surroundings(home: Path, service: Emulator, ledger: str = "") -> dict[str, str]:
    (home / "rows.csv").write_text("sku,text\n" + "".join(f"sku-{n},thing {n}\n" for n in range(ROWS)))
    env = {"AZURE_OPENAI_ENDPOINT": service.url, "AZURE_OPENAI_API_KEY": KEY}
    return env | ({"BATCHKIT_LEDGER": ledger} if ledger else {})


def creations(service: Emulator) -> int:
    return sum(call.name == "create_batch" for call in service.calls)


PATIENT_S = 2.0
"""How long a command that finds a job busy may take, not counting what it waits for a processor that others have."""


def race(start: Zygote, count: int, *flags: str) -> tuple[int, list[float]]:
    """So many at once: how many did not find the job busy, and how long those took that did."""
    pids = start.start(*[[*COMMAND, *flags]] * count)
    ended = start.wait(count)
    assert set(ended) == set(pids)
    codes = [end.code for end in ended.values()]
    assert set(codes) <= {0, 7, 9}, start.log.read_text()
    return sum(code != 9 for code in codes), [end.waited_s for end in ended.values() if end.code == 9]


@pytest.mark.promise("A8")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_eight_crons_at_once(tmp_path: Path, service: Emulator, kind: str, request: pytest.FixtureRequest) -> None:
    ledger = database(request.getfixturevalue("postgres"), "overlap") if kind == "postgresql" else ""
    with service, zygote(tmp_path, surroundings(tmp_path, service, ledger)) as start:
        busy: list[float] = []
        for _ in range(2):
            worked, waited = race(start, 8, "--once")
            assert worked >= 1
            busy += waited
        worked, waited = race(start, 8)
        assert start.run(COMMAND) == 0
        assert creations(service) == 1
    assert busy + waited
    assert max(busy + waited) < PATIENT_S


@pytest.mark.promise("A8")
def test_a_holder_that_is_stopped_keeps_its_job_and_goes_on(tmp_path: Path, service: Emulator, postgres: str) -> None:
    """On one host a stopped process is alive: nobody takes its place, however long it sleeps."""
    ledger = database(postgres, "stopped")
    with service:
        env = surroundings(tmp_path, service, ledger)
        with zygote(tmp_path, env) as start, zygote(tmp_path, env) as others:
            dice = random.Random(5)
            for number in range(3):
                command = [*RUN, "--name", f"job-{number}", "-o", f"out-{number}.csv"]
                (holder,) = start.start(command)
                until_held(ledger, holder)
                time.sleep(dice.uniform(0.0, 0.2))
                send(holder, signal.SIGSTOP)
                others.start(command, command)
                ended = others.wait(2)
                assert {end.code for end in ended.values()} == {9}, others.log.read_text()
                assert max(end.waited_s for end in ended.values()) < PATIENT_S
                send(holder, signal.SIGCONT)
                assert start.wait(1)[holder].code == 0
        assert creations(service) == 3


def until_held(ledger: str, pid: int) -> None:
    """Wait until a process holds a lease."""

    async def held() -> bool:
        book, _ = open_ledger(ledger)
        try:
            owners = await book.store.run(lambda tx: tx.rows("SELECT owner FROM leases"))
        finally:
            await book.close()
        return any(row["owner"].split("/")[2] == str(pid) for row in owners)

    until = time.monotonic() + 20
    while not asyncio.run(held()):
        assert time.monotonic() < until
        time.sleep(0.02)


def worker(host: str, ledger: str, url: str, home: Path) -> subprocess.Popen[str]:
    home.mkdir()
    command = [sys.executable, "-m", "tests.tools.worker", host, ledger, url, str(home)]
    env = {**os.environ, "XDG_DATA_HOME": str(home)}
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE)


@pytest.mark.promise("A8")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.deep), pytest.param(3, marks=pytest.mark.deep)])
def test_a_worker_on_another_host_takes_over_from_one_that_is_stopped(
    make_world: Callable[..., World], tmp_path: Path, postgres: str, seed: int
) -> None:
    """Three hosts work on the same jobs; whoever holds one is stopped for longer than its lease lasts, then goes on."""
    ledger, dice = database(postgres, f"hosts-{seed}"), random.Random(seed)
    with Emulator(tmp_path / "service", key=KEY, speed=200, fail_rate=0.0) as service:
        workers = [worker(f"host-{n}", ledger, service.url, tmp_path / f"host-{n}") for n in range(3)]
        stopped = 0
        until = time.monotonic() + 60
        while any(process.poll() is None for process in workers):
            assert time.monotonic() < until, "the jobs do not end"
            time.sleep(dice.uniform(0.1, 0.5))
            victim = dice.choice(workers)
            if stopped < (4 if seed == 1 else 6) and victim.poll() is None:
                send_to(victim, signal.SIGSTOP)
                time.sleep(dice.choice([0.05, 2.0]))  # a lease is gone for others after 1.5 seconds
                send_to(victim, signal.SIGCONT)
                stopped += 1
        assert [process.wait() for process in workers] == [0, 0, 0]
        texts = [process.communicate()[0] for process in workers]
        assert all(text.count("done") == 3 for text in texts), texts
        assert stopped >= 3
        assert creations(service) == 3 * 2


def send_to(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
