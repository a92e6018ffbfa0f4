"""Half of a large merge in a second process: `python -m batchkit.collector.share`, told what to do on stdin.

A program of its own, rather than a fork of the caller's: the caller may have threads, and a main module that must not
run twice.
"""

from __future__ import annotations

import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from batchkit.collector.account import Account
from batchkit.collector.export import lines
from batchkit.disk import PIECE, Workdir, alive, replacing
from batchkit.model import Job

LARGE = 100_000_000
"""Bytes of request lines from which a second process is worth starting."""


class _Task(NamedTuple):
    job: Job
    root: Path
    share: range
    out: Path
    raw: bool


def worthwhile(job: Job) -> bool:
    """Whether a second process is faster."""
    asked = sum(part.bytes for part in job.parts if part.round == 0)
    return asked >= LARGE and len(_cores()) > 1 and bool(sys.executable)


def halves(job: Job, workdir: Workdir, account: Account, *, raw: bool = False) -> Iterator[bytes]:
    """The whole merge as JSON Lines: the first half from here, then the second one from the other process."""
    for stale in workdir.job(job.id).glob("*merged-*"):
        if not alive(int(stale.name.partition("merged-")[2].partition(".")[0])):
            stale.unlink(missing_ok=True)  # of a process that was killed
    middle = job.lines // 2
    behind = workdir.job(job.id) / f"merged-{os.getpid()}.{secrets.token_hex(4)}.jsonl"
    task = _Task(replace(job, events=()), workdir.root, range(middle, job.lines), behind, raw)
    path = os.pathsep.join([entry or str(Path.cwd()) for entry in sys.path])
    other = subprocess.Popen(  # noqa: S603  (this very program)
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert other.stdin is not None
        with suppress(BrokenPipeError), other.stdin as pipe:
            pickle.dump(task, pipe)
        yield from lines(job, workdir, account, range(middle), raw=raw)
        answer = other.stdout.read() if other.stdout else b""
        if other.wait() != 0:  # killed, or no memory: then it is done here
            yield from lines(job, workdir, account, task.share, raw=raw)
            return
        account += pickle.loads(answer)  # noqa: S301  (from our own process)
        with behind.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece
    finally:
        other.kill()
        other.wait()
        if other.stdout:
            other.stdout.close()
        behind.unlink(missing_ok=True)


def _cores() -> set[int]:
    """The processors this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _main() -> None:
    task = pickle.load(sys.stdin.buffer)  # noqa: S301  (from our own process)
    account = Account(task.job.name)
    with replacing(task.out) as file:
        for piece in lines(task.job, Workdir(task.root), account, task.share, raw=task.raw):
            file.write(piece)
    sys.stdout.buffer.write(pickle.dumps(account))


if __name__ == "__main__":
    _main()
