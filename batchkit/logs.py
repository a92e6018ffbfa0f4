"""Logs for machines: one JSON object a line, and which job it is about. schemas/log-line.schema.json describes them."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime

import orjson

from batchkit.text import visible

JOB: ContextVar[str | None] = ContextVar("job", default=None)
"""The name of the job that is being worked on here."""
ENDED_BADLY = "batchkit.ended"
"""The logger that says of a job that it has no good row; a command says so itself, and ends with its code."""
NOT_TOLD = "batchkit.notify"
"""The logger that says that a notice is lost: also to one who asked for quiet, who would miss it otherwise."""
LONGEST = 8000
"""Characters of a message."""


def message_of(record: logging.LogRecord) -> str:
    """What a record says to one who types commands: what to do next is not a call."""
    return getattr(record, "typed", None) or record.getMessage()


class JsonLines(logging.Formatter):
    """Time (UTC, RFC 3339), level, logger and message of a record, the job where it is known, and what an error says
    beside: code, exit and hint."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = visible(message_of(record), LONGEST)
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": message}
        if job := JOB.get():
            line["job"] = visible(job)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return orjson.dumps(line | getattr(record, "told", {})).decode()
