"""The real command is killed at random moments, again and again; in the end: one batch a part, and every row."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .tools.processes import zygote

SPEED = 4000
ROWS = 6


def survive(home: Path, kills: int, seed: int) -> int:
    """Jobs are run and killed until so many kills have struck; each is then run to its end and checked."""
    dice, struck, number = random.Random(seed), 0, 0
    rows = home / "rows.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows([("sku", "text"), *((f"sku-{n}", f"thing {n}") for n in range(ROWS))])
    config = home / "config" / "batchkit"
    config.mkdir(parents=True)
    with zygote(home) as start:
        while struck < kills:
            number += 1
            out = home / f"out-{number}.csv"
            command = [
                *("run", str(rows), "-o", str(out), "--name", f"job-{number}", "--custom-id", "sku"),
                *("--prompt", f"{number} {{text}}", "--deployment", "gpt-4o-batch", "--emulator"),
                *("--speed", str(SPEED), "--quiet"),
            ]
            ended = False
            for _ in range(dice.randint(2, 8)):
                code = start.run(command, kill_after_s=dice.uniform(0.0, 0.7))
                struck += code == -signal.SIGKILL
                ended = code in (0, 8)
            if not ended:
                code = start.run(command)
                assert code in (0, 8), (home / "log").read_text()
            with out.open(newline="") as file:
                assert [row["custom_id"] for row in csv.DictReader(file)] == [f"sku-{n}" for n in range(ROWS)]
    check(home, number)
    return struck


def check(home: Path, jobs: int) -> None:
    """One batch a part; every one known to the ledger; nothing of ours left over."""
    emulator = home / "data" / "batchkit" / "emulator"
    batches = [json.loads(path.read_bytes()) for path in (emulator / "service" / "batches").glob("*.json")]
    assert len(batches) == len({batch["metadata"]["batchkit_part"] for batch in batches}) == jobs
    assert all(batch["cancel_at"] is None for batch in batches)
    known = _shown(home, jobs)
    assert {batch["id"] for batch in batches} == known
    strays = [path for path in home.rglob("*") if path.name.endswith(".part") or path.name.startswith(".staging")]
    assert strays == []


def _shown(home: Path, jobs: int) -> set[str]:
    env = {**os.environ, "XDG_DATA_HOME": str(home / "data")}
    command = [sys.executable, "-m", "batchkit", "list", "--emulator", "--json", "--limit", str(jobs + 1)]
    shown: dict[str, Any] = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    assert len(shown["jobs"]) == jobs
    assert {job["state"] for job in shown["jobs"]} == {"settled"}
    return {batch["id"] for job in shown["jobs"] for part in job["parts"] for batch in part["batches"]}


@pytest.mark.promise("A3", "D7")
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_the_command_25_times(tmp_path: Path, seed: int) -> None:
    assert survive(tmp_path, 25, seed) >= 25


@pytest.mark.deep
@pytest.mark.promise("A3", "D7")
@pytest.mark.parametrize("seed", range(3, 13))
def test_kill_the_command_100_times(tmp_path: Path, seed: int) -> None:
    assert survive(tmp_path, 100, seed) >= 100
