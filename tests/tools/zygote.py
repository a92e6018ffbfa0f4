"""Starts the command line as real processes without loading it anew each time: a loaded process that forks itself.

Reads a JSON list of commands a line and starts them at once; each is an object of `arguments`, where its output goes
(`out`, `err`: files that are appended to) and, where they differ from its own, `cwd` and `env`. Answers with their
pids, then a line for each that ends: its pid, its exit code (negative for the signal that killed it), how many seconds
it ran and computed, and for how many of them it wanted to compute but others did.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from importlib import import_module
from typing import Any

from typer.testing import CliRunner

from batchkit.cli import app

LATE = (
    "batchkit.client",
    "batchkit.cli.follow",
    "batchkit.cli.jobs",
    "batchkit.cli.look",
    "batchkit.cli.session",
    "batchkit.emulator.serve",
    "psycopg",
)
"""What commands load when they need it."""


def main() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started us
    for name in LATE:
        import_module(name)
    CliRunner().invoke(app, ["check", os.devnull])  # what is only loaded when a command is parsed
    logging.getLogger("batchkit").handlers.clear()
    for line in sys.stdin:
        began, pids = time.monotonic(), [_fork(**command) for command in json.loads(line)]
        print(json.dumps(pids), flush=True)
        for _ in pids:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            seconds, queued = time.monotonic() - began, _queued(ended.si_pid if ended else 0)
            pid, status, used = os.wait3(0)
            computed = used.ru_utime + used.ru_stime
            print(json.dumps([pid, os.waitstatus_to_exitcode(status), seconds, computed, queued]), flush=True)


def _queued(pid: int) -> float:
    """For how many seconds a process, its first thread that is, waited for a processor; zero where nothing tells."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _fork(arguments: list[str], out: str, err: str, cwd: str = ".", env: dict[str, str] | None = None) -> int:
    pid = os.fork()
    if pid:
        return pid
    sys.argv = ["batchkit", *arguments]
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(cwd)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    from batchkit.__main__ import main as run

    code: Any = 0
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
