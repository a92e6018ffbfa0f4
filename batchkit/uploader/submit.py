"""The uploader's turn: each part goes staged → file → batch, as far as certainty and quota allow.

Before each request that creates, the intent is durable in the ledger. A part found in an intent state is looked for
at the service before anything is sent.
"""

from __future__ import annotations

import secrets

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Settings
from batchkit.disk import Workdir
from batchkit.errors import BatchkitError, NotFound, QuotaFull, Refused, Throttled, Uncertain
from batchkit.ledger import Hold
from batchkit.model import DONE, Batch, Job, Next, Part, RemoteFile, State
from batchkit.uploader import quota, reconcile
from batchkit.uploader.reconcile import Fate

WAITING = frozenset({State.STAGED, State.UPLOADING, State.UPLOADED, State.SUBMITTING})
_NOT_READY = frozenset({"pending", "running"})
_SPOILT = frozenset({"error", "deleted"})


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
        self.listing: list[Batch] | None = None

    async def run(self) -> Next:
        if self.job.cancelled_at is not None:
            return await self.stop()
        nexts: list[Next] = []
        for part in self.job.parts:
            if part.state not in WAITING:
                continue
            if part.next_try_at is not None and part.next_try_at > self.clock.now():
                return Next(part.next_try_at, part.held or "")  # quota is the deployment's: the other parts wait too
            if (later := await self.part(part)) is not None:
                nexts.append(later)
                if later.why == _QUOTA:
                    break
        return min(nexts, key=lambda later: later.at or 0.0, default=DONE)

    async def part(self, part: Part) -> Next | None:
        """Take one part as far as it goes; None when it runs."""
        file: RemoteFile | None = None
        if part.batch and part.batch.refused_for_quota and part.next_try_at is None:
            return await self.wait_for_quota(part, part.batch.errors[0].message, 0.0)
        if part.state is State.UPLOADING:
            part = await self.find_upload(part)
        if part.state is State.STAGED:
            part, file = await self.upload(part)
            if file is None:
                return self.later(self.settings.file_poll_s, "looking for an upload whose answer was lost")
        if part.state is State.SUBMITTING:
            part, later = await self.reconcile(part)
            if part.state is not State.UPLOADED:
                return later
        if (later := await self.until_processed(part, file)) is not None:
            return later
        if await self.adopt(part, await self.listed()) is not None:
            return None
        return await self.create(part)

    # files

    async def find_upload(self, part: Part) -> Part:
        """An upload was announced and its answer is not known: ours under its unique name, or to be sent again."""
        found = reconcile.uploaded_file(part, await self.api.files())
        if found is None:
            return await self.move(part, State.STAGED, event="the upload is not at the service; sending it again")
        return await self.move(part, State.UPLOADED, event=f"found the upload as {found.id}", file_id=found.id)

    async def upload(self, part: Part) -> tuple[Part, RemoteFile | None]:
        part = await self.move(part, State.UPLOADING, intent=secrets.token_hex(8), intent_at=self.clock.now())
        try:
            file = await self.api.upload(self.workdir.lines(part), part.file_name, part.bytes)
        except Uncertain as error:
            return await self.move(part, part.state, event="the upload's answer was lost", held=str(error)), None
        except BatchkitError as error:
            await self.move(part, State.STAGED, event=str(error), held=str(error))
            raise
        part = await self.move(part, State.UPLOADED, event=file.id, file_id=file.id, held=None)
        if self.api.target.expires_s and file.expires_at is None:
            words = "the service ignored the expiry asked for; a newer api-version or v1 heeds it"
            await self.hold.note("warning", words, at=self.clock.now(), part=part.number)
        return part, file

    async def until_processed(self, part: Part, file: RemoteFile | None) -> Next | None:
        """A batch may only be made from a processed file: wait for it, if it needs time."""
        if file is None:
            try:
                file = await self.api.file(part.file_id or "")
            except NotFound:
                await self.move(part, State.STAGED, event="the file is gone from the service", file_id=None)
                return self.later(0.0, "sending the file again")
        if file.status in _SPOILT:
            await self.move(part, State.STAGED, event=f"the file became {file.status}", file_id=None)
            raise Refused(f"the service could not process the file of part {part.number} ({file.id})")
        if file.status in _NOT_READY:
            return self.later(self.settings.file_poll_s, "the service is processing the file")
        return None

    # batches

    async def create(self, part: Part) -> Next | None:
        intent = secrets.token_hex(8)
        part = await self.move(part, State.SUBMITTING, intent=intent, intent_at=self.clock.now(), clean_at=None)
        try:
            batch = await self.api.create_batch(part.file_id or "", self.job.url, reconcile.marks(part, intent))
        except Uncertain as error:
            await self.move(part, part.state, event="the answer was lost", held=str(error))
            return self.later(self.settings.relist_after_s, str(error))
        except (QuotaFull, Throttled) as error:
            asked = error.retry_after_s if isinstance(error, Throttled) else None
            return await self.wait_for_quota(part, str(error), asked or 0.0)
        except BatchkitError as error:
            await self.move(part, State.UPLOADED, event=str(error), held=str(error))
            raise
        await self.run_as(part, batch)
        return None

    async def wait_for_quota(self, part: Part, why: str, asked_s: float) -> Next:
        tries = part.tries + 1
        at = self.clock.now() + max(asked_s, quota.wait_s(tries, self.settings))
        await self.move(part, State.UPLOADED, event=why, held=why, tries=tries, next_try_at=at)
        return Next(at, _QUOTA)

    async def reconcile(self, part: Part) -> tuple[Part, Next | None]:
        """A creation was announced and its answer is not known."""
        listed = await self.listed()
        if (adopted := await self.adopt(part, listed)) is not None:
            return adopted, None
        finding = reconcile.judge(part, listed, self.clock.now(), self.settings)
        if finding.fate is Fate.NOT_MADE:
            return await self.move(part, State.UPLOADED, event="no batch was made; it may be made now", held=None), None
        why = "waiting to be sure whether the service made this batch"
        if finding.fate is Fate.RELIST:
            part = await self.move(part, part.state, event="not listed yet", clean_at=self.clock.now(), held=why)
        elif part.held != why:
            part = await self.move(part, part.state, held=why)
        return part, Next(min(finding.at, self.clock.now() + self.settings.relist_after_s), why)

    async def adopt(self, part: Part, listed: list[Batch]) -> Part | None:
        """Take a batch found at the service as this part's; a late twin of it is cancelled."""
        found = reconcile.ours(part, listed)
        if not found:
            return None
        first, *twins = found
        part = await self.run_as(part, first, event=f"adopted {first.id}")
        for twin in twins:
            if not twin.ended:
                await self.api.cancel(twin.id)
                words = f"cancelled {twin.id}, a twin of {first.id}"
                await self.hold.note("twin", words, at=self.clock.now(), part=part.number)
        return part

    async def run_as(self, part: Part, batch: Batch, event: str = "") -> Part:
        part = await self.hold.record(part, batch, at=self.clock.now())
        return await self.move(part, State.RUNNING, event=event or batch.id, held=None, tries=0, next_try_at=None)

    async def listed(self) -> list[Batch]:
        """One full listing a turn. It finds lost answers, and what intents cannot: an old ledger put back."""
        if self.listing is None:
            self.listing = [batch async for batch in self.api.batches()]
        return self.listing

    # stopping

    async def stop(self) -> Next:
        """The user cancelled the job: drop what was not sent, ask the service to stop what runs."""
        nexts: list[Next] = []
        for part in self.job.parts:
            if part.state is State.UPLOADING:
                part = await self.find_upload(part)
            if part.state is State.SUBMITTING:
                part, later = await self.reconcile(part)
                if later is not None:
                    nexts.append(later)
            if part.state in (State.STAGED, State.UPLOADED):
                await self.move(part, State.DROPPED, event="cancelled before it was sent", held=None)
            elif part.state is State.RUNNING and part.batch and part.batch.status != "cancelling":
                await self.ask_to_cancel(part, part.batch)
        return min(nexts, key=lambda later: later.at or 0.0, default=DONE)

    async def ask_to_cancel(self, part: Part, batch: Batch) -> None:
        """Finished meanwhile is as good: its status is then simply read."""
        if batch.ended:
            return
        try:
            seen = await self.api.cancel(batch.id)
        except Refused:
            seen = await self.api.batch(batch.id)
        await self.hold.record(part, seen, at=self.clock.now())

    async def move(self, part: Part, to: State, *, event: str = "", **changes: object) -> Part:
        return await self.hold.move(part, to, at=self.clock.now(), event=event, **changes)

    def later(self, seconds: float, why: str) -> Next:
        return Next(self.clock.now() + seconds, why)


_QUOTA = "waiting for the deployment's quota"
