"""A nightly job under test on a bad night: `pytest examples/rehearse` with `global-batchkit[emulator]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import batchkit

ROWS = [{"sku": f"A{n}", "text": f"article {n}"} for n in range(40)]


def nightly(out: Path, **options: Any) -> int:
    """The job: every row is asked about once, however often this is called."""
    lines = batchkit.lines(ROWS, deployment="gpt-4o-batch", custom_id="sku", body="Classify: {text}")
    with batchkit.Client(**options) as client:
        return client.run(lines, name="nightly", out=out).report.ok


def test_a_lost_answer_is_not_paid_twice(batchkit_emulator: Any, tmp_path: Path) -> None:
    batchkit_emulator.inject("lose_answer,nth=1", "throttle,2,rate=0.2", "reset_at,100,call=content,nth=1")
    for _ in range(2):
        assert nightly(tmp_path / "out.csv", clock=batchkit_emulator.clock) == 40
    assert len(batchkit_emulator.batches) == 1
