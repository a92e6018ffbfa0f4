"""The examples do what they say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import polars
import pytest

from .conftest import World

ETL = Path(__file__).parent.parent / "examples" / "etl"


@pytest.fixture
def nightly(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ETL))
    spec = importlib.util.spec_from_file_location("nightly", ETL / "nightly.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nightly", module)
    spec.loader.exec_module(module)
    return module


def test_the_pipeline_step_resumes_rather_than_pays_again(
    make_world: Callable[..., World], nightly: ModuleType, tmp_path: Path
) -> None:
    world = make_world(fail_rate=0.0)
    products = polars.DataFrame(
        {"sku": ["a", "b", "c"], "name": ["tea", "soap", "rye"], "description": ["green", "hard", "bread"]}
    )
    for _ in range(2):
        with world.client() as client:
            answers = nightly.label(products, "2025-11-22", tmp_path, client)
    assert len(world.batches()) == 1
    assert answers.select("sku", "name", "ok").rows() == [("a", "tea", True), ("b", "soap", True), ("c", "rye", True)]
    assert (tmp_path / "2025-11-22.parquet").is_file()


@pytest.mark.parametrize(("code", "told"), [(0, ""), (6, ""), (7, ""), (8, "error: 8"), (10, "error: 10")])
def test_the_quieter_line_of_the_crontab_tells_all_but_an_outage(tmp_path: Path, code: int, told: str) -> None:
    lines = (ETL.parent / "cron" / "crontab").read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("#   said=")).removeprefix("#   ")
    stub = tmp_path / "batchkit"
    stub.write_text(f"#!/bin/bash\necho out\n[ {code} = 0 -o {code} = 7 ] || echo error: {code} >&2\nexit {code}\n")
    stub.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (told, "")
