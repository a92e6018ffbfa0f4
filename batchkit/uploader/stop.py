"""The user wants a job stopped: drop what was not sent, ask the service to stop what runs."""

from __future__ import annotations

from batchkit.errors import BatchkitError, NotFound, Refused, Unavailable
from batchkit.model import Batch, Next, Part, State
from batchkit.uploader import batches, files
from batchkit.uploader.work import Work


async def stop(work: Work, part: Part) -> Next | None:
    """One part on its way to rest; None once there is nothing more to ask for."""
    if part.state is State.UPLOADING:
        part = await files.find_upload(work, part)
    if part.state is State.SUBMITTING:
        part, later = await batches.reconciled(work, part)
        if later is not None:
            return later
    if part.state in (State.STAGED, State.UPLOADED):
        await _drop(work, part)
    elif part.state is State.RUNNING and part.batch and not (part.batch.ended or part.batch.status == "cancelling"):
        await _ask(work, part, part.batch)
    return None


async def _drop(work: Work, part: Part) -> None:
    """A part that will not be sent; its file is ours to delete, and expires if that fails."""
    event = "cancelled before it was sent"
    if part.file_id is not None:
        try:
            await work.api(part).delete(part.file_id)
        except BatchkitError as error:
            event += f"; its file {part.file_id} could not be deleted: {error}"
    await work.move(part, State.DROPPED, event=event, held=None)


async def _ask(work: Work, part: Part, batch: Batch) -> None:
    """Finished meanwhile is as good: its status is then simply read. Whether a batch is gone is for the tracker to say,
    and takes its time."""
    try:
        seen = await work.api(part).cancel(batch.id)
    except (Refused, Unavailable) as error:  # gateways answer 500 where the service behind them refuses
        try:
            seen = await work.api(part).batch(batch.id)
        except NotFound:
            return
        if isinstance(error, Unavailable) and not (seen.ended or seen.status == "cancelling"):
            raise
    await work.move(part, part.state, batch=seen)
