"""Client: the verbs of AsyncClient for code that does not await, through a loop on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from batchkit.bridge import Bridge
from batchkit.client import AsyncClient
from batchkit.clock import Clock
from batchkit.collector.results import Results
from batchkit.config import Settings, Target
from batchkit.config.prices import Prices
from batchkit.engine.intake import Source
from batchkit.engine.pump import Progress
from batchkit.engine.watch import Watched
from batchkit.model import Finding, Job, Result, StoredFile
from batchkit.tracker.query import Page, Query, Remote, RemotePage
from batchkit.wishes import Wishes


class Client:
    """batchkit's verbs for ordinary code, also inside a notebook or a running event loop.

    `target` is a name from the targets file or a Target (default: the environment); `ledger` a path or URL (default:
    per user); `config` another targets file. The service, and the key, are only asked for by verbs that need them.
    `on_progress` is called after each turn. Each verb is that of AsyncClient.

    A verb that takes a job raises UnknownJob for one that the ledger does not have; whoever asks the service may meet
    ConfigError, Refused or Unavailable, and whoever writes LedgerBusy, LocalError or Uncertain. All are BatchkitErrors
    with `code`, `exit` and `hint`. Ctrl-C is a KeyboardInterrupt that says what runs on at the service, and is billed;
    the ledger knows all of it, and the same call again goes on.
    """

    def __init__(
        self,
        target: str | Target | None = None,
        *,
        ledger: str | Path | None = None,
        config: str | Path | None = None,
        settings: Settings = Settings(),
        clock: Clock | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._client = AsyncClient(
            target, ledger=ledger, config=config, settings=settings, clock=clock, on_progress=on_progress
        )
        self._bridge = Bridge(self._client._cut_short)

    def submit(self, source: Source, *, name: str | None = None, stem: str | None = None, wait: bool = True) -> Job:
        """Upload request lines and start their batches; returns once all run.

        The same name with the same content is the same job and goes on where it stood; with other content it is a
        JobConflict. Without a name it is called after `stem` (default: the file's) and its content. Under another name
        it is another job, and billed again: a warning is logged where the ledger has one of the same content.
        `wait=False` does not wait for quota or slow files. Raises InputError before anything is sent, Refused,
        Unavailable, Uncertain.
        """
        return self._bridge.call(self._client.submit(source, name=name, stem=stem, wait=wait))

    def track(self, job: Job | str, *, timeout_s: float | None = None, once: bool = False) -> Iterator[Job]:
        """A snapshot now and after each look, until no batch of the job moves any more.

        Parts still waiting for quota are sent when there is room. Raises Unfinished at `timeout_s`.
        """
        return self._bridge.iterate(self._client.track(job, timeout_s=timeout_s, once=once))

    def fetch(
        self,
        job: Job | str,
        out: str | Path | None = None,
        *,
        overwrite: bool = False,
        partial: bool = False,
        **wishes: Unpack[Wishes],
    ) -> Results:
        """Download what came back, merge it in input order, account for every row, and write it to `out`.

        How it is written say the `wishes`, see Wishes. Raises Unfinished while batches run, unless `partial`: then rows
        that are not back, or that this machine lost, are `pending`. Raises UsageError when `out` holds something else
        and `overwrite` is not given. Rows that do not add up are in `report`.
        """
        return self._bridge.call(self._client.fetch(job, out, overwrite=overwrite, partial=partial, **wishes))

    def iter_results(self, job: Job | str, *, partial: bool = False) -> Iterator[Result]:
        """The results one by one, in input order, read from this machine as they are asked for. Raises as `fetch`."""
        return iter(self.fetch(job, partial=partial))

    def run(
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
        """
        return self._bridge.call(
            self._client.run(
                source,
                name=name,
                stem=stem,
                out=out,
                overwrite=overwrite,
                once=once,
                timeout_s=timeout_s,
                fingerprint=fingerprint,
                retries=retries,
                **wishes,
            )
        )

    def run_due(self) -> list[Job]:
        """One turn of every job of the ledger that is due and that nobody else works on; the jobs as they then stand.

        What came back is kept with the ledger until it is fetched. Raises the worst trouble once all had their turn:
        its `done` are the jobs that had theirs, its `also` are the other troubles.
        """
        return self._bridge.call(self._client.run_due())

    def retry(
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
        `off_schema`, as `report.unusable` counts them. `params` go into every body on the way. Raises InputError when
        no row qualifies. With `dry_run` the rows are only counted.
        """
        return self._bridge.call(self._client.retry(job, only=only, params=params, dry_run=dry_run))

    def report(self, job: Job | str, *, prices: Prices | str | Path | None = None) -> dict[str, Any]:
        """The numbers of a job, for a report: rows, failures, tokens, latency, parts, and cost by a price file (its
        path). Asks nothing of the service."""
        return self._bridge.call(self._client.report(job, prices=prices))

    def cancel(self, job: Job | str, *, give_up: bool = False) -> Job:
        """Stop a job: drop what was not sent, ask the service to stop what runs. Finished rows are kept, and billed.

        With `give_up` batches that the service does not know, or that it could not be asked about for an hour since a
        look first failed, are not waited for, nor are result files that it does not name or will not hand out: the job
        ends without their rows. Batches that live all the same run on, and are billed, until a listing shows them: then
        they are stopped. Of a job that ended it gives up the results that this machine lost and the service does not
        hand out. Raises CancelWished where another process works on the job and was told.
        """
        return self._bridge.call(self._client.cancel(job, give_up=give_up))

    def list(self, query: Query = Query()) -> Page:
        """The ledger's jobs that match, a page at a time; nothing is asked of the service."""
        return self._bridge.call(self._client.list(query))

    def watch(
        self, jobs: Job | str | Collection[Job | str] = (), *, timeout_s: float | None = None, settled: bool = False
    ) -> Iterator[Sequence[Watched]]:
        """Several jobs (default: all that are unfinished) after each round of looks, until none moves any more.

        With `settled` results are collected too, and it ends when every row is accounted for. A job that another
        process works on is only looked at in the ledger. Raises Unfinished at `timeout_s`, Interrupted when told to
        stop.
        """
        return self._bridge.iterate(self._client.watch(jobs, timeout_s=timeout_s, settled=settled))

    def list_remote(self, query: Query = Query()) -> RemotePage:
        """The batches at the service that match, ours and others', a page at a time."""
        return self._bridge.call(self._client.list_remote(query))

    def show_remote(self, job: Job | str) -> tuple[Remote, ...]:
        """A job's batches as the service shows them now, or that of this id. Writes nothing down."""
        return self._bridge.call(self._client.show_remote(job))

    def show(self, job: Job | str) -> Job:
        """One job with its parts, batches and diary, from the ledger."""
        return self._bridge.call(self._client.show(job))

    def files(self, *, sweep: bool = False) -> tuple[tuple[StoredFile, ...], tuple[StoredFile, ...]]:
        """The input files at the service with their standing, and those of them that `sweep` deleted: ours that no job
        needs any more, never anybody else's."""
        return self._bridge.call(self._client.files(sweep=sweep))

    def doctor(
        self,
        *,
        deployment: str | None = None,
        probe: bool = False,
        fix: bool = False,
        facts: str | Path | None = None,
        timeout_s: float = 1200.0,
    ) -> tuple[Finding, ...]:
        """Whether endpoint, credential, service, ledger and machine are fit for work; never raises for what it finds.

        `probe` makes a batch of one short request, which is billed, where nothing else is a problem: only so it shows
        whether the `deployment` (default: the target's) runs batches. It is waited for `timeout_s` seconds, with
        `on_progress` called meanwhile. `fix` mends first what is local and safe. `facts` is a file that overrides the
        published facts, see `batchkit limits`.
        """
        return self._bridge.call(
            self._client.doctor(deployment=deployment, probe=probe, fix=fix, facts=facts, timeout_s=timeout_s)
        )

    def close(self) -> None:
        """Let go of connections, the ledger and the thread."""
        if not self._bridge.closed:
            self._bridge.call(self._client.close())
            self._bridge.close()

    def __repr__(self) -> str:
        return repr(self._client).removeprefix("<Async").join(["<", ""])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
