"""Both ledgers, step for step, against a model made of dictionaries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from batchkit.errors import BatchkitError, CancelWished, JobConflict, LeaseLost, LedgerBusy, UnknownJob
from batchkit.ledger import Hold, Ledger, deeds, open_ledger
from batchkit.ledger.states import LEGAL
from batchkit.model import Batch, Job, Outcome, Part, State

from .tools.postgres import database

T = TypeVar("T")
NAMES = st.sampled_from(["one", "two", "three"])
PARTS = st.integers(0, 1)


@dataclass
class Known:
    """What the model knows of a job."""

    sha256: str
    states: list[State] = field(default_factory=lambda: [State.STAGED, State.STAGED])
    batches: list[list[str]] = field(default_factory=lambda: [[], []])
    holder: int | None = None
    cancelled: bool = False
    settled: bool = False
    events: int = 1


class Model(RuleBasedStateMachine):
    """One user's doings on two ledgers at once; every answer must be the model's."""

    def __init__(self, urls: list[str]) -> None:
        super().__init__()
        self.loop, self.mark = asyncio.new_event_loop(), secrets.token_hex(4)
        self.ledgers: list[Ledger] = [open_ledger(url)[0] for url in urls]
        self.known: dict[str, Known] = {}
        self.holds: list[tuple[str, list[Hold]]] = []

    def teardown(self) -> None:
        for _, holds in self.holds:
            self.both(holds, lambda hold: hold.release())
        self.both(self.ledgers, lambda ledger: ledger.close())
        self.loop.close()

    def both(self, things: Sequence[T], do: Callable[[T], Awaitable[Any]]) -> Any:
        """What both answer, value or error; they must agree."""
        answers = [self.one(do(thing)) for thing in things]
        first = answers[0]
        assert all(type(answer) is type(first) for answer in answers), answers
        return first

    def one(self, doing: Awaitable[Any]) -> Any:
        async def work() -> Any:
            try:
                return await doing
            except (BatchkitError, ValueError) as error:
                return error

        return self.loop.run_until_complete(work())

    def named(self, name: str) -> str:
        return f"{name}-{self.mark}"

    def job(self, name: str, sha256: str) -> Job:
        full = self.named(name)
        parts = tuple(
            Part(f"{full}-{n}", full, 0, n, State.STAGED, 10, 100, "b" * 64, place=n, service="s", deployment="d")
            for n in range(2)
        )
        return Job(full, full, sha256, "s", "t", "/v1/chat/completions", "d", 1000.0, parts)

    @rule(name=NAMES, sha256=st.sampled_from(["a", "b"]))
    def add(self, name: str, sha256: str) -> None:
        answer = self.both(self.ledgers, lambda ledger: ledger.add(self.job(name, sha256)))
        if name in self.known and self.known[name].sha256 != sha256:
            assert isinstance(answer, JobConflict)
        else:
            assert answer.id == self.named(name)
            self.known.setdefault(name, Known(sha256))

    @rule(name=NAMES)
    def find(self, name: str) -> None:
        answer = self.both(self.ledgers, lambda ledger: ledger.job(self.named(name)))
        assert isinstance(answer, UnknownJob) == (name not in self.known)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        job = self.job(name, "")
        answers = [self.one(ledger.hold(job)) for ledger in self.ledgers]
        if self.known[name].holder is not None:
            assert all(isinstance(answer, LedgerBusy) for answer in answers)
        else:
            self.known[name].holder = len(self.holds)
            self.holds.append((name, answers))

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.holds) - 1))
        name, holds = self.holds[number]
        self.both(holds, lambda hold: hold.release())
        if self.known[name].holder == number:
            self.known[name].holder = None

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), part=PARTS, to=st.sampled_from(State), batch=st.booleans())
    def move(self, data: st.DataObject, part: int, to: State, batch: bool) -> None:
        number = data.draw(st.integers(0, len(self.holds) - 1))
        name, holds = self.holds[number]
        known = self.known[name]
        before = replace(
            self.job(name, "").parts[part],
            state=known.states[part],
            batches=tuple(Batch(batch_id, "validating") for batch_id in known.batches[part]),
        )
        seen = Batch(f"{self.named(name)}-{part}-{len(known.batches[part])}", "validating") if batch else None
        answer = self.both(holds, lambda hold: hold.move(before, to, at=5.0, batch=seen))
        if to is not before.state and to not in LEGAL[before.state]:
            assert isinstance(answer, ValueError)
        elif known.holder != number:
            assert isinstance(answer, LeaseLost)
        elif known.cancelled and to is not before.state and to in (State.UPLOADING, State.SUBMITTING):
            assert isinstance(answer, CancelWished)
        else:
            assert answer.state is to
            known.events += (to is not before.state) + batch
            known.states[part] = to
            if seen is not None:
                known.batches[part].append(seen.id)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), part=PARTS, limit=st.integers(0, 400))
    def announce(self, data: st.DataObject, part: int, limit: int) -> None:
        number = data.draw(st.integers(0, len(self.holds) - 1))
        name, holds = self.holds[number]
        known = self.known[name]
        if known.states[part] is not State.UPLOADED or known.holder != number:
            return
        before = replace(self.job(name, "").parts[part], state=State.UPLOADED)
        taken = [0]

        def fits(queue: Any) -> bool:
            taken[0] = queue.bytes
            return bool(queue.bytes + 100 <= limit)

        answer = self.both(holds, lambda hold: deeds.announce(hold, before, intent="i", at=5.0, fits=fits))
        enqueued = sum(
            state in (State.SUBMITTING, State.RUNNING) for other in self.known.values() for state in other.states
        )
        assert taken[0] >= 100 * enqueued  # earlier examples left theirs behind
        if answer is not None and known.cancelled:
            assert isinstance(answer, CancelWished)
        elif answer is not None:
            known.states[part] = State.SUBMITTING
            known.events += 1

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        job = self.job(name, "")
        self.both(self.ledgers, lambda ledger: ledger.wish_cancelled(job, at=7.0))
        known = self.known[name]
        if known.holder is not None if known.settled else not known.cancelled:
            known.events += 1
            known.cancelled = True

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.holds) - 1))
        name, holds = self.holds[number]
        known = self.known[name]
        answer = self.both(holds, lambda hold: hold.settle(Outcome(20, 20, 0, 0), at=9.0))
        if known.holder != number:
            assert isinstance(answer, LeaseLost)
            return
        known.settled, known.events = True, known.events + 1
        known.states = [State.SETTLED if state is State.FETCHED else state for state in known.states]

    @invariant()
    def agree(self) -> None:
        """Both ledgers say of every job what the model says, and the very same."""
        for name, known in self.known.items():
            jobs = [self.one(ledger.job(self.named(name))) for ledger in self.ledgers]
            assert all(job == jobs[0] for job in jobs)
            job = jobs[0]
            assert [part.state for part in job.parts] == known.states
            assert [[batch.id for batch in part.batches] for part in job.parts] == known.batches
            assert (job.cancelled_at is not None, job.settled_at is not None) == (known.cancelled, known.settled)
            events = [self.one(ledger.events(job)) for ledger in self.ledgers]
            assert all(diary == events[0] for diary in events)
            assert len(events[0]) == known.events


@pytest.mark.promise("A1", "A8")
@pytest.mark.parametrize(
    ("examples", "steps"), [(25, 20), pytest.param(1000, 50, marks=pytest.mark.deep)], ids=["plain", "deep"]
)
def test_both_ledgers_do_as_the_model(tmp_path: Path, postgres: str, examples: int, steps: int) -> None:
    urls = [str(tmp_path / "ledger.sqlite3"), database(postgres, f"model-{examples}")]

    class Both(Model):
        def __init__(self) -> None:
            super().__init__(urls)

    run_state_machine_as_test(
        Both,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
