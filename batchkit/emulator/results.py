"""A batch's result files, written in shuffled order from its input file. Blocking; runs in a worker thread."""

from __future__ import annotations

import os
import random
import uuid
from array import array
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import IO, Any

import orjson

from batchkit.emulator.api import Document
from batchkit.emulator.replies import Model, Reply, digest, refusal
from batchkit.emulator.store import private

_LINE = orjson.OPT_APPEND_NEWLINE
NOT_RUN = {
    "batch_cancelled": "This request was cancelled before it could be executed.",
    "batch_expired": "This request could not be executed before the completion window expired.",
}


@dataclass(frozen=True)
class Order:
    """How the results are to be: the file's `seed`, the share of rows that were run, why the others were not, and
    what befalls rows (`quirks`: drop_rows, double_rows, invent_rows as shares, fail_all as a status)."""

    seed: str
    created: int
    share: float = 1.0
    unfinished: str = "batch_cancelled"
    quirks: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Written:
    """How many rows went into each result file."""

    completed: int = 0
    failed: int = 0


def write_results(source: Path, output: Path, error: Path, model: Model, order: Order) -> Written:
    """Answer the first `share` of the input file's rows; the rest was not run."""
    written = Written()
    with ExitStack() as stack:
        file = stack.enter_context(source.open("rb", 1 << 20))
        good, bad = (stack.enter_context(_buffered(path)) for path in (output, error))
        starts = array("Q", _starts(file))
        rows = array("L", range(len(starts) - 1))
        random.Random(order.seed).shuffle(rows)
        ready = round(len(rows) * order.share)
        dropped, doubled, invented = (
            _some(order.quirks.get(name, 0), len(rows)) for name in ("drop_rows", "double_rows", "invent_rows")
        )
        for position, index in enumerate(rows):
            raw = os.pread(file.fileno(), starts[index + 1] - starts[index], starts[index])
            if not raw.strip():
                continue
            line = orjson.loads(raw)
            reply = _reply(model, line, order) if position < ready else None
            ok = reply is not None and reply.status == 200
            written.completed += ok
            written.failed += not ok
            if position < dropped:
                continue
            result = orjson.dumps(_result(line["custom_id"], reply, order), option=_LINE)
            (good if ok else bad).write(result * (2 if len(rows) - position <= doubled else 1))
        for number in range(invented):
            stray = _result(f"invented-{number}", refusal(500, "invented", "Nobody asked."), order)
            bad.write(orjson.dumps(stray, option=_LINE))
    return written


def _reply(model: Model, line: Document, order: Order) -> Reply | None:
    if status := order.quirks.get("fail_all"):
        return refusal(int(status), "invalid_request_error", "The emulator was told to fail every row.")
    return model.reply(line, order.seed, order.created)


def _result(custom_id: str, reply: Reply | None, order: Order) -> Document:
    if reply is None:
        error = {"code": order.unfinished, "message": NOT_RUN[order.unfinished]}
        return {"custom_id": custom_id, "response": None, "error": error}
    request_id = str(uuid.UUID(bytes=digest(custom_id)[:16]))
    response = {"body": reply.body, "request_id": request_id, "status_code": reply.status}
    return {"custom_id": custom_id, "response": response, "error": None}


def _some(share: float, count: int) -> int:
    """So many of `count` rows, and one at least where there is a share at all."""
    return min(count, max(1, round(share * count))) if share else 0


def _buffered(path: Path) -> BufferedWriter:
    return BufferedWriter(private(path), 1 << 20)


def _starts(file: IO[bytes]) -> Iterator[int]:
    """Where each line begins, and where the last one ends."""
    at = 0
    for line in file:
        yield at
        at += len(line)
    yield at
