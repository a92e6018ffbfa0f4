"""Which jobs a person asked to see: filter, order, page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from batchkit.errors import UsageError
from batchkit.model import Job


@dataclass(frozen=True, slots=True)
class Query:
    """What to show. `status` is the service's word about the batches, `state` ours about the parts; `name` is a
    glob; `since` a Unix time of creation; `after` the id or name of the last job of the page before."""

    status: str | None = None
    state: str | None = None
    name: str | None = None
    since: float | None = None
    oldest_first: bool = False
    limit: int = 50
    after: str | None = None


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
    found = sorted((job for job in jobs if _matches(job, query)), key=lambda job: (job.created_at, job.id))
    if not query.oldest_first:
        found.reverse()
    if query.after is not None:
        places = [i for i, job in enumerate(found) if query.after in (job.id, job.name)]
        if not places:
            raise UsageError(f"--after {query.after!r} is not among these jobs", hint="leave --after away")
        found = found[places[0] + 1 :]
    page = found[: query.limit]
    return Page(tuple(page), page[-1].id if len(found) > query.limit else None)


def _matches(job: Job, query: Query) -> bool:
    return (
        (query.status is None or job.status == query.status.lower())
        and (query.state is None or job.state == query.state.lower())
        and (query.name is None or fnmatchcase(job.name, query.name))
        and (query.since is None or job.created_at >= query.since)
    )


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(text: str, now: float) -> float:
    """A time as people write it: `8h` ago, an ISO 8601 date or time (UTC unless it says otherwise), or Unix seconds.

    Raises UsageError for anything else.
    """
    try:
        if text[-1:] in _UNITS and text[:-1]:
            return now - float(text[:-1]) * _UNITS[text[-1]]
        if text.isdigit() and len(text) > 8:
            return float(text)
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a time", hint="write 8h, 3d, 2025-11-22 or 2025-11-22T08:00") from None
