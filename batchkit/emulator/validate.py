"""An input file judged as the service does it while a batch is `validating`. Pure reading; runs in a worker thread.

Codes are those of the guide's table of validation failures. The literal message is public for `empty_file` and for
the file with a BOM; the other sentences are ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"
NO_DEPLOYMENT = (
    "Validation failed: A valid model deployment name couldn't be extracted from the input file. Please ensure that "
    "each row in the input file has a valid deployment name specified in the 'model' field, and that the deployment "
    "name is consistent across all rows."
)
EMPTY = "The input file is empty. Please ensure that the batch contains at least one request."
MOST_ERRORS = 50


@dataclass
class Summary:
    """What was found: `lines` requests for `deployment`, and the errors that make a batch fail."""

    lines: int = 0
    url: str | None = None
    deployment: str | None = None
    sha256: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)

    def blame(self, code: str, message: str, line: int | None = None) -> None:
        if len(self.errors) < MOST_ERRORS:
            self.errors.append({"code": code, "message": message, "param": None, "line": line})

    def document(self) -> dict[str, Any]:
        return asdict(self)


def inspect(path: Path, *, max_lines: int) -> Summary:
    """Read the whole input file once, in constant memory but for the ids."""
    summary, ids, digest = Summary(), set[str](), hashlib.sha256()
    with path.open("rb", buffering=1 << 20) as file:
        if file.read(3) == BOM:
            summary.blame("invalid_request", NO_DEPLOYMENT)
            return summary
        file.seek(0)
        for number, raw in enumerate(file, 1):
            digest.update(raw)
            if raw.strip():
                _line(summary, ids, raw, number)
    summary.sha256 = digest.hexdigest()
    if not summary.lines and not summary.errors:
        summary.blame("empty_file", EMPTY)
    if summary.lines > max_lines:
        summary.blame("too_many_tasks", f"The input file has more than {max_lines} requests.")
    return summary


def _line(summary: Summary, ids: set[str], raw: bytes, number: int) -> None:
    summary.lines += 1
    try:
        doc = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        summary.blame("invalid_json_line", f"The line is not valid JSON: {error.msg}", number)
        return
    body = doc.get("body") if isinstance(doc, dict) else None
    custom_id = doc.get("custom_id") if isinstance(doc, dict) else None
    if not isinstance(body, dict) or not isinstance(custom_id, str) or doc.get("method") != "POST":
        summary.blame("invalid_request", "The line needs custom_id, method POST, url and body.", number)
        return
    if custom_id in ids:
        summary.blame("duplicate_custom_id", f"The custom_id '{custom_id}' is used by another line.", number)
    ids.add(custom_id)
    model, url = body.get("model"), doc.get("url")
    if not isinstance(model, str) or not model:
        summary.blame("model_not_found", NO_DEPLOYMENT, number)
        return
    summary.deployment, summary.url = summary.deployment or model, summary.url or url
    if model != summary.deployment:
        summary.blame("model_mismatch", f"The line names '{model}', the others '{summary.deployment}'.", number)
    if url != summary.url:
        summary.blame("url_mismatch", f"The line's url is '{url}', the others' '{summary.url}'.", number)
