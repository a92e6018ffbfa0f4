"""Client: the verbs of AsyncClient for code that does not await, through a loop on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

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

T = TypeVar("T")


def _documented(client: type[T]) -> type[T]:
    """A class whose verbs have the docstrings of AsyncClient's: what stands once is read at both."""
    for name, verb in vars(client).items():
        if not name.startswith("_") and not verb.__doc__:
            verb.__doc__ = getattr(AsyncClient, name).__doc__
    return client


@_documented
class Client:
    """batchkit's verbs for ordinary code, also inside a notebook or a running event loop.

    `target` is a name from the targets file or a Target (default: the environment); `ledger` a path or URL (default:
    per user); `config` another targets file. The service, and the key, are only asked for by verbs that need them.
    `on_progress` is called after each turn of a long call, about once a minute, with a Progress: its `job` as it
    stands, `why` it waits, and `next_look_at`. Each verb is that of AsyncClient. Making one raises InputError or
    ConfigError for what it is given.

    Every verb raises LedgerError where the ledger cannot be used, and InputError for a wrong kind of argument. All are
    BatchkitErrors with `code`, `exit` and `hint`. Ctrl-C is a KeyboardInterrupt that says what runs on at the service,
    and is billed; the ledger knows all of it, and the same call again goes on.
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
        return self._bridge.call(self._client.submit(source, name=name, stem=stem, wait=wait))

    def track(self, job: Job | str, *, timeout_s: float | None = None, once: bool = False) -> Iterator[Job]:
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
        return self._bridge.call(self._client.fetch(job, out, overwrite=overwrite, partial=partial, **wishes))

    def iter_results(self, job: Job | str, *, partial: bool = False) -> Iterator[Result]:
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
        return self._bridge.call(self._client.run_due())

    def retry(
        self,
        job: Job | str,
        *,
        only: Collection[str] = (),
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> tuple[Job, int]:
        return self._bridge.call(self._client.retry(job, only=only, params=params, dry_run=dry_run))

    def report(self, job: Job | str, *, prices: Prices | str | Path | None = None) -> dict[str, Any]:
        return self._bridge.call(self._client.report(job, prices=prices))

    def cancel(self, job: Job | str, *, give_up: bool = False) -> Job:
        return self._bridge.call(self._client.cancel(job, give_up=give_up))

    def list(self, query: Query = Query()) -> Page:
        return self._bridge.call(self._client.list(query))

    def watch(
        self, jobs: Job | str | Collection[Job | str] = (), *, timeout_s: float | None = None, settled: bool = False
    ) -> Iterator[Sequence[Watched]]:
        return self._bridge.iterate(self._client.watch(jobs, timeout_s=timeout_s, settled=settled))

    def list_remote(self, query: Query = Query()) -> RemotePage:
        return self._bridge.call(self._client.list_remote(query))

    def show_remote(self, job: Job | str) -> tuple[Remote, ...]:
        return self._bridge.call(self._client.show_remote(job))

    def show(self, job: Job | str) -> Job:
        return self._bridge.call(self._client.show(job))

    def files(self, *, sweep: bool = False) -> tuple[tuple[StoredFile, ...], tuple[StoredFile, ...]]:
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
