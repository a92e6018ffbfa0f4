"""Where a batch stands at a moment: everything follows from its document and the time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from batchkit.emulator.api import Document
from batchkit.emulator.settings import Pace

TERMINAL = frozenset({"failed", "completed", "expired", "cancelled"})


class Timeline:
    """One batch's life. `start` is when it begins to run, `stop` when the last row is done, `end` when results are
    there; a batch struck by `expire` is stopped at `expires` instead. `rows_done`
    is how far a model that takes its own time has come."""

    def __init__(self, doc: Document, pace: Pace, now: float, rows_done: int | None = None) -> None:
        self._doc, self._now, self._rows_done = doc, now, rows_done
        summary, created = doc["summary"], float(doc["created_at"])
        self._expires_share: float | None = doc["quirks"].get("expire")
        self.start = created + pace.validating_s
        running = pace.running_s + pace.row_s * (summary["lines"] if summary else 0)
        self.stop: float = max(self.start + running, doc["worked_at"] or 0.0)
        self.expires = created + pace.window_s
        self.end = (self.stop if self._expires_share is None else self.expires) + pace.finalizing_s
        self.cancelled: float | None = None if doc["cancel_at"] is None else doc["cancel_at"] + pace.cancelling_s

    @property
    def status(self) -> str:
        doc, now, written = self._doc, self._now, self._doc["result"] is not None
        if self.cancelled is not None:
            return "cancelled" if now >= self.cancelled and written else "cancelling"
        if now < self.start or doc["summary"] is None:
            return "validating"
        if doc["summary"]["errors"]:
            return "failed"
        if now < (self.stop if self._expires_share is None else self.expires) or not doc["worked_at"]:
            return "in_progress"
        done = now >= self.end and written
        if self._expires_share is not None:
            return "expired" if done else "finalizing"
        return "completed" if done else "finalizing"

    @property
    def over(self) -> bool:
        """Whether its time is up, also where nobody has looked since."""
        if self.cancelled is not None:
            return self._now >= self.cancelled
        failed = self._doc["summary"] is not None and self._doc["summary"]["errors"]
        return self._now >= (self.start if failed else self.end) and bool(failed or self._doc["worked_at"])

    @property
    def share(self) -> float:
        """The share of rows done by now, or by the time the batch was stopped."""
        if self._rows_done is not None:
            return min(1.0, self._rows_done / max(1, int(self._doc["summary"]["lines"])))
        cancelled_at, most = self._doc["cancel_at"], 1.0 if self._expires_share is None else self._expires_share
        until = self._now if cancelled_at is None else cancelled_at
        stop = self.stop if self._expires_share is None else self.expires
        return min(1.0, max(0.0, (until - self.start) / max(stop - self.start, 1e-9))) * most

    def moments(self) -> dict[str, int | None]:
        """The service's times, null where not reached."""
        status, started = self.status, self.start if self._now >= self.start else None
        finished = status in ("finalizing", "completed", "expired")
        ran = started if status not in ("validating", "failed") else None
        return {
            "created_at": self._doc["created_at"],
            "in_progress_at": _whole(ran),
            "expires_at": int(self.expires),
            "finalizing_at": _whole(self.stop if self._expires_share is None else self.expires) if finished else None,
            "completed_at": _whole(self.end) if status == "completed" else None,
            "failed_at": _whole(started) if status == "failed" else None,
            "expired_at": _whole(self.end) if status == "expired" else None,
            "cancelling_at": self._doc["cancel_at"],
            "cancelled_at": _whole(self.cancelled) if status == "cancelled" else None,
        }


def show(doc: Document, pace: Pace, now: float, rows_done: int | None = None) -> Document:
    """The batch as the service shows it."""
    at, quirks = Timeline(doc, pace, now, rows_done), doc["quirks"]
    status, summary, result = at.status, doc["summary"], doc["result"]
    shown = result if status in TERMINAL and now >= at.end + quirks.get("late_output", 0) else None
    if status == "cancelled":
        shown = result
    output, error = (shown or {}).get("files", (None, None))
    times: dict[str, Any] = at.moments()
    if "iso_times" in quirks:
        times = {name: _iso(moment) for name, moment in times.items()}
    public: Document = {
        "object": "batch",
        "id": doc["id"],
        "status": _word(status, quirks.get("status")),
        "endpoint": doc["endpoint"],
        "completion_window": "24h",
        "input_file_id": doc["input_file_id"],
        "output_file_id": output,
        "error_file_id": error,
        "errors": {"object": "list", "data": summary["errors"]} if status == "failed" else None,
        "request_counts": _counts(status, at.share, summary, result, nulls="null_counts" in quirks),
        "metadata": None if "forget_metadata" in quirks else doc["metadata"],
        **times,
    }
    if doc["input_blob"] is not None:
        blobs = (shown or {}).get("blobs", ("", ""))
        public |= {"input_blob": doc["input_blob"], "output_blob": blobs[0], "error_blob": blobs[1]}
    elif shown and error is None:
        wanted = quirks.get("no_errors")
        public["error_file_id"] = "" if wanted == "empty" else None
        if wanted == "absent":
            del public["error_file_id"]
    return public


def _counts(status: str, share: float, summary: Any, result: Any, *, nulls: bool) -> dict[str, int | None]:
    total = summary["lines"] if summary and status != "validating" else 0
    if nulls:
        return {"total": total, "completed": None, "failed": None}
    if status in TERMINAL and result:
        return {"total": total, "completed": result["completed"], "failed": result["failed"]}
    return {"total": total, "completed": 0 if status == "failed" else int(total * share), "failed": 0}


def _word(status: str, wanted: Any) -> str:
    if wanted == "recased":
        return status.title()
    return str(wanted) if wanted and status not in TERMINAL else status


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


def _iso(moment: int | None) -> str | None:
    """As the REST samples of 2024 print times."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000+00:00")
