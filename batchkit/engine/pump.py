"""Run turns until there is nothing left to do: the lease, the waiting, the deadline, the clean stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from shlex import quote

import httpx

from batchkit.api.service import Service
from batchkit.builder.deployments import rename
from batchkit.clock import DEADLINE, Clock
from batchkit.collector import fetch
from batchkit.config import Settings, Target
from batchkit.disk import Workdir
from batchkit.errors import (
    BatchkitError,
    ConfigError,
    Interrupted,
    LeaseLost,
    LedgerUnreachable,
    LocalError,
    Refused,
    ResultError,
    Throttled,
    Unavailable,
    Uncertain,
    Unfinished,
)
from batchkit.hints import in_python
from batchkit.ledger import Hold, Ledger
from batchkit.logs import JOB
from batchkit.model import DONE, LONGEST_WAIT_S, Job, Next, Outcome, State
from batchkit.notify import Command, Notifier
from batchkit.tracker import abandon, poll
from batchkit.tracker.lookout import Lookout
from batchkit.uploader import submit, sweep, twins

_log = logging.getLogger(__name__)
Turn = Callable[["Pump", Hold], Awaitable[Next]]


@dataclass(frozen=True)
class Progress:
    """What a pump shows after each turn: the job as it stands, and what it waits for."""

    job: Job
    why: str = ""
    next_look_at: float | None = None


@dataclass
class Pump:
    """Everything a turn needs, and the wish to stop. `stop` may be set from a signal handler of the same loop."""

    target: Target
    apis: Mapping[str, Service]
    """The doors of the target's members, by their services."""
    ledger: Ledger
    workdir: Workdir
    clock: Clock
    settings: Settings
    lookout: Lookout
    notifier: Notifier
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit(self, hold: Hold) -> Next:
        """The uploader's turn."""
        return await submit.turn(
            target=self.target,
            apis=self.apis,
            hold=hold,
            clock=self.clock,
            settings=self.settings,
            workdir=self.workdir,
            rename=rename,
        )

    async def poll(self, hold: Hold) -> Next:
        """The tracker's turn; whatever its list shows beside what it was made for, late twins are stopped."""
        clock, settings, lookout, target = self.clock, self.settings, self.lookout, self.target

        async def look(api: Service, own: Hold) -> Next:
            looking = poll.turn(api=api, hold=own, clock=clock, settings=settings, lookout=lookout, target=target)
            later = await abandon.minded(looking, api, own, clock)
            await twins.of_finished(api, own, lookout.strays(api.target.service), clock)
            return later

        return await self._each(look, hold)

    async def fetch(self, hold: Hold, *, give_up: bool = False) -> Next:
        """The collector's turn."""
        clock, workdir = self.clock, self.workdir
        return await self._each(
            lambda api, own: fetch.turn(api=api, hold=own, clock=clock, workdir=workdir, give_up=give_up), hold
        )

    async def give_up(self, hold: Hold) -> Next:
        """The last turns of a job whose user does without what the service forgot or will not hand out."""
        await self._each(lambda api, own: abandon.turn(api=api, hold=own, clock=self.clock), hold)
        return await self.fetch(hold, give_up=True)

    async def sweep(self, hold: Hold) -> Next:
        """The uploader's last turn: input files that nobody needs any more."""
        return await self._each(lambda api, own: sweep.turn(api=api, hold=own, clock=self.clock), hold)

    async def tell(self, hold: Hold) -> Next:
        """Tell those who want to know how a job moves; of its end they are told before it is settled."""
        job = await hold.job()
        if job.settled_at is None and self.notifier.channels:
            await self.notifier.tell(job, await self.ledger.events(job), hold.note)
        return DONE

    async def settle(self, job: Job, outcome: Outcome, hold: Hold | None = None) -> None:
        """End a job: those who want to know are told, then it is settled, under one lease: nobody else ends it
        meanwhile. Raises Interrupted at the wish to stop."""
        async with holding(self.ledger, job, hold) as hold:
            now = await hold.job()
            if now.round != job.round or (now.settled_at is not None and job.settled_at is None):
                return  # a command asked again, or ended it
            if now.settled_at is None and self.notifier.channels:
                parts = (replace(p, state=State.SETTLED) if p.state is State.FETCHED else p for p in now.parts)
                ended = replace(now, outcome=outcome, settled_at=self.clock.now(), parts=tuple(parts))
                await self._tell_the_end(now, ended, hold)
            await hold.settle(_not_worse(now, outcome), at=self.clock.now())

    async def tell_end(self, ended: Job, hold: Hold | None = None) -> None:
        """Tell the end of a job to those who have not heard of it. Raises Interrupted at the wish to stop."""
        async with holding(self.ledger, ended, hold) as hold:
            await self._tell_the_end(ended, ended, hold)

    async def _tell_the_end(self, job: Job, ended: Job, hold: Hold) -> None:
        """Tell of a job as it will have `ended`."""
        telling = asyncio.ensure_future(self.notifier.tell(ended, await self.ledger.events(ended), hold.note))
        ending = [asyncio.ensure_future(event.wait()) for event in (self.stop, hold.lost)]
        try:
            await asyncio.wait({telling, *ending}, return_when=asyncio.FIRST_COMPLETED)
            if hold.lost.is_set():
                raise LeaseLost()
            if not telling.done():
                raise _interrupted(job)
            telling.result()
        finally:
            for task in (telling, *ending):
                task.cancel()
            await asyncio.wait({telling, *ending})

    async def close(self) -> None:
        """Let go of the connections."""
        for api in self.apis.values():
            await api.close()

    async def _each(self, turn: Callable[[Service, Hold], Awaitable[Next]], hold: Hold) -> Next:
        """A turn at each service, for the parts that are there; one service's trouble is not the others'."""
        nexts: list[Next] = []
        troubles: list[BatchkitError] = []
        for service, api in self.apis.items():
            try:
                nexts.append(await turn(api, hold.of(service)))
            except (ConfigError, LocalError, Refused, Unavailable) as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]
        return min((later for later in nexts if not later.done), key=lambda later: later.at or 0.0, default=DONE)

    async def run(
        self,
        job: Job,
        turns: Sequence[Turn],
        *,
        once: bool = False,
        timeout_s: float | None = None,
        hold: Hold | None = None,
    ) -> AsyncGenerator[Progress, None]:
        """Yield after each round of `turns` until all say done (or after one, with `once`). `hold` is the job's lease
        where somebody keeps it already.

        Raises Unfinished at the deadline, Interrupted when `stop` was set, and what the turns raise; in each case the
        ledger says where the job stands and the same call goes on from there.
        """
        JOB.set(job.name)
        deadline = None if timeout_s is None else self.clock.now() + timeout_s
        async with holding(self.ledger, job, hold) as hold:
            while True:
                nexts = [await self._one(turn, job, hold, deadline) for turn in turns]
                known = True
                try:
                    job = await hold.job()
                except LedgerUnreachable as error:
                    known = False
                    nexts.append(error)
                if not once and any(part.batches for part in job.parts):
                    nexts = [self._waited_out(later) for later in nexts]
                waits = [later for later in nexts if isinstance(later, Next) and not later.done]
                first = min(waits, key=lambda later: later.at or 0.0, default=None)
                why = next((later.why for later in waits if later.why), "")
                yield Progress(job, why, first.at if first else None)
                if trouble := next((later for later in nexts if isinstance(later, BatchkitError)), None):
                    # At the deadline nothing is waited for any more, so that all is out of time.
                    if isinstance(trouble, Unavailable):
                        self._check(job, deadline, known=known)
                    raise trouble
                if first is None or once:
                    return
                await self.pause(first.at or 0.0, deadline, job, known=known)

    async def pause(self, until: float, deadline: float | None, job: Job, *, known: bool = True) -> None:
        """Sleep until then, or until the wish to stop. Raises Unfinished at the deadline, Interrupted at the wish; they
        say how the job stands, if that is `known`."""
        self._check(job, deadline, known=known)
        await self._sleep_until(until, deadline)
        self._check(job, deadline, known=known)

    def _waited_out(self, later: Next | BatchkitError) -> Next | BatchkitError:
        """Once batches run at the service, its troubles and those of the ledger only move the next look."""
        if not isinstance(later, (Unavailable, LedgerUnreachable)):
            return later
        asked = later.retry_after_s if isinstance(later, Throttled) else None
        wait_s = min(LONGEST_WAIT_S, max(self.target.poll_interval_s, asked or 0.0))
        return Next(self.clock.now() + wait_s, str(later))

    async def _one(self, turn: Turn, job: Job, hold: Hold, deadline: float | None) -> Next | BatchkitError:
        """One turn of a job, or its trouble: that of one room must not keep the others from what they can do.

        Asked to stop, a turn may for a moment finish a creating request that is on its way; anything else is cut short,
        which the ledger allows anywhere.
        """
        if self.stop.is_set():
            raise await _stopped(hold, job)
        awaited = DEADLINE.set(deadline)
        doing = asyncio.ensure_future(turn(self, hold))
        DEADLINE.reset(awaited)
        ending = [asyncio.ensure_future(event.wait()) for event in (self.stop, hold.lost)]
        try:
            await asyncio.wait({doing, *ending}, return_when=asyncio.FIRST_COMPLETED)
            creating = any(api.creating for api in self.apis.values())
            if not doing.done() and creating and not hold.lost.is_set():
                await asyncio.wait(
                    {doing, ending[1]}, timeout=self.settings.grace_s, return_when=asyncio.FIRST_COMPLETED
                )
            if hold.lost.is_set():
                raise LeaseLost()
            if not doing.done():
                raise await _stopped(hold, job)
            return doing.result()
        except (
            ConfigError,
            Refused,
            Unavailable,
            LedgerUnreachable,
            Uncertain,
            ResultError,
            LocalError,
            Unfinished,
        ) as error:
            return error
        finally:
            for task in (doing, *ending):
                task.cancel()
            await asyncio.wait({doing, *ending})

    def _check(self, job: Job, deadline: float | None, *, known: bool) -> None:
        if self.stop.is_set():
            raise _interrupted(job, known=known)
        if deadline is not None and self.clock.now() >= deadline:
            words = f"job {job.name!r} is not finished yet ({standing(job, known=known)})"
            raise Unfinished(words, hint=_go_on(job, known=known))

    async def _sleep_until(self, at: float, deadline: float | None) -> None:
        seconds = (at if deadline is None else min(at, deadline)) - self.clock.now()
        sleeping = asyncio.ensure_future(self.clock.sleep(seconds))
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()


