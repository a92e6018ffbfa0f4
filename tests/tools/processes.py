"""The command line as real processes, many at once, to be stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Ended:
    """How a process ended: its exit code, negative for a signal, and how many seconds it ran, computed, and was
    `queued_s` for a processor that others had."""

    code: int
    seconds: float
    cpu_s: float
    queued_s: float

    @property
    def waited_s(self) -> float:
        """How many seconds it would have run on a machine of its own, about."""
        return self.seconds - self.queued_s


@dataclass
class Zygote:
    """Starts commands as processes of their own; see zygote.py."""

    process: subprocess.Popen[str]
    log: Path

    def start(self, *commands: list[str]) -> list[int]:
        """Start commands at once; their pids."""
        log = str(self.log)
        return self._start([{"arguments": command, "out": log, "err": log} for command in commands])

    def call(self, arguments: list[str], cwd: Path, env: Mapping[str, str], timeout_s: float) -> tuple[int, str, str]:
        """One command elsewhere: exit code, stdout, stderr."""
        paths = [self.log.with_name(f"{self.log.name}.{name}") for name in ("out", "err")]
        for path in paths:
            path.unlink(missing_ok=True)
        out, err = (str(path) for path in paths)
        (pid,) = self._start([{"arguments": arguments, "out": out, "err": err, "cwd": str(cwd), "env": dict(env)}])
        killer = threading.Timer(timeout_s, send, [pid, signal.SIGKILL])
        killer.start()
        code = self.wait(1)[pid].code
        killer.cancel()
        said, talked = (path.read_bytes().decode() for path in paths)
        return code, said, talked

    def _start(self, commands: list[dict[str, Any]]) -> list[int]:
        assert self.process.stdin is not None
        print(json.dumps(commands), file=self.process.stdin, flush=True)
        pids: list[int] = json.loads(self._line())
        return pids

    def wait(self, count: int) -> dict[int, Ended]:
        """How the next processes to end ended, by pid."""
        ended = [json.loads(self._line()) for _ in range(count)]
        return {pid: Ended(*how) for pid, *how in ended}

    def run(self, command: list[str], kill_after_s: float | None = None) -> int:
        """One command's exit code; SIGKILL comes after so many seconds, if it is still there."""
        (pid,) = self.start(command)
        killer = threading.Timer(kill_after_s or 0.0, send, [pid, signal.SIGKILL])
        if kill_after_s is not None:
            killer.start()
        code = self.wait(1)[pid].code
        killer.cancel()
        return code

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@contextmanager
def zygote(home: Path, env: Mapping[str, str] | None = None) -> Iterator[Zygote]:
    """A loaded process that starts others, whose data lie under `home`."""
    settings = {
        "PATH": os.environ["PATH"],
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    settings["ZYGOTE_LOG"] = str(home / "log")
    command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(
        command,
        env=settings | dict(env or {}),
        cwd=home,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        yield Zygote(process, home / "log")
        assert process.stdin is not None
        process.stdin.close()
