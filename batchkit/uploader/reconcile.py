"""What became of a request whose answer was lost: look at the service, then decide. Deciding is pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from batchkit.config import Settings
from batchkit.model import Batch, Part, RemoteFile


class Fate(Enum):
    """What a listing says of an intent."""

    ADOPT = auto()
    WAIT = auto()
    RELIST = auto()
    NOT_MADE = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision: adopt `batch`; wait until `at`; or it was not made, so it may be made now."""

    fate: Fate
    batch: Batch | None = None
    at: float = 0.0


def marks(part: Part, intent: str) -> dict[str, str]:
    """The metadata a batch carries so that it can be recognised: ids and hashes only."""
    return {
        "batchkit_job": part.job_id,
        "batchkit_part": part.id,
        "batchkit_sha": part.sha256,
        "batchkit_intent": intent,
    }


def ours(part: Part, listed: Iterable[Batch]) -> list[Batch]:
    """The batches of a listing that were made for this part and are not known yet, the best first.

    Those that live or completed come before those that failed or were cancelled, and earlier ones before later ones.
    The service may forget metadata, so the input file's id, which we alone know, is a second witness.
    """
    known = {batch.id for batch in part.batches}
    found = [
        batch
        for batch in listed
        if batch.id not in known
        and (
            batch.metadata.get("batchkit_part") == part.id
            or (part.file_id is not None and batch.input_file_id == part.file_id)
        )
    ]
    return sorted(found, key=lambda batch: (dead(batch), batch.created_at or 0.0, batch.id))


def dead(batch: Batch) -> bool:
    """Whether a batch ended without doing its work."""
    return batch.status in ("failed", "cancelling", "cancelled")


def judge(part: Part, listed: Iterable[Batch], listed_at: float, settings: Settings) -> Judgement:
    """What a complete listing, begun at `listed_at`, says of a part found in `submitting`.

    A batch that shows up is adopted at once. That none was made is believed only after the settle window and two
    complete listings a while apart, since a new batch may be listed late.
    """
    found = ours(part, listed)
    if found:
        return Judgement(Fate.ADOPT, found[0])
    settled = (part.intent_at or 0.0) + settings.read_timeout_s + settings.settle_window_s
    if listed_at < settled:
        return Judgement(Fate.WAIT, at=settled)
    if part.clean_at is None:
        return Judgement(Fate.RELIST, at=listed_at + settings.relist_after_s)
    if listed_at < part.clean_at + settings.relist_after_s:
        return Judgement(Fate.WAIT, at=part.clean_at + settings.relist_after_s)
    return Judgement(Fate.NOT_MADE)


def uploaded_file(part: Part, files: Iterable[RemoteFile]) -> RemoteFile | None:
    """Our own upload in a list of files: by its unique name, whole, and usable."""
    for file in files:
        whole = file.bytes is None or file.bytes == part.bytes
        if file.filename == part.file_name and whole and file.status not in ("error", "deleted"):
            return file
    return None
