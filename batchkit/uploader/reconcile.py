"""What became of a request whose answer was lost, and which batches are ours. Deciding only; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from batchkit.config import Settings
from batchkit.model import GIVEN_UP, LOST, Batch, Part, RemoteFile

DEAD = frozenset({"failed", "cancelling", "cancelled"})


class Fate(Enum):
    """What a listing says of an intent."""

    WAIT = auto()
    RELIST = auto()
    NOT_MADE = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decision: wait, or look again, until `at`; or it was not made, so it may be made now."""

    fate: Fate
    at: float = 0.0


def marks(part: Part, intent: str) -> dict[str, str]:
    """The metadata a batch carries so that it can be recognised: ids and hashes only."""
    return {
        "batchkit_job": part.job_id,
        "batchkit_part": part.id,
        "batchkit_sha": part.sha256,
        "batchkit_intent": intent,
    }


def is_ours(part: Part, batch: Batch) -> bool:
    """Whether a batch was made for this part.

    Its marks say so where it has them: the part's id, which is random and known to this ledger alone, and the hash of
    its lines. The service may forget or blank metadata; then the input file's id, which we alone know, is the witness.
    """
    if batch.part_id is not None:
        return batch.part_id == part.id and (batch.metadata.get("batchkit_sha") or part.sha256) == part.sha256
    return part.file_id is not None and (batch.service, batch.input_file_id) == (part.service or "", part.file_id)


def ours(part: Part, listed: Iterable[Batch]) -> list[Batch]:
    """The batches of a listing that were made for this part and are not known yet, the best first.

    Those that live or completed come before those that failed or were cancelled, and earlier ones before later ones.
    """
    known = {batch.identity for batch in part.batches}
    found = [batch for batch in listed if batch.identity not in known and is_ours(part, batch)]
    return sorted(found, key=_age)


def risen(part: Part, listed: Iterable[Batch]) -> list[Batch]:
    """The batches of a listing that this part had, and that were taken for lost or given up."""
    gone = {batch.identity for batch in part.batches if batch.errors and batch.errors[-1].code in (LOST, GIVEN_UP)}
    return [batch for batch in listed if batch.identity in gone]


def witness(part: Part, batch: Batch) -> str:
    """How we know that a batch is ours, in words for the diary."""
    if batch.part_id is None:
        return "known by its input file"
    return (
        "known by its intent"
        if batch.metadata.get("batchkit_intent") == part.intent
        else "known by its part, of an earlier intent"
    )


def strangers(part: Part, job_ids: Iterable[str], listed: Iterable[Batch]) -> list[Batch]:
    """Living batches with the very same rows that another ledger made."""
    mine = set(job_ids)
    return [
        batch
        for batch in listed
        if batch.metadata.get("batchkit_sha") == part.sha256
        and batch.metadata.get("batchkit_job", part.job_id) not in mine
        and not dead(batch)
    ]


def dead(batch: Batch) -> bool:
    """Whether a batch ended without doing its work."""
    return batch.status in DEAD


@dataclass(frozen=True, slots=True)
class Twins:
    """Two batches of one part: `keep` one, cancel `drop`."""

    keep: Batch
    drop: tuple[Batch, ...]


def twins(part: Part, listed: Iterable[Batch]) -> Twins | None:
    """Whether a listing shows batches of a part beside the one we know; None when there is nothing to do.

    What has ended with results is kept, since it is paid for; of those that live the one that was created first.
    """
    current = part.batch
    if current is None:
        return None
    listed = list(listed)
    others = [batch for batch in ours(part, listed) if not dead(batch)]
    if not others:
        return None
    seen = next((batch for batch in listed if batch.identity == current.identity), current)
    if current.ended and not dead(current):
        return Twins(current, tuple(others))
    keep, *rest = sorted([*([] if dead(seen) else [seen]), *others], key=lambda batch: (not batch.ended, _age(batch)))
    return Twins(keep, tuple(rest))


def judge(part: Part, listed_at: float, settings: Settings) -> Judgement:
    """What a complete listing, begun at `listed_at`, that shows no batch of a part says of it in `submitting`.

    That none was made is believed only after the settle window and two complete listings a while apart, since a new
    batch may be listed late.
    """
    settled = (part.intent_at or 0.0) + settings.read_timeout_s + settings.settle_window_s
    if listed_at < settled:
        return Judgement(Fate.WAIT, at=settled)
    if part.clean_at is None:
        return Judgement(Fate.RELIST, at=listed_at + settings.relist_after_s)
    if listed_at < part.clean_at + settings.relist_after_s:
        return Judgement(Fate.WAIT, at=part.clean_at + settings.relist_after_s)
    return Judgement(Fate.NOT_MADE)


def uploaded(part: Part, files: Iterable[RemoteFile]) -> tuple[RemoteFile | None, list[RemoteFile]]:
    """Our own upload in a list of files, by its unique name, whole and usable; and its copies, which may go."""
    found = [
        file
        for file in files
        if file.filename == part.file_name
        and file.purpose in ("", "batch")
        and (file.bytes is None or file.bytes == part.size)
        and file.status not in ("error", "deleted")
    ]
    found.sort(key=lambda file: file.id != part.file_id)
    return (found[0], found[1:]) if found else (None, [])


def _age(batch: Batch) -> tuple[bool, float, str]:
    return dead(batch), batch.created_at or 0.0, batch.id
