"""A JSONL file judged in one streaming pass, before the service judges it.

Codes are the service's own where it has one (Azure guide, "Batch failure codes"); the others are ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from batchkit.builder.rows import TABLES
from batchkit.config import Limits
from batchkit.disk import PIECE, reading
from batchkit.model import URLS, CheckReport, Problem

BOM = b"\xef\xbb\xbf"
Blame = Callable[..., None]
"""Takes code, message, fix, and perhaps severity and the byte within the line."""
_CONTENT = {"/chat/completions": "messages", "/responses": "input", "/embeddings": "input", "/completions": "prompt"}
_PLACEHOLDER = re.compile(r"<.*>|\{.*\}|replace-with-.*", re.IGNORECASE)
_UNIQUE = "make it unique; --custom-id names a column whose values are, and without it rows are numbered"
_BUILD = "batchkit build ROWS -o LINES makes a file that passes"


def check(path: str | Path, *, limits: Limits | None = Limits(), max_problems: int = 100) -> CheckReport:
    """Read a file of request lines once, in constant memory but for the ids.

    Never raises for bad data: every problem is in the report with its 1-based line, its 0-based byte offset, a code
    and how to mend it. `limits=None` leaves the limits of one input file out, for a file that will be split. Raises
    LocalError when the file cannot be read.
    """
    path = Path(path)
    judge = _Judge(max_problems)
    if path.suffix.lower() in TABLES:
        judge.table()
        return judge.report(path)
    with reading(path), path.open("rb", buffering=PIECE) as file:
        for number, raw in enumerate(file, 1):
            judge.line(raw, number)
    judge.end(limits)
    return judge.report(path)


class Rules:
    """The rules of a request line, and those that hold over all lines of a file: new ids, one url, one deployment."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.deployment: str | None = None
        self._ids: dict[str, int] = {}

    def judge(self, document: Mapping[str, Any], number: int, blame: Blame) -> None:
        """Blame a line for all that is wrong with it."""
        missing = [key for key in ("custom_id", "method", "url", "body") if key not in document]
        if missing:
            blame("invalid_request", f"the line has no {', '.join(missing)}", _BUILD)
        if "custom_id" in document:
            self._custom_id(document["custom_id"], number, blame)
        if document.get("method", "POST") != "POST":
            blame("invalid_request", f"method is {document['method']!r}", 'it must be "POST"')
        if "url" in document:
            self._url(document["url"], blame)
        if "body" in document:
            self._body(document["body"], str(document.get("url")), blame)

    def _custom_id(self, value: Any, number: int, blame: Blame) -> None:
        if not isinstance(value, str) or not value:
            blame("invalid_request", f"custom_id is {value!r}", "it must be a non-empty string")
            return
        first = self._ids.setdefault(value, number)
        if first != number:
            blame("duplicate_custom_id", f"custom_id {value!r} is used twice, first by number {first}", _UNIQUE)

    def _url(self, value: Any, blame: Blame) -> None:
        if not isinstance(value, str):
            blame("invalid_request", f"url is {value!r}", 'it must be a string like "/v1/chat/completions"')
        elif value.removeprefix("/v1") not in URLS:
            where = "/deployments/ has no place here" if "/deployments/" in value else "batches do not take it"
            blame(
                "url_mismatch", f"url {value!r}: {where}", "use /v1/chat/completions, /v1/responses or /v1/embeddings"
            )
        elif self.url is None:
            self.url = value
        elif value != self.url:
            blame("url_mismatch", f"url is {value!r}, the first line's {self.url!r}", "one url a file")

    def _body(self, body: Any, url: str, blame: Blame) -> None:
        if not isinstance(body, Mapping):
            blame("invalid_request", "body is not an object", _BUILD)
            return
        model = body.get("model")
        if not isinstance(model, str) or not model:
            blame("model_not_found", "body.model is missing", "put the deployment's name into body.model")
        elif _PLACEHOLDER.fullmatch(model):
            blame("model_not_found", f"body.model is the placeholder {model!r}", "put the deployment's name there")
        elif self.deployment is None:
            self.deployment = model
        elif model != self.deployment:
            words = f"body.model is {model!r}, the first line's {self.deployment!r}"
            blame("model_mismatch", words, "one deployment a file")
        if body.get("stream"):
            blame("invalid_request", "body.stream is set", "remove it: a batch does not stream")
        wanted = _CONTENT.get(url.removeprefix("/v1"))
        if wanted and not isinstance(body.get(wanted), (str, list)):
            blame("invalid_request", f"body.{wanted} is missing or is no text or list", f"every body needs {wanted}")
        elif wanted == "messages" and not body["messages"]:
            blame("invalid_request", "body.messages is missing or empty", "every body needs messages")


