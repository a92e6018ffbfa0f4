"""Contenders side by side: each in a fresh process, rounds interleaved, medians, and ratios rather than times.

A contender is a function of a module, named so that a new process can find it, with text arguments:

    from tests.benchmarks.harness import Contender, compare, main

    TABLES = {
        "check": lambda data: compare(
            "check: 100,000 chat lines",
            [
                Contender("json.loads loop", "tests.benchmarks.check:json_loop", data),
                Contender("batchkit", "tests.benchmarks.check:ours", data, at_least={"json.loads loop": 4.0}, rss=60),
            ],
        )
    }

The first contender is what the others are measured against (× = times as fast, by the wall clock). `at_least` holds a
contender to a multiple of another one's speed and `rss` to MB of peak memory; what is missed is marked, and `compare`
says False. A function prints nothing, and returns when its work is done; `prepare_` before its name
is what is called first and not measured, such as imports; a server that it needs is started by the
caller. `python -m tests.benchmarks [TABLE…] [--rounds N] [--scale X]` runs tables; modules of other rooms add theirs to
`tests/benchmarks/__main__.py`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 5


@dataclass(frozen=True)
class Contender:
    """`where` is `module:function`, called with `arguments`."""

    name: str
    where: str
    arguments: Sequence[str | Path] = ()
    at_least: Mapping[str, float] = field(default_factory=dict)
    rss: float | None = None


@dataclass(frozen=True)
class Measure:
    """Seconds by the wall clock and of CPU, and MB of memory at the peak, of the process and of its children."""

    wall: float
    cpu: float
    rss: float


def compare(title: str, contenders: Sequence[Contender], *, rounds: int = ROUNDS) -> bool:
    """Measure, print the table, and say whether every contender reaches what it is held to."""
    taken: dict[str, list[Measure]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        turn = contenders if number % 2 == 0 else list(reversed(contenders))
        for contender in turn:
            taken[contender.name].append(measure(contender))
            if sys.stderr.isatty():
                print(f"\r{title}: round {number + 1} of {rounds}, {contender.name}\033[K", end="\r", file=sys.stderr)
    wall = {name: statistics.median(item.wall for item in found) for name, found in taken.items()}
    cpu = {name: statistics.median(item.cpu for item in found) for name, found in taken.items()}
    rss = {name: max(item.rss for item in found) for name, found in taken.items()}
    first, good = contenders[0].name, True
    print(f"\n{title}\n\n| contender | × | CPU × | peak RSS | held to |\n|---|---|---|---|---|")
    for contender in contenders:
        name, held = contender.name, []
        for other, times in contender.at_least.items():
            reached = wall[other] / wall[name]
            held.append(f"{reached:.2f} of {times} × {other}{'' if reached >= times else ' **missed**'}")
            good &= reached >= times
        if contender.rss is not None:
            held.append(f"under {contender.rss:.0f} MB{'' if rss[name] <= contender.rss else ' **missed**'}")
            good &= rss[name] <= contender.rss
        ratios = f"{wall[first] / wall[name]:.2f} | {cpu[first] / cpu[name]:.2f}"
        print(f"| {name} | {ratios} | {rss[name]:.0f} MB | {'; '.join(held)} |", flush=True)
    return good


def measure(contender: Contender) -> Measure:
    """Run a contender once, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.harness", contender.where, *map(str, contender.arguments)]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    return Measure(**json.loads(done.stdout.splitlines()[-1]))


def durable(path: str) -> None:
    """Wait until a file is on the disk, as it is when batchkit is done; `--dir` on a memory disk leaves that out."""
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())


def _run(where: str, arguments: Sequence[str]) -> Measure:
    name, _, function = where.partition(":")
    module = importlib.import_module(name)
    getattr(module, f"prepare_{function}", lambda: None)()
    work = getattr(module, function)
    began, cpu = time.perf_counter(), _cpu()
    work(*arguments)
    wall, spent = time.perf_counter() - began, _cpu() - cpu
    return Measure(wall, spent, _peak())


def _peak() -> float:
    """MB at the peak, of this process or of its children.

    Linux counts the memory of whoever started a process to that process's `ru_maxrss`, but not to its VmHWM.
    """
    if sys.platform == "linux":
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        own, kib = int(status["VmHWM"].split()[0]), 1 << 10
    else:
        own, kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 1 << 20
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / kib


def _cpu() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    print(json.dumps(vars(_run(sys.argv[1], sys.argv[2:]))))
