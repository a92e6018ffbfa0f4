"""The larger deeds of a job's holder: what concerns a deployment's queue, or more than one part, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import orjson

from batchkit.errors import ConfigError, LedgerBusy
from batchkit.ledger import rows
from batchkit.ledger.hold import Hold
from batchkit.ledger.rows import FILES as FILES
from batchkit.ledger.sql import Tx
from batchkit.model import COLLECTED, Batch, Job, Part, Queue, State
from batchkit.text import visible

SILENT = "silent"
"""The kind of event that keeps when a service could not be asked first."""
AT_ONCE = 500
"""How many names one query asks for."""


async def queue_of(hold: Hold, service: str, deployment: str) -> Queue:
    """The queue of a deployment, or the room for files."""
    return await hold.write(lambda tx: rows.queue(tx, service, deployment))


async def announce(hold: Hold, part: Part, *, intent: str, at: float, fits: Callable[[Queue], bool]) -> Part | None:
    """Write the intent to create a part's batch, if the queue has room for it in this very moment; None otherwise.

    Whoever else submits to the same deployment through this ledger sees the room taken.
    """

    def work(tx: Tx) -> Part | None:
        if not fits(rows.queue(tx, part.service or "", part.deployment or "")):
            return None
        return hold.moved(
            tx, part, State.SUBMITTING, at=at, intent=intent, intent_at=at, clean_at=None, held=None, next_try_at=None
        )

    return await hold.write(work)


async def refused(
    hold: Hold,
    part: Part,
    to: State,
    *,
    at: float,
    why: str,
    wait_s: Callable[[int], float],
    files: bool = False,
    tokens: int | None = None,
    batch: Batch | None = None,
) -> Part:
    """The deployment's queue, or the room for `files`, is full: the part goes back, and it is left alone for a while,
    longer each time. `tokens` is the limit where the service named it."""

    def work(tx: Tx) -> Part:
        service, deployment = part.service or "", FILES if files else part.deployment or ""
        known = rows.queue(tx, service, deployment)
        tries = known.tries + 1
        again = at + wait_s(tries)
        rows.set_quota(
            tx,
            service,
            deployment,
            tries=tries,
            next_try_at=again,
            why=why,
            tokens=known.tokens if tokens is None else tokens,
        )
        return hold.moved(tx, part, to, at=at, event=why, batch=batch, held=why, next_try_at=again)

    return await hold.write(work)


async def learned(hold: Hold, part: Part, tokens: int) -> None:
    """The service named the limit of the deployment's queue."""
    await hold.write(lambda tx: rows.set_quota(tx, part.service or "", part.deployment or "", tokens=tokens))


async def twin(hold: Hold, part: Part, batch: Batch, *, at: float, words: str) -> Part:
    """A second batch of a part that has one: known from now on, but not the one that counts."""

    def work(tx: Tx) -> Part:
        rows.add_event(tx, part.job_id, at, "twin", words, part.number)
        return rows.record(tx, part, batch, at, current=False)

    return await hold.write(work)


async def job_ids(hold: Hold) -> set[str]:
    """The ids of all jobs of this ledger."""
    return await hold.write(rows.job_ids)


async def cut(hold: Hold, part: Part, pieces: Sequence[Part], *, at: float, why: str) -> None:
    """Put smaller parts in a part's place. Its batches, all dead, go with the first of them."""

    def work(tx: Tx) -> None:
        (after,) = tx.rows(
            "SELECT min(place) AS place FROM parts WHERE job_id = :job AND round = :round AND place > :place",
            job=part.job_id,
            round=part.round,
            place=part.place,
        )
        width = (after["place"] if after["place"] is not None else part.place + 1) - part.place
        if (
            tx.row("SELECT 1 AS found FROM parts WHERE id = :id AND state = :state", id=part.id, state=part.state)
            is None
        ):
            raise LedgerBusy(f"part {part.number} was moved by somebody else", hint="run the same command again")
        for index, piece in enumerate(pieces):
            rows.add_part(tx, replace(piece, place=part.place + width * index / len(pieces)))
        sql = "UPDATE batches SET part_id = :heir WHERE part_id = :id"
        tx.write(sql, heir=pieces[0].id, id=part.id)
        tx.write("DELETE FROM parts WHERE id = :id", id=part.id)
        numbers = ", ".join(str(piece.number) for piece in pieces)
        rows.add_event(tx, part.job_id, at, "split", f"{why}: now parts {numbers}", part.number)

    await hold.write(work)


