"""The ledger's rows as the shared words, and back. Each function is part of somebody's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from sys import intern

import orjson

from batchkit.errors import Unintelligible, UnknownJob
from batchkit.ledger.sql import Row, Tx
from batchkit.model import Batch, Counts, Job, Outcome, Part, Queue, ServiceError, State
from batchkit.text import plural, visible

JOB_COLUMNS = ("id", "name", "sha256", "service", "target", "url", "deployment", "created_at")
FILES = ""
"""Stands for a resource's room for files where a deployment's name stands for its queue of tokens."""
_PART_COLUMNS = (
    "id job_id round number place state lines bytes sha256 target service deployment sent_sha256 sent_bytes file_id "
    "intent intent_at clean_at doubt_at listed_at swept_at held next_try_at tries".split()
)


def find(tx: Tx, name: str) -> Job | None:
    """The job of this name."""
    row = tx.row("SELECT * FROM jobs WHERE name = :name", name=name)
    return job_of(tx, row) if row else None


def by_id(tx: Tx, job_id: str) -> Job | None:
    """The job of this id."""
    row = tx.row("SELECT * FROM jobs WHERE id = :id", id=job_id)
    return job_of(tx, row) if row else None


def job_ids(tx: Tx) -> set[str]:
    """The ids of all jobs."""
    return {row["id"] for row in tx.rows("SELECT id FROM jobs")}


def must(job: Job | None) -> Job:
    """A job that was there a moment ago."""
    if job is None:
        raise UnknownJob("the job is gone from this ledger")
    return job


def job_of(tx: Tx, row: Row) -> Job:
    """A row of `jobs` with its parts and their batches, all in order."""
    batches: dict[str, list[Batch]] = {}
    for item in tx.rows(
        "SELECT batches.* FROM batches JOIN parts ON parts.id = part_id WHERE job_id = :job ORDER BY seq, batches.id",
        job=row["id"],
    ):
        batches.setdefault(item["part_id"], []).append(_batch(item))
    parts = tx.rows("SELECT * FROM parts WHERE job_id = :job ORDER BY round, place, number", job=row["id"])
    settled = row["total"] is not None
    return Job(
        **{key: row[key] for key in (*JOB_COLUMNS, "settled_at", "cancelled_at")},
        aside=tuple(orjson.loads(row["aside"])),
        parts=tuple(_part(item, batches.get(item["id"], [])) for item in parts),
        outcome=Outcome(row["total"], row["ok"], row["failed"], row["missing"], bool(row["balanced"]))
        if settled
        else None,
    )


def _part(row: Row, batches: list[Batch]) -> Part:
    values = {key: row[key] for key in _PART_COLUMNS} | {"state": State(row["state"])}
    values |= {key: row[key] and intern(row[key]) for key in ("job_id", "target", "service", "deployment")}
    return Part(**values, batches=tuple(batches))


def _batch(row: Row) -> Batch:
    names = "service id status input_file_id output_file_id error_file_id created_at looked_at ended_at".split()
    return Batch(
        **{key: row[key] for key in names},
        counts=None if row["total"] is None else Counts(row["total"], row["completed"], row["failed"]),
        errors=tuple(ServiceError(*error) for error in orjson.loads(row["errors"])),
    )


def record(tx: Tx, part: Part, batch: Batch, at: float, *, current: bool = True) -> Part:
    """Write down a batch of this part as just seen; a new one becomes the part's current batch unless told not to."""
    service = part.service or ""
    owner = tx.row("SELECT part_id FROM batches WHERE service = :service AND id = :id", service=service, id=batch.id)
    if owner is not None and owner["part_id"] != part.id:
        raise Unintelligible(f"the service gave the id {batch.id} to two batches")
    seen = replace(batch, service=service, looked_at=at)
    before = next((known for known in part.batches if known.identity == seen.identity), None)
    ended_at = (before.ended_at if before else None) or (at if batch.ended else None)
    ended_at = ended_at and min(ended_at, at)  # the clock was ahead when a later one was written
    seen = replace(seen, ended_at=ended_at)
    counts = seen.counts or Counts()
    place = "coalesce(max(seq) + 1, 0)" if current else "coalesce(min(seq) - 1, 0)"
    tx.write(
        "INSERT INTO batches (service, id, part_id, seq, status, input_file_id, output_file_id, error_file_id, total,"
        " completed, failed, errors, created_at, looked_at, ended_at)"
        f" VALUES (:service, :id, :part, (SELECT {place} FROM batches WHERE part_id = :part), :status,"
        " :input, :output, :error, :total, :completed, :failed, :errors, :created_at, :looked_at, :ended_at)"
        " ON CONFLICT (service, id) DO UPDATE SET status = excluded.status, output_file_id = excluded.output_file_id,"
        " error_file_id = excluded.error_file_id, total = excluded.total, completed = excluded.completed,"
        " failed = excluded.failed, errors = excluded.errors, looked_at = excluded.looked_at,"
        " ended_at = excluded.ended_at",
        service=service,
        id=seen.id,
        part=part.id,
        status=seen.status,
        input=seen.input_file_id,
        output=seen.output_file_id,
        error=seen.error_file_id,
        total=counts.total if seen.counts else None,
        completed=counts.completed if seen.counts else None,
        failed=counts.failed if seen.counts else None,
        errors=orjson.dumps([[e.code, e.message, e.line] for e in seen.errors]).decode(),
        created_at=seen.created_at,
        looked_at=at,
        ended_at=ended_at,
    )
    if before is None or before.status != seen.status:
        add_event(tx, part.job_id, at, "batch", f"{seen.id} is {seen.status or 'without status'}", part.number)
        if seen.status not in ("", "validating", "failed"):  # only then is the quota's door passed
            had_room(tx, service, part.deployment)
    others = tuple(known for known in part.batches if known.identity != seen.identity)
    if before is None and not current:
        return replace(part, batches=(seen, *others))
    if before is not None and not current:
        return replace(
            part, batches=tuple(seen if known.identity == seen.identity else known for known in part.batches)
        )
    return replace(part, batches=(*others, seen))


