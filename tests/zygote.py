"""Starts the command line as real processes without loading it anew each time: a loaded process that forks itself.

Reads a JSON list of commands a line, each a list of arguments, and starts them at once. Answers with their pids, then a
line for each that ends: its pid, its exit code (negative for the signal that killed it), and how many seconds it ran
and computed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module

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
    for name in LATE:
        import_module(name)
    CliRunner().invoke(app, ["check", os.devnull])  # what is only loaded when a command is parsed
    for line in sys.stdin:
        began, pids = time.monotonic(), [_fork(arguments) for arguments in json.loads(line)]
        print(json.dumps(pids), flush=True)
        for _ in pids:
            pid, status, used = os.wait3(0)
            seconds = time.monotonic() - began, used.ru_utime + used.ru_stime
            print(json.dumps([pid, os.waitstatus_to_exitcode(status), *seconds]), flush=True)


def _fork(arguments: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    sys.argv = ["batchkit", *arguments]
    sink = os.open(os.devnull, os.O_RDWR)
    log = os.open(os.environ["ZYGOTE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for old, new in ((0, sink), (1, log), (2, log)):
        os.dup2(new, old)
    from batchkit.__main__ import main as run

    try:
        run()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1 if end.code else 0)
    os._exit(0)


if __name__ == "__main__":
    main()