def connect(
    target: Target,
    ledger: Ledger,
    workdir: Workdir,
    clock: Clock,
    settings: Settings,
    *,
    commands: Iterable[Command] = (),
    transport: httpx.AsyncBaseTransport | None = None,
) -> Pump:
    """A pump with a door to each member of the target. What its address made worth saying is said."""
    for remark in target.remarks:
        _log.warning("%s", remark)
    apis = {member.service: Service(member, clock, settings, transport) for member in reversed(target.members)}
    notifier = Notifier([*commands, *target.notify], clock=clock, settings=settings, secrets=target.secrets)
    return Pump(target, apis, ledger, workdir, clock, settings, Lookout(clock), notifier)


@asynccontextmanager
async def holding(ledger: Ledger, job: Job, kept: Hold | None = None) -> AsyncIterator[Hold]:
    """The job's lease while the block runs: the one that somebody `kept` already, or a new one."""
    if kept is not None:
        yield kept
        return
    async with keeping(await ledger.hold(job)) as hold:
        yield hold


@asynccontextmanager
async def keeping(hold: Hold) -> AsyncIterator[Hold]:
    """A lease, renewed while the block runs and then let go; `lost` is set on it once it is another's."""
    terms = hold.terms

    async def renew() -> None:
        wait_s = terms.renew_s
        try:
            while True:
                await asyncio.sleep(wait_s)
                try:
                    await hold.renew()
                    wait_s = terms.renew_s
                except LeaseLost:
                    break
                except BatchkitError:
                    # Until the ledger is back nothing can be written, and nobody can take the lease.
                    wait_s = terms.retry_s
        finally:
            hold.lost.set()

    keeper = asyncio.create_task(renew())
    try:
        yield hold
    finally:
        keeper.cancel()
        with suppress(BatchkitError):
            await hold.release()


