"""What the service says: JSON ↔ model. Tolerant in, exact out; no I/O.

Everything the reference marks as varying is read without complaint: statuses in any case and both spellings of
cancelled, times as Unix seconds or ISO 8601 text, counts that are null, file ids that are "" or null, lists under
`data` or `value`, errors wrapped in `error` or bare. What is no JSON object at all is `Unintelligible`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from batchkit.errors import Unintelligible
from batchkit.model import Batch, Counts, RemoteFile, Result, ServiceError
from batchkit.text import visible

_LARGEST = 2**53
_LATEST = 253_402_300_799.0  # the last second of the year 9999: later "times" are noise


def document(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer's body."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unintelligible("the service's answer is not JSON") from None
    if not isinstance(value, dict):
        raise Unintelligible("the service's answer is not a JSON object")
    return value


def batch(doc: Mapping[str, Any], service: str = "") -> Batch:
    """A batch object of a `service`."""
    return Batch(
        id=_id(doc, "batch"),
        status=_status(doc.get("status")),
        input_file_id=_text(doc.get("input_file_id")),
        output_file_id=_text(doc.get("output_file_id")),
        error_file_id=_text(doc.get("error_file_id")),
        counts=_counts(doc.get("request_counts")),
        errors=_errors(doc.get("errors")),
        created_at=_time(doc.get("created_at")),
        metadata=_metadata(doc.get("metadata")),
        service=service,
    )


def file(doc: Mapping[str, Any]) -> RemoteFile:
    """A file object."""
    return RemoteFile(
        id=_id(doc, "file"),
        filename=_text(doc.get("filename")) or "",
        bytes=_count(doc.get("bytes")),
        status=_status(doc.get("status")),
        purpose=_text(doc.get("purpose")) or "",
        created_at=_time(doc.get("created_at")),
        expires_at=_time(doc.get("expires_at")),
    )


def page(doc: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    """One page of a list: its entries, and the `after` of the next page or None at the end."""
    entries = doc.get("data", doc.get("value"))
    if not isinstance(entries, list):
        raise Unintelligible("the service's list has no data")
    entries = [entry for entry in entries if isinstance(entry, dict)]
    if doc.get("has_more") in (None, False, "false"):
        return entries, None
    after = _text(doc.get("last_id")) or (_text(entries[-1].get("id")) if entries else None)
    if after is None:
        raise Unintelligible("the service's list says that there is more, but not where")
    return entries, after


def batch_filter(*, after: float | None = None, before: float | None = None, status: str | None = None) -> str | None:
    """The `$filter` for batches made after and before moments (Unix seconds) with a status, in the grammar that Azure's
    guide shows; None where nothing is asked."""
    terms = [
        None if after is None else f"created_at gt {int(after)}",
        None if before is None else f"created_at lt {-int(-before // 1)}",
        None if status is None or not status.replace("_", "").isalpha() else f"status eq '{status}'",
    ]
    return " and ".join(filter(None, terms)) or None


def error(body: bytes) -> ServiceError:
    """The error in the body of a refused request, in any of the envelopes; never raises."""
    try:
        doc = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ServiceError("", "")
    inner = doc.get("error", doc) if isinstance(doc, dict) else doc
    if isinstance(inner, str):
        return ServiceError("", visible(inner, 2000))
    return _error(inner) if isinstance(inner, dict) else ServiceError("", "")


_LIMIT = re.compile(r"limit(?: of|:) ?([0-9][0-9,]{0,15}(?:\.[0-9]{1,6})?) ?([KMB]?)\b", re.IGNORECASE)


def token_limit(message: str) -> int | None:
    """The limit that a refusal for quota names: "the configured limit of 30K for the deployment …", "Limit: 2,000,000".
    None where it names none; nothing but the size of the next try hangs on it."""
    found = _LIMIT.search(message)
    if found is None:
        return None
    factor = {"": 1, "K": 1000, "M": 1_000_000, "B": 1_000_000_000}[found[2].upper()]
    return int(float(found[1].replace(",", "")) * factor)


def create_batch(
    file_id: str, endpoint: str, *, metadata: Mapping[str, str], output_expires_s: int | None
) -> dict[str, Any]:
    """The body that creates a batch. `completion_window` must be "24h", anything else is refused."""
    body: dict[str, Any] = {
        "input_file_id": file_id,
        "endpoint": endpoint,
        "completion_window": "24h",
        "metadata": dict(metadata),
    }
    if output_expires_s:
        body["output_expires_after"] = {"anchor": "created_at", "seconds": output_expires_s}
    return body


def result(custom_id: str, doc: Mapping[str, Any], round_number: int, batch_id: str | None) -> Result:
    """One line of an output or error file, good or bad by its status code, whichever file it came in.

    Other servers of the same API leave `error`, `response` or the status code out, or send the body as a string.
    """
    response = doc.get("response")
    response = response if isinstance(response, dict) else {}
    status, request_id = _count(response.get("status_code")), _text(response.get("request_id"))
    return answer(custom_id, status, response.get("body"), request_id, doc.get("error"), round_number, batch_id)


def answer(
    custom_id: str,
    status: int | None,
    body: Any,
    request_id: str | None,
    problem: Any,
    round_number: int,
    batch_id: str | None,
) -> Result:
    """A result from the pieces of its line; `problem` is what stands beside the response, under `error`."""
    if isinstance(body, str):
        with suppress(orjson.JSONDecodeError):
            body = orjson.loads(body)
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    problem = fields.get("error") or problem
    if status is None and fields and not problem:
        status = 200
    usage = fields.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    good = status == 200
    text, refused = _answer(fields) if good else (None, False)
    code = message = None
    if not good:
        said = _error(problem) if isinstance(problem, dict) else ServiceError("", _text(problem) or "")
        kind = _text(problem.get("type")) if isinstance(problem, dict) else None
        code = said.code or (f"http_{status}" if status else visible(kind, 100) if kind else "unreadable")
        message = said.message or None
    return Result(
        custom_id,
        good,
        text,
        status,
        code,
        message,
        ("refusal" if refused else _finish(fields)) if good else None,
        _text(fields.get("model")),
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        request_id,
        round_number,
        batch_id,
        body,
    )


def _answer(body: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The text of an answer (chat completions, completions, or responses), and whether it is the model's refusal."""
    choice = _first(body.get("choices"))
    message = choice.get("message")
    if isinstance(message, dict):
        text, refusal = _joined(message.get("content")), _text(message.get("refusal"))
    elif isinstance(body.get("output"), list):
        contents = [item.get("content") for item in body["output"] if isinstance(item, dict)]
        text, refusal = ("".join(_joined(content, key) or "" for content in contents) for key in ("text", "refusal"))
    else:
        text, refusal = _text(choice.get("text")), None
    return text or refusal or None, bool(refusal and not text)


