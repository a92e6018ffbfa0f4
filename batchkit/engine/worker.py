"""What it takes to work on jobs with a pump: a lease from the turns to the end, more rounds, many jobs together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from batchkit.collector.answers import lost
from batchkit.collector.export import Shape
from batchkit.collector.results import Results, collect, fit
from batchkit.disk import already_there
from batchkit.engine.delivery import deliver, foresee, merged
from batchkit.engine.intake import Intake
from batchkit.engine.pump import Progress, Pump, Turn, holding, keeping
from batchkit.engine.watch import Watched, watch
from batchkit.errors import (
    BatchkitError,
    ConfigError,
    Interrupted,
    LeaseLost,
    LedgerBusy,
    LedgerError,
    LocalError,
    Redirected,
    Refused,
    Unavailable,
)
from batchkit.given import advise
from batchkit.ledger import Hold
from batchkit.model import Job, State, moving
from batchkit.model.due import is_due

_log = logging.getLogger(__name__)
ALL: Sequence[Turn] = (Pump.submit, Pump.poll, Pump.fetch)


@dataclass(frozen=True)
class Worker:
    """Works on jobs; `seen` is told of each step."""

    pump: Pump
    intake: Intake
    seen: Callable[[Progress], Awaitable[None]]

    async def steps(
        self,
        job: Job,
        turns: Sequence[Turn],
        *,
        once: bool = False,
        timeout_s: float | None = None,
        hold: Hold | None = None,
    ) -> AsyncGenerator[Progress, None]:
        """A job after each round of turns; those who want to know are told. Raises as `Pump.run`, and ConfigError."""
        self.check(job)
        told = (*turns, Pump.tell)
        async with holding(self.pump.ledger, job, hold) as hold:
            if Pump.submit in turns and job.cancelled_at is None:  # who sends nothing needs no place to send it to
                job = await self._homed(job, hold)
            async with aclosing(self.pump.run(job, told, once=once, timeout_s=timeout_s, hold=hold)) as steps:
                async for progress in steps:
                    await self.seen(progress)
                    yield progress

    async def turns(
        self,
        job: Job,
        turns: Sequence[Turn],
        *,
        once: bool = False,
        timeout_s: float | None = None,
        hold: Hold | None = None,
    ) -> Job:
        """A job after all its turns; one at rest as it is."""
        if self._rests(job):
            return job
        async with aclosing(self.steps(job, turns, once=once, timeout_s=timeout_s, hold=hold)) as steps:
            async for progress in steps:
                job = progress.job
        return job

    async def fetch(self, job: Job, out: Path | None, shape: Shape, *, overwrite: bool, partial: bool) -> Results:
        """What came back of a job, and where all did its end; beside another process what is here may be read."""
        try:
            async with self._lease(job) as hold:
                try:
                    job = await self.turns(job, [Pump.poll, Pump.fetch], once=True, hold=hold)
                except (ConfigError, LocalError, Refused, Unavailable) as error:
                    here = self._here(await self.pump.ledger.job(job))
                    if not partial or here.collected:
                        raise
                    if out is not None and not overwrite and await asyncio.to_thread(out.exists):
                        raise already_there(out) from None  # it may have the only copy of what is lost
                    advise(_log, f"{error}; its rows are pending", f"next: {error.hint}")
                    return await merged(self.pump, here, out, shape, overwrite=overwrite)
                return await deliver(self.pump, job, out, shape, overwrite=overwrite, partial=partial, hold=hold)
        except LeaseLost:
            raise
        except LedgerBusy as busy:
            job = await self.pump.ledger.job(job)
            if not (partial or job.collected):  # what is all here may be read while another process ends the job
                hint = f"batchkit fetch {quote(job.name)} --partial  # reads what is here by now, beside that process"
                raise LedgerBusy(str(busy), hint=hint) from None
            return await merged(self.pump, job, out, shape, overwrite=overwrite)

    def _here(self, job: Job) -> Job:
        """The job with what this machine has of it: a part that it lost is as one that was not fetched yet."""
        parts = (replace(p, state=State.ENDED) if lost(p, self.pump.workdir) else p for p in job.parts)
        return replace(job, parts=tuple(parts))

    async def finish(
        self,
        job: Job,
        out: Path | None,
        shape: Shape,
        *,
        overwrite: bool,
        once: bool,
        timeout_s: float | None,
        retries: int,
    ) -> Results:
        """All turns of a job, again for rows that are worth it, and its end."""
        clock = self.pump.clock
        deadline = None if timeout_s is None else clock.now() + timeout_s
        async with AsyncExitStack() as stack:
            hold = await stack.enter_async_context(self._lease(job))
            if not any(part.intent for part in job.parts):
                await foresee(self.pump, job, out, shape, overwrite=overwrite)
            while True:
                left_s = None if deadline is None else deadline - clock.now()
                job = await self.turns(job, ALL, once=once, timeout_s=left_s, hold=hold)
                seen = await self._worth_asking(job) if job.collected and job.round < retries else None
                if seen is not None:
                    await foresee(self.pump, job, out, shape, overwrite=overwrite)
                    await asyncio.to_thread(fit, job, self.pump.workdir, shape)
                    if hold is None:
                        hold = await stack.enter_async_context(holding(self.pump.ledger, job))
                    if await self.intake.round(job, self.pump.target, hold=hold, short=seen.short):
                        job = await self.pump.ledger.job(job)
                        continue
                return await deliver(self.pump, job, out, shape, overwrite=overwrite, partial=False, hold=hold)

    async def retry(self, job: Job, *, only: Collection[str], params: Mapping[str, Any]) -> tuple[Job, int]:
        """A further round of a finished job, submitted under the same lease; and its rows."""
        self.check(job)
        async with holding(self.pump.ledger, job) as hold:
            # What it takes back is the wish to cancel that was known before.
            job = replace(await self._homed(job, hold), cancelled_at=job.cancelled_at)
            count = await self.intake.round(job, self.pump.target, only=only, params=params, hold=hold)
            return await self.turns(await self.pump.ledger.job(job), [Pump.submit], hold=hold), count

    async def follow(
        self, jobs: Sequence[Job], *, timeout_s: float | None, settled: bool
    ) -> AsyncGenerator[list[Watched], None]:
        """Jobs together, as `watch` shows them; with `settled` each to its end."""
        pump = self.pump
        deadline = None if timeout_s is None else pump.clock.now() + timeout_s
        for job in jobs:
            if job.settled_at is not None and pump.notifier.channels:
                with suppress(LedgerBusy):  # who works on it may be telling it
                    await pump.tell_end(job)

        async def act(job: Job) -> float | None:
            due: float | None = None
            async with self._lease(job) as hold:
                which, left_s = ALL if settled else ALL[:2], None if deadline is None else deadline - pump.clock.now()
                async with aclosing(self.steps(job, which, once=True, timeout_s=left_s, hold=hold)) as turns:
                    async for progress in turns:
                        job, due = progress.job, progress.next_look_at
                if settled and job.collected:
                    await self._end(job, hold)
            return due

        async def sleep_until(at: float, job: Job) -> None:
            await pump.pause(at, deadline, job)

        steps = watch(
            jobs,
            act,
            ledger=pump.ledger,
            lookout=pump.lookout,
            clock=pump.clock,
            poll_interval_s=pump.target.poll_interval_s,
            settled=settled,
            sleep_until=sleep_until,
        )
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def run_due(self) -> list[Job]:
        """One turn of each job that is due, and its end where all came back. Raises the worst trouble at last, with the
        jobs that had their turn."""
        troubles: list[tuple[Job | None, BatchkitError]] = []
        done: list[Job] = []
        ledger = self.pump.ledger
        waiting = [job for job in await ledger.jobs(unfinished=True) if self._due(job)]
        self.pump.lookout.expect(waiting)
        while waiting:
            try:
                claimed = await ledger.claim(waiting)
            except LedgerError as error:  # what was done so far is told all the same
                troubles.append((None, error))
                break
            if claimed is None:
                break
            job, hold = claimed
            waiting = [other for other in waiting if other.id != job.id]
            try:
                if (turned := await self._claimed(job, hold)) is not None:
                    done.append(turned)
            except LedgerBusy:
                continue  # another worker goes on with it
            except BatchkitError as error:
                troubles.append((job, error))
                if isinstance(error, Interrupted):
                    break
            except OSError as error:
                where, why = error.filename or self.pump.workdir.root, error.strerror or str(error)
                troubles.append((job, LocalError(f"{where}: {why.lower()}")))
        if troubles:
            raise _worst(troubles, done)
        return done

    async def _claimed(self, job: Job, hold: Hold) -> Job | None:
        """A job that was due, after its turn; None where another worker was faster."""
        async with keeping(hold):
            if not self._due(job := await self.pump.ledger.job(job)):
                return None
            job = await self.turns(job, ALL, once=True, hold=hold)
            if job.collected:
                await self._end(job, hold)
            return await self.pump.ledger.job(job)

    async def give_up(self, job: Job) -> Job:
        """End a job without what the service does not know or hand out; what can be had is had first."""
        try:
            return await self._given_up(job)
        except LeaseLost:
            raise
        except LedgerBusy as busy:
            again = f"batchkit cancel {quote(job.name)} --give-up"
            hint = f"{again}  # once that process has ended or is stopped; by its next look it cancels what it can"
            raise LedgerBusy(str(busy), hint=hint) from None

    async def _given_up(self, job: Job) -> Job:
        async with self._lease(job) as hold:
            with suppress(Redirected, Refused, Unavailable, LocalError):
                await self.turns(job, ALL, once=True, hold=hold)
            job = await self.turns(await self.pump.ledger.job(job), [Pump.give_up], once=True, hold=hold)
            if job.collected and (job.settled_at is None or job.state is State.FETCHED):
                await self._end(job, hold)
        return await self.pump.ledger.job(job)

    def check(self, job: Job) -> None:
        """Raise ConfigError for a job that the target does not reach, as it was or as that was edited meanwhile."""
        target = self.pump.target
        if not (strange := self._strange(job)):
            return
        words, hint = f"job {job.name!r} belongs to {', '.join(sorted(strange))}", "use the target it was submitted to"
        if job.target == target.name and moving.POOLED in job.service:
            hint = f"put it back into the pool {target.name!r}, until what runs there is fetched"
        raise ConfigError(f"{words}, not to {target.service}", hint=hint)

    async def _homed(self, job: Job, hold: Hold) -> Job:
        """A job whose pool was edited meanwhile as one of that pool."""
        return await self.intake.rehome(job, self.pump.target, hold=hold) if self._edited(job) else job

    def _edited(self, job: Job) -> bool:
        target = self.pump.target
        return moving.is_edited(job, target.name, {member.service for member in target.members})

    def _strange(self, job: Job) -> set[str]:
        target = self.pump.target
        if self._edited(job):
            return set()
        return moving.strange(job, target.service, {member.service for member in target.members})

    def _due(self, job: Job) -> bool:
        target = self.pump.target
        reached = not self._strange(job)
        if not reached and job.target == target.name:  # others are worked on where their targets are known
            words = "job %r is left alone: target %r does not reach all of %s any more, where it belongs"
            _log.warning(words, job.name, target.name, job.service)
        return reached and is_due(job, target.poll_interval_s, self.pump.clock.now())

    async def _end(self, job: Job, hold: Hold | None) -> None:
        """What came back is kept with the ledger until it is fetched."""
        await deliver(self.pump, job, None, Shape(), overwrite=False, partial=False, hold=hold)

    async def _worth_asking(self, job: Job) -> Results | None:
        """What came back of a finished job, where rows of it are worth asking again."""
        if job.cancelled_at is not None:
            return None
        results = await asyncio.to_thread(collect, job, self.pump.workdir, None, Shape(), None)
        if not results.report.retryable:
            return None
        if results.hopeless:
            _log.warning("job %r: hardly any row succeeded in round %d; it is not asked again", job.name, job.round)
            return None
        if results.short:
            words = "job %r: more rows of %s are finished, and paid, than came; what is missing is not asked again"
            _log.warning(words, job.name, ", ".join(sorted(results.short)))
        return results

    def _rests(self, job: Job) -> bool:
        """Whether no turn gets a job any further."""
        whole = not any(lost(part, self.pump.workdir) for part in job.parts)
        return whole and job.settled_at is not None and job.state in (State.SETTLED, State.DROPPED)

    @asynccontextmanager
    async def _lease(self, job: Job) -> AsyncIterator[Hold | None]:
        """A job's lease from its turns to its end; None for one at rest, which is only read."""
        if self._rests(job):
            yield None
        else:
            async with holding(self.pump.ledger, job) as hold:
                yield hold


def _worst(troubles: Sequence[tuple[Job | None, BatchkitError]], done: Sequence[Job]) -> BatchkitError:
    """The worst trouble, of a job or of the ledger; it tells of the others, and of the jobs that had their turn."""
    worst = max((error for _, error in troubles), key=lambda error: error.exit)
    others = [(job, trouble) for job, trouble in troubles if trouble is not worst]
    worst.done, worst.also = tuple(done), tuple(trouble for _, trouble in others)
    for job, trouble in others:
        worst.add_note(f"also: job {job.name!r}: {trouble}" if job else f"also: {trouble}")
    return worst
