"""An input file judged as the service does it while a batch is `validating`. Blocking; runs in a worker thread.

Codes are those of the guide's table of validation failures. The literal message is public for `empty_file` and for
the file with a BOM; the other sentences are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from batchkit.emulator.settings import Deployment

BOM = b"\xef\xbb\xbf"
NO_DEPLOYMENT = (
    "Validation failed: A valid model deployment name couldn't be extracted from the input file. Please ensure that "
    "each row in the input file has a valid deployment name specified in the 'model' field, and that the deployment "
    "name is consistent across all rows."
)
EMPTY = "The input file is empty. Please ensure that the batch contains at least one request."
MOST_ERRORS = 50
URLS = frozenset({"/chat/completions", "/responses", "/embeddings", "/completions"})
LONGEST_LINE = 64 << 20


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


def first_deployment(path: Path) -> str | None:
    """The deployment that the file's first line names: enough to count its tokens before it is judged."""
    with path.open("rb") as file:
        raw = file.readline(1 << 20)
    try:
        model = orjson.loads(raw)["body"]["model"]
    except (orjson.JSONDecodeError, TypeError, KeyError, IndexError):
        return None
    return model if isinstance(model, str) else None


def inspect(path: Path, *, max_lines: int, deployments: Mapping[str, Deployment]) -> Summary:
    """Read the whole input file once, in constant memory but for the ids. Without `deployments` any name is one."""
    judge = _Judge()
    summary, digest = judge.summary, hashlib.sha256()
    with path.open("rb", buffering=1 << 20) as file:
        if file.read(3) == BOM:
            summary.blame("invalid_request", NO_DEPLOYMENT)
            return summary
        file.seek(0)
        number = 0
        while raw := file.readline(LONGEST_LINE):
            number += 1
            digest.update(raw)
            if raw.strip():
                judge.line(raw, number)
    summary.sha256 = digest.hexdigest()
    if not summary.lines and not summary.errors:
        summary.blame("empty_file", EMPTY)
    if summary.lines > max_lines:
        summary.blame("too_many_tasks", f"The input file has more than {max_lines} requests.")
    if summary.deployment and deployments:
        _deployment(summary, deployments.get(summary.deployment))
    return summary


class _Judge:
    def __init__(self) -> None:
        self.summary = Summary()
        self._ids: set[bytes] = set()

    def line(self, raw: bytes, number: int) -> None:
        summary = self.summary
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
        token = hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if token in self._ids:
            summary.blame("duplicate_custom_id", f"The custom_id '{custom_id}' is used by another line.", number)
        self._ids.add(token)
        self._model(body.get("model"), number)
        self._url(doc.get("url"), number)
        if body.get("stream"):
            summary.blame("invalid_request", "A batch request cannot be streamed.", number)

    def _model(self, model: Any, number: int) -> None:
        summary = self.summary
        if not isinstance(model, str) or not model:
            summary.blame("model_not_found", NO_DEPLOYMENT, number)
            return
        summary.deployment = summary.deployment or model
        if model != summary.deployment:
            summary.blame("model_mismatch", f"The line names '{model}', the others '{summary.deployment}'.", number)

    def _url(self, url: Any, number: int) -> None:
        summary = self.summary
        if not isinstance(url, str) or url.removeprefix("/v1") not in URLS:
            summary.blame("url_mismatch", f"The line's url {url!r} is not one that batches take.", number)
            return
        summary.url = summary.url or url
        if url != summary.url:
            summary.blame("url_mismatch", f"The line's url is '{url}', the others' '{summary.url}'.", number)


def _deployment(summary: Summary, deployment: Deployment | None) -> None:
    if deployment is None:
        summary.blame("model_not_found", f"The deployment '{summary.deployment}' does not exist.")
    elif not deployment.batches:
        words = f"The deployment '{deployment.name}' has the SKU '{deployment.sku}'; batches need a globalbatch SKU."
        summary.blame("invalid_request", words)
