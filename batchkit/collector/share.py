"""Half of the parts of a large merge in a second process: `python -m batchkit.collector.share`."""

from __future__ import annotations

import os
import pickle
import secrets
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from batchkit.collector import second
from batchkit.collector.account import Account
from batchkit.collector.export import lines
from batchkit.disk import PIECE, Workdir, alive, replacing
from batchkit.model import Job

LARGE = 100_000_000
"""Bytes of request lines from which a second process is worth starting."""


class _Task(NamedTuple):
    job: Job
    root: Path
    out: Path
    raw: bool


def worthwhile(job: Job) -> bool:
    """Whether a second process is faster. Later rounds run across parts, so that they cannot be taken apart."""
    large = sum(part.bytes for part in job.parts) >= LARGE
    return large and len(job.parts) > 1 and job.round == 0 and second.possible()


def halves(job: Job, workdir: Workdir, account: Account, *, raw: bool = False) -> Generator[bytes, None, None]:
    """The whole merge as JSON Lines: the first parts from here, then the others from the other process."""
    for stale in workdir.job(job.id).glob("*merged-*"):
        if not alive(int(stale.name.partition("merged-")[2].partition(".")[0])):
            stale.unlink(missing_ok=True)  # of a process that was killed
    middle = _middle([part.lines for part in job.parts])
    here, there = (replace(job, parts=parts, events=()) for parts in (job.parts[:middle], job.parts[middle:]))
    behind = workdir.job(job.id) / f"merged-{os.getpid()}.{secrets.token_hex(4)}.jsonl"
    other = second.start(__name__, _Task(there, workdir.root, behind, raw))
    try:
        yield from lines(here, workdir, account, raw=raw)
        answer = other.stdout.read() if other.stdout else b""
        if other.wait() != 0:  # killed, or no memory: then it is done here
            yield from lines(there, workdir, account, raw=raw)
            return
        account += pickle.loads(answer)  # noqa: S301  (from our own process)
        with behind.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece
    finally:
        second.stop(other)
        behind.unlink(missing_ok=True)


def _middle(sizes: Sequence[int]) -> int:
    """The part at which the second half begins, as near to the middle as parts allow."""
    ends = [*accumulate(sizes)]
    return 1 + min(range(len(sizes) - 1), key=lambda index: abs(2 * ends[index] - ends[-1]))


def _main() -> None:
    task: _Task = second.told()
    account = Account(task.job.name)
    with replacing(task.out) as file:
        for piece in lines(task.job, Workdir(task.root), account, raw=task.raw):
            file.write(piece)
    sys.stdout.buffer.write(pickle.dumps(account))


if __name__ == "__main__":
    _main()
