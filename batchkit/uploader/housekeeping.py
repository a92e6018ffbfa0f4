"""Which input files at the service are ours, which of them nobody needs, and their going. Never a file of others."""

from __future__ import annotations

from collections.abc import Mapping

from batchkit.api.service import Service
from batchkit.ledger import Ledger
from batchkit.model import StoredFile
from batchkit.uploader import sweep


async def look(apis: Mapping[str, Service], ledger: Ledger) -> tuple[StoredFile, ...]:
    """The input files of every service, each with the job it belongs to and whether that needs it yet."""
    listed = {service: await api.files() for service, api in apis.items()}
    # Read after the lists: what is announced in the ledger before its upload is then never taken for needless.
    jobs = {job.id: job for job in await ledger.jobs()}
    found: list[StoredFile] = []
    for service, files in listed.items():
        for file in files:
            job_id = sweep.job_of(file)
            job = jobs.get(job_id or "")
            if job is None:
                found.append(StoredFile(file, service, "another ledger's" if job_id else "not ours"))
                continue
            needless = sweep.needless(file, job.parts)
            found.append(StoredFile(file, service, "needless" if needless else "needed", job.name))
    return tuple(found)


async def clear(apis: Mapping[str, Service], found: tuple[StoredFile, ...]) -> tuple[StoredFile, ...]:
    """Delete what is needless of ours; what was deleted."""
    needless = tuple(stored for stored in found if stored.standing == "needless")
    for stored in needless:
        await apis[stored.service].delete(stored.file.id)
    return needless
