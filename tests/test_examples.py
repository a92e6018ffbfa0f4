"""The examples do what they say."""

from __future__ import annotations

import importlib.util
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