class _Judge:
    """What is known of a file so far."""

    def __init__(self, max_problems: int) -> None:
        self.max_problems = max_problems
        self.rules = Rules()
        self.hash = hashlib.sha256()
        self.problems: list[Problem] = []
        self.total = self.errors = self.lines = self.offset = 0
        self.last = b"\n"

    def line(self, raw: bytes, number: int) -> None:
        """Judge one line; `offset` is where it begins."""
        blame = self._blamer(number)
        skipped = len(BOM) if number == 1 and raw.startswith(BOM) else 0
        if skipped:
            fix = "save it without BOM, or: tail -c +4 IN > OUT"
            blame("bom", "the file begins with a byte order mark; the service then finds no deployment name", fix)
        content = raw[skipped:]
        if content.strip():
            self.lines += 1
            document = self._parsed(content, blame, skipped)
            if document is not None:
                self.rules.judge(document, number, blame)
        else:
            blame("blank_line", "the line is blank", "remove it (batchkit submit does)", severity="warning")
        if raw.endswith(b"\r\n"):
            blame("crlf", "the line ends in CR LF", "end it in LF (batchkit submit does)", severity="warning")
        self.hash.update(raw)
        self.offset += len(raw)
        self.last = raw

    def table(self) -> None:
        """The file has rows, by its name."""
        self._blamer(None)("not_jsonl", "this is a table, not request lines", "batchkit build makes lines of its rows")

    def end(self, limits: Limits | None) -> None:
        """Judge the file as a whole."""
        blame = self._blamer(None)
        if not self.lines:
            blame("empty_file", "the file has no request", _BUILD)
        if not self.last.endswith(b"\n"):
            blame("no_final_newline", "the last line has no newline", "echo >> FILE", severity="warning")
        if limits and self.lines > limits.max_lines:
            words = f"{self.lines} requests, a file may have {limits.max_lines}"
            blame("too_many_tasks", words, "batchkit submit splits it")
        if limits and self.offset > limits.max_bytes:
            words = f"{self.offset} bytes, a file may have {limits.max_bytes}"
            blame("file_too_large", words, "batchkit submit splits it")

    def report(self, path: Path) -> CheckReport:
        """All that was found."""
        return CheckReport(
            path=str(path),
            lines=self.lines,
            bytes=self.offset,
            url=self.rules.url,
            deployment=self.rules.deployment,
            sha256=self.hash.hexdigest(),
            total=self.total,
            problems=tuple(self.problems),
            errors=self.errors,
        )

    def _blamer(self, number: int | None) -> Blame:
        offset = None if number is None else self.offset

        def blame(code: str, message: str, fix: str, severity: str = "error", at: int = 0) -> None:
            self.total += 1
            self.errors += severity == "error"
            if len(self.problems) < self.max_problems:
                byte = None if offset is None else offset + at
                self.problems.append(Problem(code, message, fix, number, byte, severity))

        return blame

    def _parsed(self, raw: bytes, blame: Blame, skipped: int) -> dict[str, Any] | None:
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            try:
                raw.decode()
            except UnicodeDecodeError as bad:
                wide = b"\0" in raw[:4] or raw.startswith((b"\xff\xfe", b"\xfe\xff"))
                encoding, words = "UTF-16" if wide else "LATIN1", f"byte 0x{raw[bad.start]:02x} is not UTF-8"
                blame("not_utf8", words, f"iconv -f {encoding} -t UTF-8 IN > OUT", at=bad.start + skipped)
                return None
            at = len(raw.decode()[: error.pos].encode()) + skipped
            blame("invalid_json_line", f"not JSON: {error.msg}", _BUILD, at=at)
            return None
        if not isinstance(document, dict):
            blame("invalid_json_line", f"a JSON {type(document).__name__}, not an object", "one object a line")
            return None
        return document
