"""Which jobs a person asked to see: filter, order, page. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from batchkit.errors import UsageError
from batchkit.given import expect_call
from batchkit.model import STATUSES, Batch, Job, State
from batchkit.text import nearest


@dataclass(frozen=True, slots=True)
class Query:
    """What to show. `status` is the service's word about the batches, `state` ours about the parts; `name` is a
    glob, `target` a target's name; `since` and `until` bound when it was made, `ended_since` and `ended_until` when it
    ended (Unix times); `metadata` are pairs that a batch at the service must have; `after` is the id or name of the
    last one of the page before. Raises InputError for a wrong kind of word."""

    status: str | None = None
    state: str | None = None
    name: str | None = None
    target: str | None = None
    since: float | None = None
    until: float | None = None
    ended_since: float | None = None
    ended_until: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    oldest_first: bool = False
    limit: int = 50
    after: str | None = None

    def __post_init__(self) -> None:
        expect_call(**{item.name: getattr(self, item.name) for item in fields(self) if item.name != "oldest_first"})


@dataclass(frozen=True, slots=True)
class Page:
    """One page of jobs, and what to pass as `after` for the next; None on the last page."""

    jobs: tuple[Job, ...]
    after: str | None

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)


def select(jobs: Iterable[Job], query: Query) -> Page:
    """The page of `jobs` that `query` asks for, newest first unless it says otherwise."""
    known = [*jobs]
    found = sorted((job for job in known if _matches(job, query)), key=lambda job: (job.created_at, job.id))
    if not found:
        _refuse_slips(query, {job.status for job in known})
    if not query.oldest_first:
        found.reverse()
    if query.after is not None:
        places = [i for i, job in enumerate(found) if query.after in (job.id, job.name)]
        if not places:
            raise UsageError(f"--after {query.after!r} is not among these jobs", hint="leave --after away")
        found = found[places[0] + 1 :]
    page = found[: query.limit]
    return Page(tuple(page), page[-1].id if len(found) > query.limit else None)


@dataclass(frozen=True, slots=True)
class Remote:
    """A batch at the service, and the job of this ledger that it belongs to, if one does."""

    batch: Batch
    job: str | None = None


@dataclass(frozen=True, slots=True)
class RemotePage:
    """One page of batches, and what to pass as `after` for the next; None on the last page."""

    batches: tuple[Remote, ...]
    after: str | None


def select_remote(batches: Iterable[Remote], query: Query) -> RemotePage:
    """The page of batches that `query` asks for: the same whether the service filtered them before or not."""
    known = [*batches]
    found = sorted(
        (item for item in known if _matches_remote(item, query)),
        key=lambda item: (item.batch.created_at or 0.0, item.batch.id),
        reverse=not query.oldest_first,
    )
    if not found:
        _refuse_slips(query, {item.batch.status for item in known})
    if query.after is not None:
        places = [i for i, item in enumerate(found) if item.batch.id == query.after]
        if not places:
            raise UsageError(f"--after {query.after!r} is not among these batches", hint="leave --after away")
        found = found[places[0] + 1 :]
    page = found[: query.limit]
    return RemotePage(tuple(page), page[-1].batch.id if len(found) > query.limit else None)


def _refuse_slips(query: Query, met: Collection[str]) -> None:
    """Raise UsageError for a status or state that there is not; a service may have statuses of its own."""
    for what, word, words in (("status", query.status, {*STATUSES, *met}), ("state", query.state, {*map(str, State)})):
        if word is not None and word.lower() not in words:
            near = nearest(word.lower(), words)
            hint = f"is {near!r} meant?" if near else f"known: {', '.join(sorted(filter(None, words)))}"
            raise UsageError(f"there is no {what} {word!r}", hint=hint)


def _matches_remote(item: Remote, query: Query) -> bool:
    batch = item.batch
    return (
        (query.status is None or batch.status == query.status.lower())
        and (query.name is None or fnmatchcase(item.job or "", query.name))
        and _within(batch.created_at, query.since, query.until)
        and query.metadata.items() <= batch.metadata.items()
    )


def _matches(job: Job, query: Query) -> bool:
    return (
        (query.status is None or job.status == query.status.lower())
        and (query.state is None or job.state == query.state.lower())
        and (query.name is None or fnmatchcase(job.name, query.name))
        and (query.target is None or query.target in {job.target, *(part.target for part in job.parts)})
        and _within(job.created_at, query.since, query.until)
        and _within(job.settled_at, query.ended_since, query.ended_until)
    )


def _within(moment: float | None, since: float | None, until: float | None) -> bool:
    """Whether a moment lies in [since, until); one that has not come lies in no bounds."""
    if since is None and until is None:
        return True
    return moment is not None and (since is None or moment >= since) and (until is None or moment < until)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(text: str, now: float) -> float:
    """A time as people write it: `8h` ago, an ISO 8601 date or time (UTC unless it says otherwise), or Unix seconds.

    Raises UsageError for anything else.
    """
    try:
        if text[-1:] in _UNITS and text[:-1]:
            when = datetime.fromtimestamp(now - float(text[:-1]) * _UNITS[text[-1]], UTC)
        elif text.isdigit() and len(text) > 8:
            when = datetime.fromtimestamp(float(text), UTC)
        else:
            when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is not a time", hint="write 8h, 3d, 2025-11-22 or 2025-11-22T08:00") from None
