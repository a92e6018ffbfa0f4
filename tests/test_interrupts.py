"""Ctrl-C in a call of a Client: a short word on what runs on and how to go on, and the same call goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import traceback

import polars  # noqa: F401  (its handler of Ctrl-C wakes nobody who waits)
import pytest

from batchkit import Client, ManualClock

from .conftest import World, request_lines
from .tools.shell import Shell, write_lines


def test_ctrl_c_while_the_emulator_starts_ends_at_once(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(1))
    lock = shell.home / "data" / "batchkit" / "emulator" / "service" / "lock"
    started = shell.start("run", "lines.jsonl", "--emulator", "--speed", "1")
    try:
        while not lock.exists() and started.poll() is None:
            os.sched_yield()
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)
    finally:
        started.kill()
    assert (started.returncode, out, b"Traceback" in err) == (130, b"", False)


class Stopping(ManualClock):
    """A clock at which somebody presses Ctrl-C as soon as anything waits, and again where that was not heard: what runs
    amid a garbage collection swallows every exception."""

    async def sleep(self, seconds: float) -> None:
        while True:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.sleep(10)


@pytest.mark.parametrize("verb", ["run", "track"])
def test_ctrl_c_says_what_runs_on_and_how_to_go_on(world: World, verb: str) -> None:
    lines = request_lines(3)
    with Client(world.target(), ledger=world.home / "ledger.sqlite3", clock=Stopping(world.clock.now())) as client:
        if verb == "track":
            client.submit(lines, name="my job")
        with pytest.raises(KeyboardInterrupt) as stopped:
            client.run(lines, name="my job") if verb == "run" else list(client.track("my job"))
        assert str(stopped.value) == (
            "stopped; job 'my job' is safe in the ledger (1 batch runs on at the service and will be billed); "
            "next: client.track('my job')  # or the same call again to go on; client.cancel('my job') stops it"
        )
        shown = "".join(traceback.format_exception(stopped.value))
        assert "During handling" not in shown
        assert "threading.py" not in shown
        assert client.show("my job").name == "my job", "the client can be used on"
    with world.client() as client:
        assert client.run(lines, name="my job").report.ok == 3
    assert len(world.batches()) == 1
