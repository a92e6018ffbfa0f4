"""AsyncClient: open, forward, close. The verbs of batchkit, and no decision of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any, Unpack

from batchkit.api.service import Service
from batchkit.collector.answers import lost
from batchkit.collector.results import Results, columns, judge, survey
from batchkit.config.prices import Prices, prices_in
from batchkit.connection import Connection
from batchkit.disk import check_writable, stamp
from batchkit.engine.intake import Source
from batchkit.engine.pump import Pump
from batchkit.engine.watch import Watched
from batchkit.errors import CancelWished, LeaseLost, LedgerBusy, Unfinished
from batchkit.given import expect, expect_call
from batchkit.model import Finding, Job, Result, State, StoredFile
from batchkit.tracker import remote
from batchkit.tracker.query import Page, Query, Remote, RemotePage, select
from batchkit.uploader import housekeeping
from batchkit.wishes import Wishes, shape_of

_QUERY = "such as batchkit.Query(name='nightly-*', limit=10)"


class AsyncClient(Connection):
    """batchkit's verbs for asynchronous code; `Client` has the same ones for the rest.

    `target` is a name from the targets file or a Target (default: the environment); `ledger` a path or URL (default:
    per user), or an open ledger with its working files; `config` another targets file. The service, and the key, are
    only asked for by verbs that need them.
    `on_progress` is called after each turn of a long call, about once a minute, with a Progress: its `job` as it
    stands, `why` it waits, and `next_look_at`. `commands` are run when a job moves or is done, beside the webhooks of
    the target; into the file `metrics` goes how the ledger's jobs stand, for Prometheus. Making one raises InputError
    or ConfigError for what it is given.

    Every verb raises LedgerError where the ledger cannot be used, and InputError for a wrong kind of argument. All are
    BatchkitErrors with `code`, `exit` and `hint`.
    """

    async def submit(
        self, source: Source, *, name: str | None = None, stem: str | None = None, wait: bool = True
    ) -> Job:
        """Upload request lines and start their batches; returns once all run.

        The same name with the same content is the same job and goes on where it stood; with other content it is a
        JobConflict. Without a name it is called after `stem` (default: the file's) and its content. Under another name
        it is another job, and billed again: a warning is logged where the ledger has one of the same content.
        `wait=False` does not wait for quota or slow files. What goes on meanwhile is told to the client's
        `on_progress`.

        Raises InputError, such as JobConflict, before anything is sent, ConfigError, Refused, Unavailable, Uncertain,
        LedgerBusy where another process works on the job, LocalError, and Interrupted.
        """
        expect_call(name=name, stem=stem)
        return await self._works().turns(await self._job(source, name, stem), [Pump.submit], once=not wait)

    async def track(self, job: Job | str, *, timeout_s: float | None = None, once: bool = False) -> AsyncIterator[Job]:
        """A snapshot now and after each look, until no batch of the job moves any more.

        Parts still waiting for quota are sent when there is room. Raises Unfinished at `timeout_s`, UnknownJob,
        ConfigError, Refused, Unavailable, Uncertain, LedgerBusy, LocalError and Interrupted.
        """
        expect_call(timeout_s=timeout_s)
        found = await self._known(job)
        turns = self._works().steps(found, [Pump.submit, Pump.poll], once=once, timeout_s=timeout_s)
        async with aclosing(turns) as steps:
            async for progress in steps:
                yield progress.job

    async def watch(
        self, jobs: Job | str | Collection[Job | str] = (), *, timeout_s: float | None = None, settled: bool = False
    ) -> AsyncGenerator[list[Watched], None]:
        """Several jobs (default: all that are unfinished) after each round of looks, until none moves any more.

        With `settled` results are collected too, and it ends when every row is accounted for. A job that another
        process works on is only looked at in the ledger, and trouble that may pass is told as its `trouble`. Raises
        Unfinished at `timeout_s`, Interrupted when told to stop, UnknownJob, ConfigError, Refused and LocalError.
        """
        expect_call(timeout_s=timeout_s)
        jobs = (jobs,) if isinstance(jobs, (str, Job)) else jobs
        expect("jobs", jobs, Collection, "a Job or its name, or several of them")
        found = [await self._known(job) for job in jobs] if jobs else await self._ledger.jobs(unfinished=True)
        steps = self._works().follow(found, timeout_s=timeout_s, settled=settled)
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def fetch(
        self,
        job: Job | str,
        out: str | Path | None = None,
        *,
        overwrite: bool = False,
        partial: bool = False,
        **wishes: Unpack[Wishes],
    ) -> Results:
        """Download what came back, merge it in input order, account for every row, and write it to `out`.

        How it is written say the `wishes`, see Wishes. With `partial` rows that are not back, or that this machine
        lost, are `pending`. Rows that do not add up are in `report`. The client's `on_progress` is called
        when the download is done, and not while it lasts.

        Raises Unfinished while batches run, unless `partial`; UsageError when `out` holds something else and
        `overwrite` is not given, and for columns that there are not; InputError for rows to join that are not
        the job's, MissingExtra, ResultError for embeddings that fit in no column; UnknownJob, ConfigError, Refused,
        Unavailable, LedgerBusy and Interrupted.
        """
        shape, path, found = shape_of(out, wishes), await _checked(out), await self._known(job)
        if files := self._intake.files(found):
            await asyncio.to_thread(columns, found, files, shape)
        return await self._works().fetch(found, path, shape, overwrite=overwrite, partial=partial)

    async def iter_results(self, job: Job | str, *, partial: bool = False) -> AsyncIterator[Result]:
        """The results one by one, in input order, read from this machine as they are asked for. Raises as `fetch`."""
        rows = iter(await self.fetch(job, partial=partial))
        while some := await asyncio.to_thread(lambda: list(islice(rows, 100))):
            for result in some:
                yield result

    async def run(
        self,
        source: Source,
        *,
        name: str | None = None,
        stem: str | None = None,
        out: str | Path | None = None,
        overwrite: bool = False,
        once: bool = False,
        timeout_s: float | None = None,
        fingerprint: str | None = None,
        retries: int = 0,
        **wishes: Unpack[Wishes],
    ) -> Results:
        """Submit, track and fetch: from request lines to merged results in one call, safe to repeat and to kill.

        `once` does what can be done now and raises Unfinished if that was not all (for cron). Rows that failed for a
        passing reason are asked again up to `retries` times, unless the last time hardly any succeeded. An input that
        comes with the `fingerprint` it came with before is not read again. Rows that failed for good are results too:
        `results.raise_for_failures()` makes an exception of them. The other words are those of `submit` and `fetch`.

        A call takes up to a day, and longer for want of quota: `on_progress` of the client is called after each turn
        (`Client(on_progress=lambda step: print(step.job, step.why))`), and log records of "batchkit" say what is rare.

        Raises Unfinished at `timeout_s`, and else what `submit` and `fetch` raise: InputError, such as JobConflict,
        UsageError, ConfigError, MissingExtra, Refused, Unavailable, Uncertain, LedgerBusy, LocalError, ResultError and
        Interrupted.
        """
        expect_call(name=name, stem=stem, timeout_s=timeout_s, fingerprint=fingerprint, retries=retries)
        shape, path = shape_of(out, wishes, source), await _checked(out)
        known = await self._ledger.known_source(fingerprint) if fingerprint else None
        if known is not None and (files := self._intake.files(known[0])):
            job = known[0]
            await asyncio.to_thread(judge, job, files, shape)
        else:
            job = await self._job(source, name, stem, new_file=None if overwrite else path, shape=shape)
            if fingerprint:
                await self._ledger.remember_source(fingerprint, job)
        results = await self._works().finish(
            job, path, shape, overwrite=overwrite, once=once, timeout_s=timeout_s, retries=retries
        )
        if fingerprint and path is not None:
            await self._ledger.remember_source(fingerprint, results.job, stamp(path, ours=True))
        return results

    async def run_due(self) -> list[Job]:
        """One turn of every job of the ledger that is due and that nobody else works on; the jobs as they then stand.

        What came back is kept with the ledger until it is fetched. Raises the worst trouble once all had their turn,
        ConfigError, Refused, Unavailable, Uncertain, LocalError, LedgerError or Interrupted: its `done` are the jobs
        that had theirs, its `also` are the other troubles.
        """
        return await self._works().run_due()

    async def retry(
        self,
        job: Job | str,
        *,
        only: Collection[str] = (),
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> tuple[Job, int]:
        """Ask again for rows that failed, as the next round; the job as it then runs, and how many rows.

        Rows that never ran or never came back, 408, 429 and 5xx are asked again; `only` names what to ask again
        instead: error codes, statuses, `4xx` or `5xx`, or answers that are ok and of no use: `cut_off`, `refused`,
        `off_schema`, as `report.unusable` counts them. `params` go into every body on the way. With
        `dry_run` the rows are only counted.

        Raises InputError when no row qualifies, Unfinished while the job runs, UnknownJob, ConfigError, Refused,
        Unavailable, Uncertain, LedgerBusy, LocalError and Interrupted.
        """
        only = (only,) if isinstance(only, str) else only
        expect_call(only=only, params=params)
        found, only = await self._known(job), [*map(str, only)]
        if not found.collected:
            ended = all(part.collected or part.state is State.ENDED for part in found.parts)
            verb, rest = ("fetch", " -o results.csv") if ended else ("track", "")
            hint = f"batchkit {verb} {quote(found.name)}{rest}"
            raise Unfinished(f"job {found.name!r} is not finished yet", hint=hint)
        if dry_run:
            return found, await self._intake.count(found, only=only)
        return await self._works().retry(found, only=only, params=params or {})

    async def report(self, job: Job | str, *, prices: Prices | str | Path | None = None) -> dict[str, Any]:
        """The numbers of a job, for a report: rows, failures, tokens, latency, parts, and cost by a price file (its
        path). Asks nothing of the service. Raises UnknownJob, ConfigError for a bad price file, and LocalError."""
        found = await self.show(job)
        return await asyncio.to_thread(survey, found, self._workdir, await asyncio.to_thread(prices_in, prices))

    async def cancel(self, job: Job | str, *, give_up: bool = False) -> Job:
        """Stop a job: drop what was not sent, ask the service to stop what runs. Finished rows are kept, and billed.

        With `give_up` batches that the service does not know, or that it could not be asked about for an hour since a
        look first failed, are not waited for, nor are result files that it does not name or will not hand out: the job
        ends without their rows. Batches that live all the same run on, and are billed, until a listing shows them: then
        they are stopped. Of a job that ended it gives up the results that this machine lost and the service does not
        hand out.

        Raises UnknownJob, ConfigError, Refused, Unavailable, Uncertain, LocalError, Interrupted, LedgerBusy, and where
        another process works on the job, and will cancel it, the LedgerBusy whose code is "ledger.cancel_wished".
        """
        found = await self._known(job)
        missed = give_up and any(lost(part, self._workdir) for part in found.parts)
        if found.settled_at is not None and not missed:
            told = await self._ledger.wish_cancelled(found, at=self._clock.now())
            if told.cancelled_at == found.cancelled_at:
                return found
            raise CancelWished(f"job {found.name!r} ended, and who works on it was told to ask for no row of it again")
        worker = self._works()
        worker.check(found)
        found = await self._ledger.wish_cancelled(found, at=self._clock.now())
        if give_up:
            return await worker.give_up(found)
        try:
            return await worker.turns(found, [Pump.submit])
        except LeaseLost:
            raise
        except LedgerBusy as busy:
            raise CancelWished(f"{busy}, which was told to cancel it and does so at its next look") from None

    async def list(self, query: Query = Query()) -> Page:
        """The ledger's jobs that match, a page at a time; nothing is asked of the service. Raises UsageError for a
        status or a cursor that there is not."""
        expect("query", query, Query, "a batchkit.Query", hint=_QUERY)
        return select(await self._ledger.jobs(), query)

    async def list_remote(self, query: Query = Query()) -> RemotePage:
        """The batches at the service that match, ours and others', a page at a time. Raises UsageError as `list`,
        ConfigError, Refused and Unavailable."""
        expect("query", query, Query, "a batchkit.Query", hint=_QUERY)
        return await remote.listed(self._works().pump.apis, self._ledger, query)

    async def show_remote(self, job: Job | str) -> tuple[Remote, ...]:
        """A job's batches as the service shows them now, or that of this id. Writes nothing down. Raises UnknownJob,
        ConfigError, Refused and Unavailable."""
        expect("job", job, (str, Job), "a Job, its name or the id of a batch")
        return await remote.shown(self._works().pump.apis, self._ledger, job)

    async def show(self, job: Job | str) -> Job:
        """One job with its parts, batches and diary, from the ledger. Raises UnknownJob."""
        found = await self._known(job)
        return replace(found, events=tuple(await self._ledger.events(found)))

    async def files(self, *, sweep: bool = False) -> tuple[tuple[StoredFile, ...], tuple[StoredFile, ...]]:
        """The input files at the service with their standing, and those of them that `sweep` deleted: ours that no job
        needs any more, never anybody else's. Raises ConfigError, Refused and Unavailable."""
        apis = self._works().pump.apis
        found = await housekeeping.look(apis, self._ledger)
        return found, await housekeeping.clear(apis, found) if sweep else ()

    async def doctor(
        self,
        *,
        deployment: str | None = None,
        probe: bool = False,
        fix: bool = False,
        facts: str | Path | None = None,
        timeout_s: float = 1200.0,
    ) -> tuple[Finding, ...]:
        """Whether endpoint, credential, service, ledger and machine are fit for work. Raises nothing for what it finds,
        and InputError for what it is given.

        `probe` makes a batch of one short request, which is billed, where nothing else is a problem: only so it shows
        whether the `deployment` (default: the target's) runs batches. It is waited for `timeout_s` seconds, with
        `on_progress` called meanwhile. `fix` mends first what is local and safe. `facts` is a file that overrides the
        published facts, see `batchkit limits`.
        """
        from batchkit.doctor import Patient, consult

        expect_call(deployment=deployment, facts=facts, timeout_s=timeout_s)
        brisk = replace(self._settings, max_attempts=1)
        patient = Patient(
            target=self._load_target,
            service=lambda target: Service(target, self._clock, brisk, self._transport),
            ledger=self._ledger,
            workdir=self._workdir,
            clock=self._clock,
            deployment=deployment,
            config=self._config,
            facts=None if facts is None else Path(facts),
            direct=self._transport is None,
            patience_s=timeout_s,
        )
        return await consult(patient, self._alone if probe else None, fix=fix)


async def _checked(out: str | Path | None) -> Path | None:
    """A place for results, known to be writable before anything is spent on them."""
    expect_call(out=out)
    if out is None:
        return None
    await asyncio.to_thread(check_writable, Path(out))
    return Path(out)
