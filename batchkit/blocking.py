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
from batchkit.intake import Source
from batchkit.model import Finding, Job, Result, StoredFile
from batchkit.prices import Prices
from batchkit.pump import Progress
from batchkit.tracker.query import Page, Query, Remote, RemotePage
from batchkit.watch import Watched
from batchkit.wishes import Wishes


class Client:
    """batchkit's verbs for ordinary code, also inside a notebook or a running event loop. See AsyncClient."""

    def __init__(
        self,
        target: str | Target | None = None,
        *,
        ledger: str | Path | None = None,
        config: Path | None = None,
        settings: Settings = Settings(),
        clock: Clock | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._client = AsyncClient(
            target, ledger=ledger, config=config, settings=settings, clock=clock, on_progress=on_progress
        )
        self._bridge = Bridge()

    def submit(self, source: Source, *, name: str | None = None, stem: str | None = None, wait: bool = True) -> Job:
        """See AsyncClient.submit."""
        return self._bridge.call(self._client.submit(source, name=name, stem=stem, wait=wait))

    def track(self, job: Job | str, *, timeout_s: float | None = None, once: bool = False) -> Iterator[Job]:
        """See AsyncClient.track."""
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
        """See AsyncClient.fetch."""
        return self._bridge.call(self._client.fetch(job, out, overwrite=overwrite, partial=partial, **wishes))

    def iter_results(self, job: Job | str, *, partial: bool = False) -> Iterator[Result]:
        """See AsyncClient.iter_results."""
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
        """See AsyncClient.run."""
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
        """See AsyncClient.run_due."""
        return self._bridge.call(self._client.run_due())

    def retry(
        self,
        job: Job | str,
        *,
        only: Collection[str] = (),
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> tuple[Job, int]:
        """See AsyncClient.retry."""
        return self._bridge.call(self._client.retry(job, only=only, params=params, dry_run=dry_run))

    def report(self, job: Job | str, *, prices: Prices | None = None) -> dict[str, Any]:
        """See AsyncClient.report."""
        return self._bridge.call(self._client.report(job, prices=prices))

    def cancel(self, job: Job | str, *, give_up: bool = False) -> Job:
        """See AsyncClient.cancel."""
        return self._bridge.call(self._client.cancel(job, give_up=give_up))

    def list(self, query: Query = Query()) -> Page:
        """See AsyncClient.list."""
        return self._bridge.call(self._client.list(query))

    def watch(
        self, jobs: Collection[Job | str] = (), *, timeout_s: float | None = None, settled: bool = False
    ) -> Iterator[Sequence[Watched]]:
        """See AsyncClient.watch."""
        return self._bridge.iterate(self._client.watch(jobs, timeout_s=timeout_s, settled=settled))

    def list_remote(self, query: Query = Query()) -> RemotePage:
        """See AsyncClient.list_remote."""
        return self._bridge.call(self._client.list_remote(query))

    def show_remote(self, job: Job | str) -> tuple[Remote, ...]:
        """See AsyncClient.show_remote."""
        return self._bridge.call(self._client.show_remote(job))

    def show(self, job: Job | str) -> Job:
        """See AsyncClient.show."""
        return self._bridge.call(self._client.show(job))

    def files(self, *, sweep: bool = False) -> tuple[tuple[StoredFile, ...], tuple[StoredFile, ...]]:
        """See AsyncClient.files."""
        return self._bridge.call(self._client.files(sweep=sweep))

    def doctor(
        self, *, deployment: str | None = None, probe: bool = False, fix: bool = False, facts: Path | None = None
    ) -> tuple[Finding, ...]:
        """Whether endpoint, credential, service, ledger and machine are fit for work; never raises for what it finds.

        `probe` makes a batch of one short request, which is billed, where nothing else is a problem: only so it shows
        whether the `deployment` (default: the target's) runs batches. `fix` mends first what is local and safe. `facts`
        is a file that overrides the published facts, see `batchkit limits`.
        """
        return self._bridge.call(self._client.doctor(deployment=deployment, probe=probe, fix=fix, facts=facts))

    def close(self) -> None:
        """Let go of connections, the ledger and the thread."""
        if not self._bridge.closed:
            self._bridge.call(self._client.close())
            self._bridge.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
