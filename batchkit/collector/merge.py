"""Results joined to request lines by custom_id, in input order, over all parts and rounds.

A round asks again for some rows of the ones before, in the same order, so all rounds are read side by side from
beginning to end, and memory holds the places of one part a round. A row is good or bad by its status code, never by the
file it came in. Of several rounds the latest good answer wins, else the latest answer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from batchkit.collector.account import Account
from batchkit.collector.answers import Answers
from batchkit.collector.lines import name_of
from batchkit.disk import PIECE, Workdir, local_errors
from batchkit.errors import LocalError
from batchkit.model import Job, Part, Result


class Row(NamedTuple):
    """One row of a job: its result, the request line it was last asked with, and the response's body as it came where
    it can be handed on as it stands."""

    result: Result
    line: bytes
    body: bytes | None


def merge(job: Job, workdir: Workdir, account: Account) -> Generator[Row, None, None]:
    """One row for each request line of the first round, in input order; `account` learns what was found."""
    with closing(walk(job, workdir, account)) as steps:
        for name, asked in steps:
            row = latest(name, asked)
            account.row(row.result)
            yield row


def walk(job: Job, workdir: Workdir, account: Account) -> Generator[tuple[bytes, Sequence[Round]], None, None]:
    """The rows of `merge` before they are read: each name, and the rounds that asked for it, which stand at it."""
    with ExitStack() as stack:
        rounds: list[Round] = []
        for number in range(job.round + 1):
            parts = [part for part in job.parts if part.round == number]
            rounds.append(stack.enter_context(closing(Round(parts, workdir, account))))
        first = rounds[0]
        while (name := first.name) is not None:
            asked = rounds if len(rounds) == 1 else [step for step in rounds if step.name == name]
            yield name, asked
            for step in asked:
                step.advance()
        if any(step.name is not None for step in rounds):
            raise LocalError(f"the request lines in {workdir.job(job.id)} were changed: a round asks for unknown rows")


def leftovers(job: Job, workdir: Workdir, wanted: Callable[[Result], bool]) -> Generator[bytes, None, None]:
    """The request lines whose result is `wanted`, as they were last sent, in input order: what a retry is made of."""
    return (row.line for row in merge(job, workdir, Account(job.name)) if wanted(row.result))


def changed(line: bytes, params: Mapping[str, Any]) -> bytes:
    """A request line with other parameters in its body; a None takes one out."""
    document = orjson.loads(line)
    body = {**document["body"], **params}
    document["body"] = {key: value for key, value in body.items() if params.get(key, value) is not None}
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


class Round:
    """One pass over rows, from part to part: `name` is the row it stands at, None at the end."""

    answers: Answers
    name: bytes | None
    line: bytes

    def __init__(self, parts: Sequence[Part], workdir: Workdir, account: Account) -> None:
        self._parts, self._workdir, self._account = parts, workdir, account
        self._rows = self._walk()
        self.advance()

    def advance(self) -> None:
        self.name, self.line = next(self._rows, (None, b""))

    def close(self) -> None:
        self._rows.close()

    def _walk(self) -> Generator[tuple[bytes, bytes], None, None]:
        for part in self._parts:
            path = self._workdir.lines(part)
            with closing(Answers(part, self._workdir)) as self.answers:
                with local_errors(path), path.open("rb", buffering=PIECE) as file:
                    for line in file:
                        name = name_of(line)
                        if name is None:
                            raise LocalError(f"{path} was changed: it has a line without custom_id")
                        yield name, line
                self._account.part(self.answers)


def latest(name: bytes, asked: Sequence[Round]) -> Row:
    """The row's best answer, with the others beside it."""
    best, line = asked[0].answers.take(name), asked[0].line
    if len(asked) == 1:
        return Row(best.result, line, best.body)
    others: list[Result] = []
    for step in asked[1:]:
        answer = step.answers.take(name)
        if _better(best.result, answer.result):
            best, answer = answer, best
        others.append(answer.result)
    result = replace(best.result, other_rounds=tuple(others))
    return Row(result, asked[-1].line, best.body)


def _better(before: Result, after: Result) -> bool:
    """Whether the later of two answers to one row is to be taken: not if a good one were lost for it, or a real one for
    none at all."""
    if before.ok and not after.ok:
        return False
    return after.status_code is not None or before.status_code is None
