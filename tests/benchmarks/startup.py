"""How long until a command does something: against an empty Typer app, and an empty interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .harness import Contender, compare

HERE = "tests.benchmarks.startup"
TIMES = 5
"""Starts a measurement: one alone is too short to be told from noise."""
_EMPTY = 'import typer\napp = typer.Typer()\n@app.command()\ndef go(name: str = "x") -> None: "Go."\napp()\n'
_BUSY = "import time\nend = time.process_time() + 0.06\nwhile time.process_time() < end: pass"


def table_startup(directory: Path, scale: float, rounds: int) -> bool:
    """`--help`, `run --once` with nothing due, and `import batchkit`. `scale` is of no use here."""
    script, home = directory / "empty_typer.py", directory / "startup-home"
    script.write_text(_EMPTY)
    empty = "empty Typer app"
    good = compare(
        "start-up: --help",
        [
            Contender(f"{empty} --help", f"{HERE}:start", [home, script, "--help"]),
            Contender(
                "batchkit --help", f"{HERE}:start", [home, "-m", "batchkit", "--help"], {f"{empty} --help": 0.77}
            ),
        ],
        rounds=rounds,
    )
    good &= compare(
        "start-up: nothing is due",
        [
            Contender(empty, f"{HERE}:start", [home, script]),
            Contender("batchkit run --once", f"{HERE}:start", [home, "-m", "batchkit", "run", "--once"], {empty: 0.67}),
        ],
        rounds=rounds,
    )
    pause = "an interpreter, and 60 ms"
    return good & compare(
        "start-up: the library",
        [
            Contender(pause, f"{HERE}:start", [home, "-c", _BUSY]),
            Contender("import batchkit", f"{HERE}:start", [home, "-c", "import batchkit"], {pause: 1.0}),
        ],
        rounds=rounds,
    )


def start(home: str, *arguments: str) -> None:
    """Python, some times."""
    env = {"PATH": os.environ["PATH"], "HOME": home, "XDG_DATA_HOME": home}
    for _ in range(TIMES):
        subprocess.run([sys.executable, *arguments], env=env, check=True, stdout=subprocess.DEVNULL)
