"""Batches as the service shows them now, ours and others'. Writes nothing down."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from batchkit import wire
from batchkit.api.service import Service
from batchkit.errors import NotFound, UnknownJob
from batchkit.ledger import Ledger
from batchkit.model import Job
from batchkit.tracker.query import Query, Remote, RemotePage, select_remote


async def listed(apis: Mapping[str, Service], ledger: Ledger, query: Query) -> RemotePage:
    """The batches of every service that match, each with the job of this ledger it belongs to."""
    jobs = await ledger.jobs()
    owners = {batch.identity: job.name for job in jobs for part in job.parts for batch in part.batches}
    where = wire.batch_filter(
        after=None if query.since is None else query.since - 1,
        before=query.until,
        status=query.status and query.status.lower(),
    )
    found = [Remote(batch, owners.get(batch.identity)) for api in apis.values() async for batch in api.batches(where)]
    return select_remote(found, query)


async def shown(apis: Mapping[str, Service], ledger: Ledger, job: Job | str) -> tuple[Remote, ...]:
    """A job's batches, or those of this id. Raises UnknownJob for what is neither."""
    try:
        found = await ledger.job(job)
    except UnknownJob:
        if isinstance(job, Job) or not job.startswith("batch"):
            raise
        alike: list[Remote] = []
        for api in apis.values():
            with suppress(NotFound):
                alike.append(Remote(await api.batch(job)))
        if not alike:
            raise
        return tuple(alike)
    current = [part.batch for part in found.parts if part.batch and part.batch.service == part.service]
    here = [batch for batch in current if batch.service in apis]
    return tuple([Remote(await apis[batch.service].batch(batch.id), found.name) for batch in here])
