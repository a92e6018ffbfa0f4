"""Results joined to request lines by custom_id, in input order, over all parts and rounds.

A round asks again for some rows of the ones before, in the same order, so all rounds are read side by side from
beginning to end, and memory holds the places of one part a round. A row is good or bad by its status code, never by the
file it came in. Of several rounds the latest good answer wins, else the latest answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from batchkit.collector.account import Account
from batchkit.collector.answers import Answers
from batchkit.collector.columns import schema_of
from batchkit.collector.lines import PENDING, Answer, names_of
from batchkit.disk import PIECE, Workdir, blocks, local_errors
from batchkit.errors import InputError, LocalError
from batchkit.model import Job, Part, Result


class Row(NamedTuple):
    """One row of a job: its result, the request line it was last asked with, and the response's body as it came where
    it can be handed on as it stands."""

    result: Result
    line: bytes
    body: bytes | None


class Block(NamedTuple):
    """Rows of one part that follow each other, by name and by the request line they were last asked with. `asked` are
    the rounds that asked for them: of rows that were asked again, each is a block of its own."""

    names: list[bytes]
    lines: list[bytes]
    asked: Sequence[Round]


def merge(job: Job, workdir: Workdir, account: Account) -> Generator[Row, None, None]:
    """One row for each request line of the first round, in input order; `account` learns what was found."""
    with closing(walk(job, workdir, account)) as blocks:
        for names, lines, asked in blocks:
            for name, line in zip(names, lines, strict=True):
                row = latest(line, [step.answers.take(name) for step in asked])
                account.row(row.result)
                yield row


def walk(job: Job, workdir: Workdir, account: Account) -> Generator[Block, None, None]:
    """The rows of `merge` before they are read, each once."""
    with ExitStack() as stack:
        rounds: list[Round] = []
        for number in range(job.round + 1):
            parts = [part for part in job.parts if part.round == number]
            rounds.append(stack.enter_context(closing(Round(parts, workdir, account))))
        first, others = rounds[0], rounds[1:]
        while first.name is not None:
            alone = min((first.before(step.name) for step in others), default=len(first.names))
            if alone > first.at:
                yield Block(first.names[first.at : alone], first.lines[first.at : alone], [first])
                first.advance(alone - first.at)
            else:
                asked = [step for step in rounds if step.name == first.name]
                yield Block([first.name], [asked[-1].line], asked)
                for step in asked:
                    step.advance(1)
        if any(step.name is not None for step in others):
            raise LocalError(f"the request lines in {workdir.job(job.id)} were changed: a round asks for unknown rows")


def account_of(job: Job, workdir: Workdir) -> Account:
    """An account of a job, yet empty, which knows whether its answers were to be JSON."""
    path = workdir.lines(job.parts[0])
    return Account(job.name, structured=path.exists() and schema_of(first_line(path)) is not None)


def first_line(path: Path) -> bytes:
    """One request of a job, as good as any other to tell what answers look like."""
    with local_errors(path), path.open("rb") as file:
        return file.readline()


def leftovers(job: Job, workdir: Workdir, wanted: Callable[[Result], bool]) -> Generator[bytes, None, None]:
    """The request lines whose result is `wanted`, as they were last sent, in input order: what a retry is made of."""
    return (row.line for row in merge(job, workdir, Account(job.name)) if wanted(row.result))


_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of one parameter of chat completions, of which a request may have one (OpenAI API reference)."""


def changed(line: bytes, params: Mapping[str, Any]) -> bytes:
    """A request line with other parameters in its body; a None takes one out, and a limit on tokens that of the other
    name. Raises InputError for a parameter that is no JSON."""
    document = json.loads(line)  # which keeps integers of any size
    twins = {_LIMITS[name] for name in params if name in _LIMITS}
    body = {key: value for key, value in document["body"].items() if key not in twins} | dict(params)
    document["body"] = {key: value for key, value in body.items() if params.get(key, value) is not None}
    try:
        written = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the parameters cannot be written as JSON: {error}") from None
    return written.encode() + b"\n"


class Round:
    """One pass over rows, from part to part: a block of names and request lines at a time, and the row it stands at."""

    answers: Answers
    names: list[bytes]
    lines: list[bytes]
    at: int

    def __init__(self, parts: Sequence[Part], workdir: Workdir, account: Account) -> None:
        self._parts, self._workdir, self._account = parts, workdir, account
        self._blocks = self._read()
        self._load()

    @property
    def name(self) -> bytes | None:
        """The row it stands at; None at the end."""
        return self.names[self.at] if self.names else None

    @property
    def line(self) -> bytes:
        return self.lines[self.at]

    def before(self, name: bytes | None) -> int:
        """Where in the block this row stands, or the block's end. Searched for once a block."""
        place = self._places.get(name)
        if place is None:
            try:
                place = len(self.names) if name is None else self.names.index(name, self.at)
            except ValueError:
                place = len(self.names)
            self._places[name] = place
        return place

    def advance(self, count: int) -> None:
        self.at += count
        if self.at == len(self.names):
            self._load()

    def close(self) -> None:
        self._blocks.close()

    def _load(self) -> None:
        self.names, self.lines = next(self._blocks, ([], []))
        self._places: dict[bytes | None, int] = {}
        self.at = 0

    def _read(self) -> Generator[tuple[list[bytes], list[bytes]], None, None]:
        for part in self._parts:
            path = self._workdir.lines(part)
            with closing(Answers(part, self._workdir, self._account.job)) as self.answers:
                with local_errors(path), path.open("rb", buffering=PIECE) as file:
                    for lines in blocks(file):
                        names = [name for name in names_of(lines) if name is not None]
                        if len(names) < len(lines):
                            raise LocalError(f"{path} was changed: it has a line without custom_id")
                        yield names, lines
                self._account.part(self.answers)


def latest(line: bytes, answers: Sequence[Answer]) -> Row:
    """A row with the best of its answers, one a round, and the others beside it."""
    best = answers[0]
    if len(answers) == 1:
        return Row(best.result, line, best.body)
    others: list[Result] = []
    for answer in answers[1:]:
        if _better(best.result, answer.result):
            best, answer = answer, best
        others.append(answer.result)
    return Row(replace(best.result, other_rounds=tuple(others)), line, best.body)


def _better(before: Result, after: Result) -> bool:
    """Whether the later of two answers to one row is to be taken: not if a good one were lost for it, or a real one for
    none at all, unless that is yet to come."""
    if before.ok and not after.ok:
        return False
    return after.status_code is not None or before.status_code is None or after.error_code == PENDING
