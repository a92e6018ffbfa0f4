"""The uploader's turn: each part goes staged → file → batch, as far as certainty and quota allow.

Before each request that creates, the intent is durable in the ledger. A part found in an intent state is looked for
at the service before anything is sent.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Settings
from batchkit.disk import Workdir, sha256
from batchkit.errors import (
    BatchkitError,
    DiskFull,
    LocalError,
    NotFound,
    QuotaFull,
    Refused,
    Throttled,
    Unavailable,
    Uncertain,
)
from batchkit.ledger import Hold
from batchkit.model import DONE, Batch, Job, Next, Part, RemoteFile, State
from batchkit.text import duration, visible
from batchkit.uploader import quota, reconcile
from batchkit.uploader.reconcile import Fate

WAITING = frozenset({State.STAGED, State.UPLOADING, State.UPLOADED, State.SUBMITTING})
_NOT_READY = frozenset({"pending", "running"})
_SPOILT = frozenset({"error", "deleted"})
_QUOTA = "waiting for quota"


async def turn(*, api: Service, hold: Hold, clock: Clock, settings: Settings, workdir: Workdir) -> Next:
    """Do for every waiting part what can be done now; say when to look again.

    Raises Refused or Unavailable when the service will not take a part; the ledger then says where each part stands.
    """
    job = await hold.job()
    return await _Turn(job, api, hold, clock, settings, workdir).run()


class _Turn:
    def __init__(self, job: Job, api: Service, hold: Hold, clock: Clock, settings: Settings, workdir: Workdir) -> None:
        self.job, self.api, self.hold, self.clock, self.settings = job, api, hold, clock, settings
        self.workdir = workdir
        self.listing: tuple[float, list[Batch]] | None = None
        self.full: Next | None = None

    async def run(self) -> Next:
        work = self.part if self.job.cancelled_at is None else self.stop
        nexts: list[Next] = []
        troubles: list[BatchkitError] = []
        for part in self.job.parts:
            try:
                later = await work(part)
            except DiskFull:
                raise
            except (Refused, Unavailable, LocalError) as error:
                troubles.append(error)  # one part's trouble is not the others', but a silent service is everybody's
                if isinstance(error, Unavailable) and self.job.cancelled_at is None:
                    break
                continue
            if later is not None:
                nexts.append(later)
        if troubles:
            raise troubles[0]
        return min(nexts, key=lambda later: later.at or 0.0, default=DONE)

    async def part(self, part: Part) -> Next | None:
        """Take one part as far as it goes; None when it runs."""
        if part.state not in WAITING:
            return None
        if (wait := quota.waits(part, self.clock.now())) is not None:
            if quota.deployment_is_full(part):
                self.full = wait
            return wait
        if part.state is State.SUBMITTING:
            part, later = await self.reconcile(part)
            return later if part.state is not State.UPLOADED else await self.batch_of(part, None)
        if part.state is State.UPLOADING:
            part = await self.find_upload(part)
        if part.state is State.UPLOADED:
            return await self.batch_of(part, None)
        if self.full is not None:
            return self.full
        part, file, later = await self.upload(part)
        return later if file is None else await self.batch_of(part, file)

    async def batch_of(self, part: Part, file: RemoteFile | None) -> Next | None:
        """From an uploaded file to a running batch."""
        if self.full is not None:
            return self.full
        if (later := await self.until_processed(part, file)) is not None:
            return later
        if await self.adopt(part, (await self.listed())[1], dead_too=False) is not None:
            return None
        return await self.create(part)

    # files

    async def find_upload(self, part: Part) -> Part:
        """An upload was announced and its answer is not known: ours under its unique name, or to be sent again."""
        found = reconcile.uploaded_file(part, await self.api.files())
        if found is None:
            return await self.move(part, State.STAGED, event="the upload is not at the service; sending it again")
        event = f"found the upload as {found.id}"
        return await self.move(part, State.UPLOADED, event=event, file_id=found.id, held=None, next_try_at=None)

    async def upload(self, part: Part) -> tuple[Part, RemoteFile | None, Next | None]:
        await asyncio.to_thread(_check_lines, self.workdir.lines(part), part)
        part = await self.move(part, State.UPLOADING, intent=secrets.token_hex(8), intent_at=self.clock.now())
        try:
            file = await self.api.upload(self.workdir.lines(part), part.file_name, part.bytes)
        except Uncertain as error:
            tries, at = part.tries + 1, self.clock.now() + self.settings.file_poll_s
            if tries > 1:
                at += self.settings.quota_wait(tries)
            words = f"looking for an upload whose answer was lost: {error}"
            part = await self.move(part, part.state, event=words, held=words, tries=tries, next_try_at=at)
            return part, None, Next(at, words)
        except QuotaFull as error:
            return part, None, await self.wait_for_quota(part, State.STAGED, str(error))
        except BatchkitError as error:
            await self.move(part, State.STAGED, event=str(error), held=str(error), intent=None)
            raise
        part = await self.move(part, State.UPLOADED, event=file.id, file_id=file.id, held=None, next_try_at=None)
        if self.api.target.expires_s and file.expires_at is None:
            words = "the service ignored the expiry asked for; a newer api-version or v1 heeds it"
            await self.hold.note("warning", words, at=self.clock.now(), part=part.number)
        return part, file, None

    async def until_processed(self, part: Part, file: RemoteFile | None) -> Next | None:
        """A batch may only be made from a processed file: wait for it, if it needs time."""
        if file is None:
            try:
                file = await self.api.file(part.file_id or "")
            except NotFound:
                return await self.file_unknown(part)
        if file.status in _SPOILT:
            await self.move(part, State.STAGED, event=f"the file became {file.status}", file_id=None)
            raise Refused(f"the service could not process the file of part {part.number} ({file.id})")
        if file.status in _NOT_READY:
            age = duration(self.clock.now() - (part.intent_at or 0.0))
            return self.later(self.settings.file_poll_s, f"the service is processing the file, {age} old")
        return None

    async def file_unknown(self, part: Part) -> Next:
        """A new file may not be visible at once; one that stays unknown is sent again, ever more patiently."""
        tries, words = part.tries + 1, "the service does not know the file"
        if tries < 3:
            wait_s, state, file_id = self.settings.file_poll_s, State.UPLOADED, part.file_id
        else:
            wait_s, state, file_id = self.settings.quota_wait(tries - 2), State.STAGED, None
        at = self.clock.now() + wait_s
        await self.move(part, state, event=words, held=words, file_id=file_id, tries=tries, next_try_at=at)
        return Next(at, words)

    # batches

    async def create(self, part: Part) -> Next | None:
        intent = secrets.token_hex(8)
        part = await self.move(part, State.SUBMITTING, intent=intent, intent_at=self.clock.now(), clean_at=None)
        try:
            batch = await self.api.create_batch(part.file_id or "", self.job.url, reconcile.marks(part, intent))
        except Uncertain as error:
            # The settle window is counted from the last moment at which the request may have left us.
            await self.move(part, part.state, event=str(error), held=str(error), intent_at=self.clock.now())
            return self.later(self.settings.relist_after_s, str(error))
        except (QuotaFull, Throttled) as error:
            asked = error.retry_after_s if isinstance(error, Throttled) else None
            return await self.wait_for_quota(part, State.UPLOADED, str(error), asked or 0.0)
        except BatchkitError as error:
            await self.move(part, State.UPLOADED, event=str(error), held=str(error))
            raise
        await self.run_as(part, batch)
        return None

    async def wait_for_quota(self, part: Part, state: State, why: str, asked_s: float = 0.0) -> Next:
        tries, why = part.tries + 1, visible(why, 500)
        at = self.clock.now() + min(quota.LONGEST_WAIT_S, max(asked_s, self.settings.quota_wait(tries)))
        await self.move(part, state, event=why, held=f"{_QUOTA}: {why}", tries=tries, next_try_at=at)
        self.full = Next(at, f"{_QUOTA}: {why}")
        return self.full

    async def reconcile(self, part: Part) -> tuple[Part, Next | None]:
        """A creation was announced and its answer is not known."""
        if max(part.intent_at or 0.0, part.clean_at or 0.0) > self.clock.now() + self.settings.relist_after_s:
            # The clock was ahead when that was written: the window begins anew.
            part = await self.move(part, part.state, intent_at=self.clock.now(), clean_at=None)
        listed_at, listed = await self.listed()
        if (adopted := await self.adopt(part, listed, dead_too=True)) is not None:
            return adopted, None
        verdict = reconcile.judge(part, listed, listed_at, self.settings)
        if verdict.fate is Fate.NOT_MADE:
            return await self.move(part, State.UPLOADED, event="no batch was made; it may be made now", held=None), None
        why = "waiting to be sure whether the service made this batch"
        if verdict.fate is Fate.RELIST:
            part = await self.move(part, part.state, event="not listed yet", clean_at=listed_at, held=why)
        elif part.held != why:
            part = await self.move(part, part.state, held=why)
        return part, Next(min(verdict.at, self.clock.now() + self.settings.relist_after_s), why)

    async def adopt(self, part: Part, listed: list[Batch], *, dead_too: bool) -> Part | None:
        """Take a batch found at the service as this part's; a living twin of it is cancelled first.

        A batch that failed or was cancelled is only taken where its creation is what became of an intent (`dead_too`).
        """
        found = reconcile.ours(part, listed)
        if not found or (reconcile.dead(found[0]) and not dead_too):
            return None
        first, *twins = found
        for twin in twins:
            if not twin.ended and not reconcile.dead(twin):
                words = f"cancelled {twin.id}, a twin of {first.id}"
                try:
                    await self.api.cancel(twin.id)
                except Refused as error:
                    words = f"{twin.id}, a twin of {first.id}, could not be cancelled: {error}"
                await self.hold.note("twin", words, at=self.clock.now(), part=part.number)
        return await self.run_as(part, first, event=f"adopted {first.id}")

    async def run_as(self, part: Part, batch: Batch, event: str = "") -> Part:
        """The part's batch is known: in one transaction, or a crash between would hide it from the next look."""
        return await self.move(part, State.RUNNING, event=event or batch.id, batch=batch, held=None, next_try_at=None)

    async def listed(self) -> tuple[float, list[Batch]]:
        """One full listing a turn, and when it began. It finds lost answers, and what intents cannot: an old ledger
        put back."""
        if self.listing is None:
            self.listing = self.clock.now(), [batch async for batch in self.api.batches()]
        return self.listing

    # stopping

    async def stop(self, part: Part) -> Next | None:
        """The user cancelled the job: drop what was not sent, ask the service to stop what runs."""
        if part.state is State.UPLOADING:
            part = await self.find_upload(part)
        if part.state is State.SUBMITTING:
            part, later = await self.reconcile(part)
            if later is not None:
                return later
        if part.state in (State.STAGED, State.UPLOADED):
            await self.drop(part)
        elif part.state is State.RUNNING and part.batch and not (part.batch.ended or part.batch.status == "cancelling"):
            await self.ask_to_cancel(part, part.batch)
        return None

    async def drop(self, part: Part) -> None:
        """A part that will not be sent; its file is ours to delete, and expires if that fails."""
        event = "cancelled before it was sent"
        if part.file_id is not None:
            try:
                await self.api.delete(part.file_id)
            except BatchkitError as error:
                event += f"; its file {part.file_id} could not be deleted: {error}"
        await self.move(part, State.DROPPED, event=event, held=None)

    async def ask_to_cancel(self, part: Part, batch: Batch) -> None:
        """Finished meanwhile is as good: its status is then simply read."""
        try:
            seen = await self.api.cancel(batch.id)
        except Refused:
            seen = await self.api.batch(batch.id)
        await self.move(part, part.state, batch=seen)

    async def move(
        self, part: Part, to: State, *, event: str = "", batch: Batch | None = None, **changes: object
    ) -> Part:
        return await self.hold.move(part, to, at=self.clock.now(), event=event, batch=batch, **changes)

    def later(self, seconds: float, why: str) -> Next:
        return Next(self.clock.now() + seconds, why)


def _check_lines(path: Path, part: Part) -> None:
    """What is sent must be what was promised: the ledger knows the hash."""
    if not path.is_file() or path.stat().st_size != part.bytes or sha256(path) != part.sha256:
        raise LocalError(
            f"{path} is gone or was changed since it was staged",
            hint="put it back, or submit the rows again under another --name",
        )