async def finished(hold: Hold, batches: Sequence[Batch]) -> list[tuple[str, Part]]:
    """The parts of this ledger, with their job's name, whose rows are all here and that one of these batches may have
    been made for: its marks name the part, or where a creation was in doubt, its file; or that had it already."""
    marked = [batch.part_id for batch in batches if batch.part_id]
    fed = [b.input_file_id for b in batches if b.part_id is None and b.input_file_id and _plain(b.input_file_id)]

    ids = [batch.id for batch in batches if _plain(batch.id)]
    where = (
        ("id IN ({})", marked),
        ("doubt_at IS NOT NULL AND file_id IN ({})", fed),
        ("id IN (SELECT part_id FROM batches WHERE id IN ({}))", ids),
    )

    def work(tx: Tx) -> list[tuple[str, Part]]:
        found: dict[str, str] = {}
        for condition, values in where:
            for some in range(0, len(values), AT_ONCE):
                named = {f"v{index}": value for index, value in enumerate(values[some : some + AT_ONCE])}
                holders = ", ".join(f":{name}" for name in named)
                sql = f"SELECT id, job_id, state FROM parts WHERE {condition.format(holders)}"
                found |= {row["id"]: row["job_id"] for row in tx.rows(sql, **named) if State(row["state"]) in COLLECTED}
        jobs = [rows.must(rows.by_id(tx, job_id)) for job_id in sorted(set(found.values()))]
        return [(job.name, part) for job in jobs for part in job.parts if part.id in found]

    return await hold.write(work)


async def in_trouble_since(hold: Hold, part: Part, words: str = "") -> float | None:
    """When a part first met trouble in the state it is in, by the diary, in these `words` where some are given; None
    where it met none."""
    sql = (
        "SELECT at, kind, detail FROM events"
        " WHERE job_id = :job AND part = :part AND kind IN (:ended, :fetched, :settled) ORDER BY seq"
    )

    def work(tx: Tx) -> float | None:
        lines = tx.rows(
            sql, job=part.job_id, part=part.number, ended=State.ENDED, fetched=State.FETCHED, settled=State.SETTLED
        )
        others = [place for place, line in enumerate(lines) if line["kind"] != part.state]
        here = lines[others[-1] + 1 if others else 0 :]
        # The first line is of its coming to this state; a part is settled with all others, which is no line of its own.
        troubles = here if part.state is State.SETTLED else here[1:]
        return next((line["at"] for line in troubles if words in line["detail"]), None)

    return await hold.write(work)


async def silent_since(hold: Hold, service: str, *, seen_at: float, now: float) -> float:
    """When a service that cannot be asked `now` could not be asked first after it was last heard of; that is a line in
    the diary."""
    sql = (
        "SELECT min(at) AS since FROM events WHERE job_id = :job AND kind = :silent AND detail = :service"
        " AND at >= :seen AND at <= :now"
    )

    def work(tx: Tx) -> float:
        words = visible(service)
        row = tx.row(sql, job=hold.job_id, silent=SILENT, service=words, seen=seen_at, now=now)
        if row and row["since"] is not None:
            return float(row["since"])
        rows.add_event(tx, hold.job_id, now, SILENT, words, None)
        return now

    return await hold.write(work)


def _plain(name: str) -> bool:
    """Whether a name may be one of ours; not all that others give their batches can be asked of a database."""
    return name.isascii() and name.isprintable()


async def told_of_twin(hold: Hold, part: Part, *, at: float, words: str) -> None:
    """A line in the diary of a part's job, whoever holds it: it moves nothing."""
    await hold.write(lambda tx: rows.add_event(tx, part.job_id, at, "twin", words, part.number))


