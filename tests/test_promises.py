"""Every promise about submitting once has tests that bear its name; `pytest --promises` counts their cases."""

from __future__ import annotations

import re
from pathlib import Path

SUBMITTING = {f"A{number}" for number in range(1, 12)}


def test_every_promise_about_submitting_has_a_test() -> None:
    texts = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    marked = {
        name
        for text in texts
        for marks in re.findall(r"mark\.promise\(([^)]*)\)", text)
        for name in re.findall(r"[A-G]\d+", marks)
    }
    assert SUBMITTING - marked == set()