def _joined(content: Any, key: str = "text") -> str | None:
    if not isinstance(content, list):
        return _text(content)
    return "".join(_text(part.get(key)) or "" for part in content if isinstance(part, dict)) or None


def _finish(body: Mapping[str, Any]) -> str | None:
    details = body.get("incomplete_details")
    reason = _text(details.get("reason")) if isinstance(details, dict) else None
    return _text(_first(body.get("choices")).get("finish_reason")) or reason or _text(body.get("status"))


def _first(value: Any) -> dict[str, Any]:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _id(doc: Mapping[str, Any], what: str) -> str:
    found = _text(doc.get("id"))
    if found is None:
        raise Unintelligible(f"the service's {what} has no id")
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _status(value: Any) -> str:
    status = value.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(value, str) else ""
    return {"canceled": "cancelled", "canceling": "cancelling", "inprogress": "in_progress"}.get(status, status)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        return None
    return int(value)


def _counts(value: Any) -> Counts | None:
    if not isinstance(value, dict):
        return None
    total, completed, failed = (_count(value.get(key)) for key in ("total", "completed", "failed"))
    return None if completed is None or failed is None else Counts(total or 0, completed, failed)


def _time(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if 0 < value <= _LATEST else None
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        return seconds if 0 < seconds <= _LATEST else None
    except (ValueError, OverflowError):
        return None


def _metadata(value: Any) -> dict[str, str]:
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}


def _errors(value: Any) -> tuple[ServiceError, ...]:
    entries = value.get("data") if isinstance(value, dict) else value
    if isinstance(entries, dict):
        entries = [entries]
    return tuple(_error(e) for e in entries if isinstance(e, dict)) if isinstance(entries, list) else ()


def _error(doc: Mapping[str, Any]) -> ServiceError:
    code, line = doc.get("code"), doc.get("line")
    if isinstance(line, str) and line.isascii() and line.isdigit() and len(line) < 10:
        line = int(line)
    return ServiceError(
        code=visible(str(code), 100) if isinstance(code, (str, int)) else "",
        message=visible(_text(doc.get("message")) or "", 2000),
        line=_count(line),
    )