def _not_worse(job: Job, outcome: Outcome) -> Outcome:
    """What is written of a job that ended: not that another machine has less of it than it ended with, unless the user
    gave up here what is missing."""
    before = job.outcome if job.settled_at is not None else None
    given_up = any(part.state is State.FETCHED and part.held for part in job.parts)
    return outcome if before is None or given_up or outcome.ok >= before.ok else before


def cut_short(job: Job | None, *, known: bool = True) -> KeyboardInterrupt:
    """What Ctrl-C says to code that does not await, of the job that was worked on."""
    if job is None:
        return KeyboardInterrupt("stopped; what was begun is in the ledger, and the same call again goes on")
    stopped = _interrupted(job, known=known)
    return KeyboardInterrupt(f"{stopped}; next: {in_python(stopped.hint)}")


async def _stopped(hold: Hold, job: Job) -> Interrupted:
    """The end of a turn at the wish to stop: of the job as it stands by now, or stood where the ledger is away."""
    try:
        return _interrupted(await hold.job())
    except LedgerUnreachable:
        return _interrupted(job, known=False)


def _interrupted(job: Job, *, known: bool = True) -> Interrupted:
    words = f"stopped; job {job.name!r} is safe in the ledger ({standing(job, known=known)})"
    return Interrupted(words, hint=_go_on(job, known=known))


def standing(job: Job, *, known: bool = True) -> str:
    """What still runs, in words about money; while the ledger is away that may not be `known`."""
    if running := _running(job):
        return f"{running} {'batch runs' if running == 1 else 'batches run'} on at the service and will be billed"
    if not known:
        return "what runs at the service cannot be told now: the ledger is away"
    return f"nothing runs at the service; {job.held or job.state}"


def _running(job: Job) -> int:
    ended = {part.id for part in job.parts if part.state is State.RUNNING and part.batch and part.batch.ended}
    return sum(part.state in (State.RUNNING, State.SUBMITTING) and part.id not in ended for part in job.parts)


def _go_on(job: Job, *, known: bool = True) -> str:
    if not known and not _running(job):
        return f"batchkit show {quote(job.name)}  # tells what runs, once the ledger is back"
    if job.collected and job.settled_at is None:
        return "the same command again tells it and ends it"
    if job.owed:
        return f"the same command again goes on; batchkit cancel {quote(job.name)} --give-up ends it without that"
    if job.cancelled_at is not None:
        return "the same command again goes on"
    if job.settled_at is not None:
        return f"batchkit fetch {quote(job.name)} -o results.csv"
    name = quote(job.name)
    return f"batchkit track {name}  # or the same command again to go on; batchkit cancel {name} stops it"