async def set_aside(hold: Hold, part: Part, *, at: float, until: float, why: str) -> Part:
    """A target will not do: it is left alone for a while, and its part is free to go elsewhere."""

    def work(tx: Tx) -> Part:
        rows.set_quota(tx, part.service or "", part.deployment or "", next_try_at=until, why=why)
        return _freed(hold, tx, part, at, why)

    return await hold.write(work)


async def refused_by(
    hold: Hold, part: Part, batch: Batch, *, pool: Collection[str], at: float, why: str
) -> Part | None:
    """A target's validation refused a part's batch: the job leaves it alone, and the part is free to go elsewhere.
    None, and nothing was done, where no other target of the `pool` is left."""

    def work(tx: Tx) -> Part | None:
        aside = {*rows.must(rows.by_id(tx, part.job_id)).aside, part.target or ""}
        if aside >= set(pool):
            return None
        seen = rows.record(tx, part, batch, at)
        sql = "UPDATE jobs SET aside = :aside WHERE id = :job"
        tx.write(sql, job=part.job_id, aside=orjson.dumps(sorted(aside)).decode())
        return _freed(hold, tx, seen, at, why)

    return await hold.write(work)


async def free(hold: Hold, part: Part, *, at: float, why: str) -> Part:
    """A part that waits for a target which was set aside meanwhile is free to go elsewhere."""
    return await hold.write(lambda tx: _freed(hold, tx, part, at, why))


def _freed(hold: Hold, tx: Tx, part: Part, at: float, why: str) -> Part:
    rows.add_event(tx, part.job_id, at, "set aside", f"target {part.target}: {why}", part.number)
    # A lost creation is not feared any more: nobody leaves before.
    values: dict[str, Any] = dict.fromkeys(("target", "service", "deployment", "doubt_at", *_OF_A_PLACE))
    return hold.moved(tx, part, State.STAGED, at=at, tries=0, **values)


_OF_A_PLACE = ("sent_sha256", "sent_bytes", "file_id", "held", "next_try_at")
"""What a part has of the target it is at, and leaves behind there."""


LEFT = "left"
"""The kind of event that keeps where a job belonged before it was given to another target."""
MOST_RETURNS = 1
"""How often within `RETURNS_S` a job goes back to where it belonged before, as when an edit is undone."""
RETURNS_S = 3600.0


async def rehome(hold: Hold, job: Job, places: Sequence[Part], *, at: float) -> Job:
    """Give a job the target that it names by now; `places` are those of its parts that were sent nowhere, as they are
    to be. Raises ConfigError for one that two settings of its target pull to and fro within the hour."""

    def work(tx: Tx) -> Job:
        before = rows.must(rows.by_id(tx, job.id))
        sql = (
            "SELECT count(*) AS times FROM events"
            " WHERE job_id = :job AND kind = :left AND detail = :service AND at > :since"
        )
        left = tx.row(sql, job=job.id, left=LEFT, service=visible(job.service), since=at - RETURNS_S)
        if left and left["times"] > MOST_RETURNS:
            raise ConfigError(
                f"job {job.name!r} belongs to {before.service} ({before.target}) and is left alone here: it was taken"
                f" there twice within the hour from {job.service} ({job.target})",
                hint=f"where two hosts or files say differently what {job.target!r} is, make them the same:"
                f" with {before.service} it goes on at once, with another an hour after the last change",
            )
        sql = "UPDATE jobs SET service = :service, target = :target WHERE id = :job"
        tx.write(sql, job=job.id, service=job.service, target=job.target)
        rows.add_event(tx, job.id, at, LEFT, before.service, None)
        rows.add_event(tx, job.id, at, "target", f"from now on at {job.target}: {job.service}", None)
        for part in places:
            names = ("target", "service", "deployment")
            values: dict[str, Any] = dict.fromkeys(_OF_A_PLACE) | {name: getattr(part, name) for name in names}
            hold.moved(tx, part, State.STAGED, at=at, **values)
        return rows.must(rows.by_id(tx, job.id))

    return await hold.write(work)
