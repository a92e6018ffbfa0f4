"""The answers to one part: where each row's line lies in the result files, and what it says.

Only places are kept in memory. A line laid out as services write it is not decoded as a whole: head and tail are
matched, and the body between them, once it is known to be one JSON value, can be handed on byte for byte.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from batchkit import wire
from batchkit.collector.account import MISSING, PENDING
from batchkit.collector.fetch import lost
from batchkit.disk import PIECE, Workdir, local_errors
from batchkit.errors import LocalError
from batchkit.model import Part, Result, State

_AGAIN = "batchkit fetch JOB gets it again from the service"
_LENGTH_BITS = 40
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1

_TEXT = rb'"([^"\\\x00-\x1f]*)"'
_NAME = re.compile(rb'\{(?:"id":"[^"\\\x00-\x1f]*",)?"custom_id":' + _TEXT)
_FIRST = b'{"custom_id":"'
_TAIL = 256
"""Bytes from the end within which the tail of a line begins, or it is not looked for."""
_AZURE_HEAD = b',"response":{"body":'
_AZURE_TAIL = re.compile(rb',"request_id":' + _TEXT + rb',"status_code":(\d{1,3})\},"error":null\}\s*')
_OPENAI_HEAD = re.compile(rb',"response":\{"status_code":(\d{1,3}),"request_id":' + _TEXT + rb',"body":')
_OPENAI_TAIL = b'},"error":null}\n'


class Answer(NamedTuple):
    """One row's result; `body` is the response's body as it came, where it can be handed on as it stands."""

    result: Result
    body: bytes | None


class Answers:
    """custom_id (as UTF-8) → where its line lies in the output or the error file of one part.

    `good` and `bad` count what was taken, `duplicated` and `unknown` name what should not be there.
    """

    def __init__(self, part: Part, workdir: Workdir) -> None:
        self.part = part
        self.good = self.bad = 0
        self.duplicated: list[str] = []
        self._nameless = 0
        self._batch_id = part.batch.id if part.batch else None
        self._index: dict[bytes, int] = {}
        self._files: list[BinaryIO] = []
        if lost(part, workdir):
            raise LocalError(
                f"a result file of part {part.number} is gone from {workdir.job(part.job_id)}", hint=_AGAIN
            )
        for path in (workdir.output(part), workdir.error(part)) if part.collected else ():
            if path.exists():
                self._scan(path)

    @property
    def unknown(self) -> list[str]:
        """What nobody took, and lines without a custom_id."""
        return ["(a result line without custom_id)"] * self._nameless + [text(name) for name in self._index]

    def take(self, name: bytes) -> Answer:
        """The row's answer; what never came back gets the reason for it."""
        place = self._index.pop(name, None)
        if place is None:
            return Answer(_absent(text(name), self.part), None)
        answer = self._read(name, place)
        if answer.result.ok:
            self.good += 1
        else:
            self.bad += 1
        return answer

    def skip(self, name: bytes) -> None:
        """Leave the row to another reader of the same part."""
        self._index.pop(name, None)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _scan(self, path: Path) -> None:
        with local_errors(path):
            self._files.append(path.open("rb", buffering=PIECE))
        which, offset, index = len(self._files) - 1, 0, self._index
        for line in self._files[which]:
            length = len(line)
            place = (offset << _LENGTH_BITS | length) << 1 | which
            offset += length
            name = name_of(line)
            if name is None:
                self._nameless += bool(line.strip())
                continue
            before = index.setdefault(name, place)
            if before != place:
                self.duplicated.append(text(name))
                if not self._read(name, before).result.ok:
                    index[name] = place

    def _read(self, name: bytes, place: int) -> Answer:
        file, length, offset = self._files[place & 1], place >> 1 & _LENGTH_MASK, place >> 1 + _LENGTH_BITS
        return read(os.pread(file.fileno(), length, offset), name, self.part.round, self._batch_id)


def name_of(line: bytes) -> bytes | None:
    """The custom_id of a line, as UTF-8: by its usual place where that is plain, by a full decode otherwise."""
    found = _NAME.match(line)
    if found is not None:
        return found[1]
    try:
        document = _loads(line)
    except ValueError:
        return None
    name = document.get("custom_id") if isinstance(document, dict) else None
    return name.encode("utf-8", "surrogatepass") if isinstance(name, str) else None


def text(name: bytes) -> str:
    """A custom_id for people."""
    return name.decode("utf-8", "replace")


def read(line: bytes, name: bytes, round_number: int, batch_id: str | None) -> Answer:
    """What a result line says; one that cannot be read gives a result that says so."""
    plain = _plain(line, name)
    if plain is not None:
        body, status, request_id = plain
        try:
            value, asked = orjson.loads(body), request_id.decode() or None
        except ValueError:
            pass  # a full decode says what is wrong
        else:
            result = wire.answer(text(name), int(status), value, asked, None, round_number, batch_id)
            return Answer(result, body if result.response is value else None)
    try:
        document = _loads(line)
    except ValueError:
        document = None
    document = document if isinstance(document, dict) else {}
    return Answer(wire.result(text(name), document, round_number, batch_id), None)


def _plain(line: bytes, name: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Body, status and request id of a line laid out exactly as Azure or OpenAI write it; whether the body is one JSON
    value is for the caller to see."""
    start = len(_FIRST) + len(name) + 1
    if line.startswith(_AZURE_HEAD, start) and line.startswith(name, len(_FIRST)) and line.startswith(_FIRST):
        end = line.rfind(b',"request_id":"', -_TAIL)
        tail = _AZURE_TAIL.fullmatch(line, end) if end > start else None
        return (line[start + len(_AZURE_HEAD) : end], tail[2], tail[1]) if tail else None
    found = _NAME.match(line)
    head = _OPENAI_HEAD.match(line, found.end()) if found else None
    if head is None or not line.endswith(_OPENAI_TAIL):
        return None
    return line[head.end() : -len(_OPENAI_TAIL)], head[1], head[2]


def _loads(line: bytes) -> Any:
    """A result line's JSON; what an exact reader refuses (NaN, a lone surrogate) is an answer all the same."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _absent(custom_id: str, part: Part) -> Result:
    """The result of a row that did not come back."""
    batch = part.batch
    code, message = MISSING, "no result came back for this row"
    if part.state is State.DROPPED:
        code, message = "not_submitted", "the job was cancelled before this row was sent"
    elif not part.collected:
        standing = batch.status if batch else part.state
        code, message = PENDING, f"not back yet: {standing}"
    elif batch is None:
        code, message = "not_submitted", "this row was not sent"
    elif batch.status == "failed":
        first = next(iter(batch.errors), None)
        code = (first.code if first else "") or "batch_failed"
        message = (first.message if first else "") or "the service refused the whole batch"
    elif batch.status in ("expired", "cancelled"):
        code, message = f"batch_{batch.status}", f"the batch was {batch.status} before this row was done"
    batch_id = batch.id if batch else None
    return Result(custom_id, False, error_code=code, error_message=message, round=part.round, batch_id=batch_id)
