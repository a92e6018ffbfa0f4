"""From a staged part to a processed file at the service. Uploads may happen twice; what is extra is swept."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from batchkit.api.service import Service
from batchkit.disk import sha256
from batchkit.errors import BatchkitError, LocalError, NotFound, QuotaFull, Refused, Uncertain
from batchkit.ledger import deeds
from batchkit.model import Next, Part, RemoteFile, State
from batchkit.text import duration, visible
from batchkit.uploader import quota, reconcile, staging, sweep
from batchkit.uploader.work import Work

_NOT_READY = frozenset({"pending", "running"})
_SPOILT = frozenset({"error", "deleted"})


async def find_upload(work: Work, part: Part) -> Part:
    """An upload was announced and its answer is not known: ours under its unique name, or to be sent again."""
    found, _ = reconcile.uploaded(part, await _files(work, part))
    if found is None:
        return await work.move(part, State.STAGED, event="the upload is not at the service; sending it again")
    return await work.move(
        part, State.UPLOADED, event=f"found the upload as {found.id}", file_id=found.id, held=None, next_try_at=None
    )


async def upload(work: Work, part: Part) -> tuple[Part, RemoteFile | None, Next | None]:
    """Send a part's lines; the part as it then stands, its file, or when to look again."""
    api = work.api(part)
    if (later := await _room(work, part, api)) is not None:
        return part, None, later
    await work.lines_here(part)
    path = await asyncio.to_thread(_checked_lines, work, part)
    intent, now = secrets.token_hex(8), work.clock.now()
    part = await work.move(part, State.UPLOADING, intent=intent, intent_at=now, held=None, next_try_at=None)
    try:
        file = await api.upload(path, part.file_name, part.size)
    except Uncertain as error:
        tries, at = part.tries + 1, work.clock.now() + work.settings.file_poll_s
        if tries > 1:
            at += work.settings.quota_wait(tries)
        words = f"looking for an upload whose answer was lost: {error}"
        part = await work.move(part, part.state, event=words, held=words, tries=tries, next_try_at=at)
        return part, None, Next(at, words)
    except QuotaFull as error:
        return part, None, await files_full(work, part, str(error))
    except BatchkitError as error:
        await work.move(part, State.STAGED, event=str(error), held=str(error), intent=None)
        raise
    part = await work.move(part, State.UPLOADED, event=file.id, file_id=file.id, held=None, next_try_at=None)
    work.files.setdefault(api.target.service, []).append(file)
    if api.target.expires_s and file.expires_at is None:
        await work.note("warning", "the service ignored the expiry asked for; a newer api-version or v1 heeds it", part)
    return part, file, None


async def _room(work: Work, part: Part, api: Service) -> Next | None:
    """The resource's cap on files is counted before anything is uploaded."""
    service, most = api.target.service, api.target.max_files
    queue = await deeds.queue_of(work.hold, service, deeds.FILES)
    now = work.clock.now()
    if queue.next_try_at is not None and 0 < queue.next_try_at - now <= quota.LONGEST_WAIT_S:
        return Next(queue.next_try_at, f"{quota.WAITING}: the resource holds as many files as it may")
    if most is None:
        return None
    found = await _files(work, part)
    if quota.files_left(len(found), most):
        return None
    alike = [file for file in found if (file.expires_at is not None) == bool(api.target.expires_s)]
    if quota.files_left(len(alike), most):
        return None
    return await files_full(work, part, f"{len(alike)} input files are at the service, which may hold {most}")


async def files_full(work: Work, part: Part, why: str) -> Next:
    """The resource takes no more files now, unless some are ours that nobody needs any more."""
    words = visible(f"{quota.WAITING}: {why}", 500)
    api = work.api(part)
    if await sweep.cleared(api=api, hold=work.hold.of(api.target.service), clock=work.clock):
        work.files.pop(api.target.service, None)
        return Next(work.clock.now(), words)
    part = await deeds.refused(
        work.hold, part, State.STAGED, at=work.clock.now(), why=words, wait_s=work.settings.quota_wait, files=True
    )
    return Next(part.next_try_at, words)


async def until_processed(work: Work, part: Part, file: RemoteFile | None) -> Next | None:
    """A batch may only be made from a processed file: wait for it, if it needs time."""
    if file is None:
        try:
            file = await work.api(part).file(part.file_id or "")
        except NotFound:
            return await _unknown(work, part)
    if file.status in _SPOILT:
        await work.move(part, State.STAGED, event=f"the file became {file.status}", file_id=None)
        raise Refused(f"the service could not process the file of part {part.number} ({file.id})")
    if file.status in _NOT_READY:
        age = duration(work.clock.now() - (part.intent_at or 0.0))
        return work.later(work.settings.file_poll_s, f"the service is processing the file, {age} old")
    return None


async def _unknown(work: Work, part: Part) -> Next:
    """A new file may not be visible at once; one that stays unknown is sent again, ever more patiently."""
    tries, words = part.tries + 1, "the service does not know the file"
    if tries < 3:
        wait_s, state, file_id = work.settings.file_poll_s, State.UPLOADED, part.file_id
    else:
        wait_s, state, file_id = work.settings.quota_wait(tries - 2), State.STAGED, None
    at = work.clock.now() + wait_s
    await work.move(part, state, event=words, held=words, file_id=file_id, tries=tries, next_try_at=at)
    return Next(at, words)


async def _files(work: Work, part: Part) -> list[RemoteFile]:
    """The service's files, listed once a turn."""
    service = part.service or ""
    if service not in work.files:
        work.files[service] = await work.api(part).files()
    return work.files[service]


def _checked_lines(work: Work, part: Part) -> Path:
    """What is sent must be what was promised: the ledger knows the hash."""
    path = work.workdir.lines(part)
    if not path.is_file() or path.stat().st_size != part.bytes or sha256(path) != part.sha256:
        raise LocalError(
            f"{path} was changed since it was staged",
            hint="put it back, or submit the rows again under another --name",
        )
    return path if part.sent_sha256 is None else staging.copy(work.workdir, part, work.rename)
