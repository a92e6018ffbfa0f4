"""What users write is typed: the README's Python and the examples pass `mypy --strict` against batchkit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parent.parent
WITHOUT_TYPES = {"airflow_dag.py", "dagster_assets.py"}
"""They import schedulers that need not be installed, and whose decorators are unknown then."""


@pytest.mark.deep
def test_user_code_is_typed(tmp_path: Path) -> None:
    paths = [path for path in (ROOT / "examples").rglob("*.py") if path.name not in WITHOUT_TYPES]
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ):
        if "my_job" in block:  # the reader's own
            continue
        paths.append(tmp_path / f"readme_{number}.py")
        paths[-1].write_text(block)
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import batchkit\n\nwith batchkit.Client() as client:\n    client.show('nightly').nmae\n")
    strict = ["--strict", "--config-file=", "--no-incremental", f"--cache-dir={tmp_path / 'cache'}"]
    said, _, code = api.run([*strict, *map(str, paths)])
    assert code == 0, said
    assert '"Job" has no attribute "nmae"' in api.run([*strict, str(wrong)])[0], "types are seen at all"
    said, _, code = api.run(
        [
            *strict,
            "--ignore-missing-imports",
            "--allow-untyped-decorators",
            *(str(ROOT / "examples/etl" / name) for name in sorted(WITHOUT_TYPES)),
        ]
    )
    assert code == 0, said
