"""The answers to one part: where each row's line lies in the result files, and what it says.

Only places are kept in memory; lines are read where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import accumulate, repeat
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from batchkit.collector.lines import MISSING, PENDING, Answer, names_of, read, text
from batchkit.disk import PIECE, Workdir, blocks, local_errors
from batchkit.errors import LocalError
from batchkit.model import Part, Result, State

_LENGTH_BITS = 40
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1


class Answers:
    """custom_id (as UTF-8) → where its line lies in the output or the error file of one part.

    `good` and `bad` count what was read, `duplicated` and `unknown` name what should not be there; `exact` says that
    all lines are JSON for the strictest reader.
    """

    def __init__(self, part: Part, workdir: Workdir, job: str) -> None:
        self.part = part
        self.good = self.bad = 0
        self.duplicated: list[str] = []
        self._nameless = 0
        self.batch_id = part.batch.id if part.batch else None
        self._index: dict[bytes, int] = {}
        self._files: list[BinaryIO] = []
        self._numbers: list[int] = []
        if lost(part, workdir):
            words = f"a file of part {part.number} of job {job!r} is not in {workdir.job(part.job_id)}"
            raise LocalError(words, hint=f"batchkit fetch {quote(job)} -o results.csv  # gets it from the service")
        places = [path for path in (workdir.output(part), workdir.error(part)) if part.collected and path.exists()]
        self.exact = not any(workdir.inexact(path).exists() for path in places)
        try:
            for path in places:
                self._scan(path)
        except BaseException:
            self.close()
            raise

    @property
    def unknown(self) -> list[str]:
        """What nobody took, and lines without a custom_id."""
        return ["(a result line without custom_id)"] * self._nameless + [text(name) for name in self._index]

    def take(self, name: bytes) -> Answer:
        """The row's answer; what never came back gets the reason for it."""
        return self.answer(name, self._index.pop(name, None))

    def places(self, names: Iterable[bytes]) -> list[int | None]:
        """Where the lines of these rows lie, which are taken with that: `line` and `answer` read them."""
        return [*map(self._index.pop, names, repeat(None))]

    def line(self, place: int) -> bytes:
        """A row's line as it came. Raises LocalError where it cannot be read any more."""
        try:
            return os.pread(self._numbers[place & 1], place >> 1 & _LENGTH_MASK, place >> 1 + _LENGTH_BITS)
        except OSError:
            with local_errors(Path(self._files[place & 1].name)):
                raise

    def answer(self, name: bytes, place: int | None) -> Answer:
        """What a row's line says."""
        if place is None:
            return Answer(_absent(text(name), self.part), None)
        answer = self._read(name, place)
        if answer.result.ok:
            self.good += 1
        else:
            self.bad += 1
        return answer

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _scan(self, path: Path) -> None:
        with local_errors(path):
            self._files.append(path.open("rb", buffering=PIECE))
        self._numbers.append(self._files[-1].fileno())
        which, offset, index = len(self._files) - 1, 0, self._index
        for lines in blocks(self._files[which]):
            sizes = [*map(len, lines)]
            starts = accumulate(sizes, initial=offset)
            places = [(start << _LENGTH_BITS | size) << 1 | which for start, size in zip(starts, sizes)]  # noqa: B905
            offset += sum(sizes)
            names = names_of(lines)
            found = {name: place for name, place in zip(names, places, strict=True) if name is not None}
            if len(found) == len(names) and index.keys().isdisjoint(found):
                index |= found
            else:
                self._doubtful(names, places, lines)

    def _doubtful(self, names: Iterable[bytes | None], places: Iterable[int], lines: Iterable[bytes]) -> None:
        """Take in lines of which some have no name, or one that came before: a good answer is kept before a bad one."""
        for name, place, line in zip(names, places, lines, strict=True):
            if name is None:
                self._nameless += bool(line.strip())
                continue
            before = self._index.setdefault(name, place)
            if before != place:
                self.duplicated.append(text(name))
                if not self._read(name, before).result.ok:
                    self._index[name] = place

    def _read(self, name: bytes, place: int) -> Answer:
        return read(self.line(place), name, self.part.round, self.batch_id)


def lost(part: Part, workdir: Workdir) -> bool:
    """Whether a part is done, and what it asked for or a result file of it is not on this machine (any more)."""
    if part.state not in (State.FETCHED, State.SETTLED) or part.batch is None:
        return False
    if not workdir.lines(part).exists():
        return True
    wanted = (part.batch.output_file_id, workdir.output(part)), (part.batch.error_file_id, workdir.error(part))
    return any(file_id is not None and not path.exists() for file_id, path in wanted)


def _absent(custom_id: str, part: Part) -> Result:
    """The result of a row that did not come back."""
    batch = part.batch
    code, message = MISSING, "no result came back for this row"
    if not part.collected:
        standing = batch.status if batch else part.state
        code, message = PENDING, f"{'being retried' if part.round else 'not back yet'}: {standing}"
    elif part.held:
        message = part.held
    elif part.state is State.DROPPED:
        code, message = "not_submitted", "the job was cancelled before this row was sent"
    elif batch is None:
        code, message = "not_submitted", "this row was not sent"
    elif batch.status == "failed":
        first = next(iter(batch.errors), None)
        code = (first.code if first else "") or "batch_failed"
        message = (first.message if first else "") or "the service refused the whole batch"
    elif batch.status in ("expired", "cancelled"):
        code, message = f"batch_{batch.status}", f"the batch was {batch.status} before this row was done"
    where = batch.id if batch else None
    return Result(
        custom_id, False, error_code=code, error_message=message, round=part.round, batch_id=where, came=False
    )
