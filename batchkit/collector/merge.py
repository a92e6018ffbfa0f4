"""Results joined to request lines by custom_id, in input order, over all parts and rounds.

Only offsets are kept in memory, one part at a time; lines are read where they lie. A row is good or bad by its status
code, never by the file it came in. Of several rounds the latest good answer wins, else the latest answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from batchkit import wire
from batchkit.collector.account import MISSING, Account
from batchkit.collector.fetch import lost
from batchkit.disk import PIECE, Workdir, local_errors
from batchkit.errors import LocalError
from batchkit.model import Job, Part, Result, State

_AGAIN = "batchkit fetch JOB gets it again from the service"
_LENGTH_BITS = 40
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_PREFIX = b'{"custom_id":"'


def merge(job: Job, workdir: Workdir, account: Account) -> Iterator[Result]:
    """One result for each request line of the first round, in input order; `account` learns what was found."""
    with ExitStack() as stack:
        later = [stack.enter_context(closing(_Answers(p, workdir, account))) for p in job.parts if p.round]
        for part in job.parts:
            if part.round:
                continue
            with closing(_Answers(part, workdir, account)) as answers:
                for custom_id in _ids(workdir.lines(part)):
                    result = answers.take(custom_id)
                    for retried in later:
                        if custom_id in retried:
                            result = _better(result, retried.take(custom_id))
                    account.row(result)
                    yield result
                answers.check_leftovers()
        for retried in later:
            retried.check_leftovers()


def _better(before: Result, after: Result) -> Result:
    """The later of two answers to one row, unless that would lose a good one, or a real one for none at all."""
    if before.ok and not after.ok:
        return before
    return before if after.status_code is None and before.status_code is not None else after


class _Answers:
    """The result lines of one part: custom_id → where its line lies in the output or the error file."""

    def __init__(self, part: Part, workdir: Workdir, account: Account) -> None:
        self._part, self._account = part, account
        self._asked = set(_ids(workdir.lines(part))) if part.round else None
        self._good = self._bad = 0
        self._index: dict[str, int] = {}
        self._files: list[BinaryIO] = []
        if lost(part, workdir):
            raise LocalError(
                f"a result file of part {part.number} is gone from {workdir.job(part.job_id)}", hint=_AGAIN
            )
        for path in (workdir.output(part), workdir.error(part)):
            if path.exists():
                with local_errors(path):
                    self._files.append(path.open("rb", buffering=PIECE))
                self._scan(len(self._files) - 1)

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self._index or (self._asked is not None and custom_id in self._asked)

    def take(self, custom_id: str) -> Result:
        """The row's result; what never came back gets the reason for it."""
        place = self._index.pop(custom_id, None)
        if place is None:
            return self._absent(custom_id)
        result = self._read(custom_id, place)
        self._good, self._bad = self._good + result.ok, self._bad + (not result.ok)
        return result

    def check_leftovers(self) -> None:
        """What was never asked for, and counts that disagree with the service's."""
        self._account.unknown.extend(self._index)
        batch = self._part.batch
        if batch is None or batch.status != "completed" or batch.counts is None or not batch.counts.total:
            return
        if (self._good, self._bad) != (batch.counts.completed, batch.counts.failed):
            self._account.mismatched.append(
                f"{batch.id}: the service counts {batch.counts.completed} completed and {batch.counts.failed} failed, "
                f"its files hold {self._good} and {self._bad}"
            )

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _scan(self, which: int) -> None:
        offset = 0
        for line in self._files[which]:
            self._add(line, (offset << _LENGTH_BITS | len(line)) << 1 | which)
            offset += len(line)

    def _add(self, line: bytes, place: int) -> None:
        custom_id = _custom_id(line)
        if custom_id is None:
            if line.strip():
                self._account.unknown.append("(a result line without custom_id)")
            return
        before = self._index.setdefault(custom_id, place)
        if before != place:
            self._account.duplicated.append(custom_id)
            if not self._read(custom_id, before).ok:
                self._index[custom_id] = place

    def _read(self, custom_id: str, place: int) -> Result:
        file, length, offset = self._files[place & 1], place >> 1 & _LENGTH_MASK, place >> 1 + _LENGTH_BITS
        batch = self._part.batch
        try:
            document = _loads(os.pread(file.fileno(), length, offset))
        except ValueError:
            document = {}  # the row then has a result that says it is unreadable
        if not isinstance(document, dict):
            document = {}
        return wire.result(custom_id, document, self._part.round, batch.id if batch else None)

    def _absent(self, custom_id: str) -> Result:
        part, batch = self._part, self._part.batch
        code, message = MISSING, "no result came back for this row"
        if part.state is State.DROPPED or batch is None:
            code, message = "not_submitted", "the job was cancelled before this row was sent"
        elif batch.status == "failed":
            first = next(iter(batch.errors), None)
            code = (first.code if first else "") or "batch_failed"
            message = (first.message if first else "") or "the service refused the whole batch"
        elif batch.status in ("expired", "cancelled"):
            code, message = f"batch_{batch.status}", f"the batch was {batch.status} before this row was done"
        batch_id = batch.id if batch else None
        return Result(custom_id, False, error_code=code, error_message=message, round=part.round, batch_id=batch_id)


def _lines(path: Path) -> Iterator[bytes]:
    with local_errors(path), path.open("rb", buffering=PIECE) as file:
        yield from file


def _ids(path: Path) -> Iterator[str]:
    """The custom_ids of a part's request lines, in order."""
    for line in _lines(path):
        custom_id = _custom_id(line)
        if custom_id is None:
            raise LocalError(f"{path} was changed: it has a line without custom_id")
        yield custom_id


def _custom_id(line: bytes) -> str | None:
    """The custom_id of a line: by its usual prefix where that is plain, by a full decode otherwise."""
    if line.startswith(_PREFIX):
        end = line.find(b'"', len(_PREFIX))
        name = line[len(_PREFIX) : end]
        if end > 0 and b"\\" not in name:
            return name.decode("utf-8", "replace")
    try:
        document = _loads(line)
    except ValueError:
        return None
    found = document.get("custom_id") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def _loads(line: bytes) -> Any:
    """A result line's JSON; what an exact reader refuses (NaN, a lone surrogate) is an answer all the same."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def leftovers(job: Job, workdir: Workdir, wanted: Callable[[Result], bool]) -> Iterator[bytes]:
    """The request lines whose result is `wanted`, as they were sent, in input order: what a retry is made of."""
    parts = [part for part in job.parts if part.round == 0]
    sent = (line for part in parts for line in _lines(workdir.lines(part)))
    for line, result in zip(sent, merge(job, workdir, Account(job.name)), strict=True):
        if wanted(result):
            yield line
