"""Problems of `check` in SARIF 2.1.0 (OASIS), which code scanning and editors read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from batchkit import __version__
from batchkit.model import CheckReport, Problem

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def document(reports: Iterable[CheckReport]) -> dict[str, Any]:
    """The log of one run over these files. Lines are 1-based, bytes 0-based, as in a report."""
    results = [_result(report.path, problem) for report in reports for problem in report.problems]
    rules = [{"id": code} for code in sorted({result["ruleId"] for result in results})]
    driver = {"name": "batchkit", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(path: str, problem: Problem) -> dict[str, Any]:
    region = {"startLine": problem.line or 1, "byteOffset": problem.byte or 0, "byteLength": 0}
    place = {"artifactLocation": {"uri": quote(Path(path).as_posix())}, "region": region}
    return {
        "ruleId": problem.code,
        "level": problem.severity,
        "message": {"text": f"{problem.message}; {problem.fix}"},
        "locations": [{"physicalLocation": place}],
    }
