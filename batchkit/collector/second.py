"""A second process for half of some large work: `python -m MODULE`, told what to do on stdin.

A program of its own, rather than a fork of the caller's: the caller may have threads, and a main module that must not
run twice.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def possible() -> bool:
    """Whether there is a processor for it."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return len(cores) > 1 and bool(sys.executable)


def start(module: str, task: Any) -> subprocess.Popen[bytes]:
    """Run a module of ours, with `task` for its `told()`; what it writes to stdout is for the caller."""
    path = os.pathsep.join([entry or str(Path.cwd()) for entry in sys.path])
    other = subprocess.Popen(  # noqa: S603  (this very program)
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert other.stdin is not None
    with suppress(BrokenPipeError), other.stdin as pipe:
        pickle.dump(task, pipe)
    return other


def told() -> Any:
    """The task of this process."""
    return pickle.load(sys.stdin.buffer)  # noqa: S301  (from our own process)


def stop(other: subprocess.Popen[bytes]) -> None:
    """End it, wherever it stands."""
    other.kill()
    other.wait()
    if other.stdout:
        other.stdout.close()