def add_round(tx: Tx, job_id: str, parts: Iterable[Part], at: float) -> None:
    """Write a further round of a job, its parts being staged."""
    parts = list(parts)
    number, rows = parts[0].round, sum(part.lines for part in parts)
    tx.write(
        "INSERT INTO rounds (job_id, number, lines, created_at) VALUES (:job, :number, :lines, :at)",
        job=job_id,
        number=number,
        lines=rows,
        at=at,
    )
    for part in parts:
        add_part(tx, part)
    words = f"round {number}: {plural(rows, 'row')} in {plural(len(parts), 'part')}"
    add_event(tx, job_id, at, State.STAGED, words, None)


def add_part(tx: Tx, part: Part) -> None:
    """Write a new part."""
    columns, values = ", ".join(_PART_COLUMNS), ", ".join(f":{name}" for name in _PART_COLUMNS)
    sql = f"INSERT INTO parts ({columns}) VALUES ({values})"
    tx.write(sql, **{name: getattr(part, name) for name in _PART_COLUMNS})


def add_event(tx: Tx, job_id: str, at: float, kind: str, detail: str, part: int | None) -> None:
    """Write a line of a job's diary."""
    tx.write(
        "INSERT INTO events (job_id, part, at, kind, detail) VALUES (:job, :part, :at, :kind, :detail)",
        job=job_id,
        part=part,
        at=at,
        kind=kind,
        detail=visible(detail),
    )


def queue(tx: Tx, service: str, deployment: str) -> Queue:
    """What is known of a deployment's queue: by all jobs of this ledger, whoever works on them."""
    (ours,) = tx.rows(
        "SELECT coalesce(sum(coalesce(sent_bytes, bytes)), 0) AS bytes FROM parts"
        " WHERE service = :service AND deployment = :deployment AND state IN (:submitting, :running)",
        service=service,
        deployment=deployment,
        submitting=State.SUBMITTING,
        running=State.RUNNING,
    )
    known = tx.row(
        "SELECT tokens, tries, next_try_at, why FROM quotas WHERE service = :service AND deployment = :deployment",
        service=service,
        deployment=deployment,
    )
    return Queue(bytes=int(ours["bytes"]), **(known or {}))


def had_room(tx: Tx, service: str, deployment: str | None) -> None:
    """A deployment's queue, or the room for files, was just seen not to be full."""
    sql = "UPDATE quotas SET tries = 0, next_try_at = NULL WHERE service = :service AND deployment = :deployment"
    tx.write(sql, service=service, deployment=deployment)


def set_quota(tx: Tx, service: str, deployment: str, **values: object) -> None:
    """Write down what was learned of a deployment's quota."""
    columns = ", ".join(values)
    tx.write(
        f"INSERT INTO quotas (service, deployment, {columns})"
        f" VALUES (:service, :deployment, {', '.join(f':{name}' for name in values)})"
        f" ON CONFLICT (service, deployment) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in values)}",
        service=service,
        deployment=deployment,
        **values,
    )
