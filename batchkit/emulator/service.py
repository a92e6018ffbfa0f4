"""Azure's batch service as a state machine over a clock, kept in a directory.

Nothing ticks: what a file or batch looks like follows from its document and the time, so a killed emulator goes on
where it was. Only writing result files is work; it happens in a worker thread the first time anybody looks at a batch
that should have results by now, and until it is done the batch is `finalizing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from batchkit.clock import Clock
from batchkit.emulator import answers, validate

Document = dict[str, Any]

FILE_READY_S = 10.0
VALIDATING_S = 30.0
RUNNING_S = 240.0
RUNNING_ROW_S = 0.01
FINALIZING_S = 30.0
CANCELLING_S = 120.0
SMALL = 1 << 20
"""Files up to this size are `processed` at once, as small uploads are on Azure."""


class Fault(Exception):
    """A refusal in the service's words; the app wraps it in the dialect's envelope."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Service:
    """Files and batches under one directory; every method answers with the service's JSON documents."""

    def __init__(self, directory: Path, clock: Clock, *, fail_rate: float, max_lines: int) -> None:
        self._files_dir, self._batches_dir = directory / "files", directory / "batches"
        for path in (self._files_dir, self._batches_dir):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock, self._fail_rate, self._max_lines = clock, fail_rate, max_lines
        self._files = {doc["id"]: doc for doc in _load(self._files_dir)}
        self._batches = {doc["id"]: doc for doc in _load(self._batches_dir)}
        self._writing: dict[str, asyncio.Task[None]] = {}

    # files

    def new_path(self) -> Path:
        """Where an upload is received before it is a file."""
        return self._files_dir / f"{secrets.token_hex(16)}.upload"

    async def add_file(self, received: Path, filename: str, purpose: str, expires_s: int | None) -> Document:
        summary = await asyncio.to_thread(validate.inspect, received, max_lines=self._max_lines)
        return self._keep_file(f"file-{secrets.token_hex(16)}", received, filename, purpose, expires_s, summary)

    def file(self, file_id: str) -> Document:
        doc = self._files.get(file_id)
        if doc is None:
            raise Fault(404, "notFound", f"The file '{file_id}' was not found.")
        waits = doc["purpose"] == "batch" and doc["bytes"] > SMALL
        ready = not waits or self._now() >= doc["created_at"] + FILE_READY_S
        public = {key: doc[key] for key in ("id", "bytes", "created_at", "filename", "purpose", "expires_at")}
        return {"object": "file", **public, "status": "processed" if ready else "pending", "status_details": None}

    def files(self, purpose: str | None) -> list[Document]:
        """Newest first."""
        found = [self.file(file_id) for file_id, doc in self._files.items() if purpose in (None, doc["purpose"])]
        return sorted(found, key=lambda doc: (doc["created_at"], doc["id"]), reverse=True)

    def content(self, file_id: str) -> Path:
        self.file(file_id)
        return self._files_dir / f"{file_id}.data"

    def delete_file(self, file_id: str) -> Document:
        path = self.content(file_id)
        del self._files[file_id]
        path.with_suffix(".json").unlink(missing_ok=True)
        # A batch that runs goes on with what it was given.
        if not any(doc["input_file_id"] == file_id and doc["result"] is None for doc in self._batches.values()):
            path.unlink(missing_ok=True)
        return {"object": "file", "id": file_id, "deleted": True}

    # batches

    def create_batch(self, body: Document) -> Document:
        file_id, metadata = body.get("input_file_id"), body.get("metadata")
        if not isinstance(file_id, str) or not isinstance(body.get("endpoint"), str):
            raise Fault(400, "invalidPayload", "input_file_id and endpoint are required.")
        if body.get("completion_window") != "24h":
            raise Fault(400, "invalidPayload", "completion_window must be '24h'.")
        if metadata is not None and not _metadata_ok(metadata):
            raise Fault(400, "invalidPayload", "metadata: up to 16 pairs of strings, 64 and 512 characters long.")
        if self.file(file_id)["status"] != "processed":
            raise Fault(400, "unexpectedEntityState", f"The file '{file_id}' is not processed yet.")
        expiry = body.get("output_expires_after") or {}
        doc: Document = {
            "id": f"batch_{uuid.uuid4()}",
            "endpoint": body["endpoint"],
            "input_file_id": file_id,
            "metadata": metadata,
            "created_at": int(self._now()),
            "output_expires_s": expiry.get("seconds"),
            "summary": self._files[file_id]["summary"],
            "cancel_at": None,
            "result": None,
        }
        self._batches[doc["id"]] = doc
        self._save(self._batches_dir, doc)
        return self._public(doc) | {"endpoint": "", "output_file_id": "", "error_file_id": ""}

    async def batch(self, batch_id: str) -> Document:
        doc = self._batches.get(batch_id)
        if doc is None:
            raise Fault(404, "notFound", f"The batch '{batch_id}' was not found.")
        await self._catch_up(doc)
        return self._public(doc)

    async def batches(self) -> list[Document]:
        """Newest first."""
        found = [await self.batch(batch_id) for batch_id in reversed(list(self._batches))]
        return sorted(found, key=lambda doc: int(doc["created_at"]), reverse=True)

    async def cancel(self, batch_id: str) -> Document:
        status = (await self.batch(batch_id))["status"]
        doc = self._batches[batch_id]
        if status not in ("validating", "in_progress", "finalizing", "cancelling"):
            raise Fault(409, "conflict", f"The batch is {status} and cannot be cancelled.")
        if status != "cancelling" and doc["result"] is None and batch_id not in self._writing:
            doc["cancel_at"] = int(self._now())
            self._save(self._batches_dir, doc)
        return await self.batch(batch_id)

    # how time changes a batch

    def _timeline(self, doc: Document) -> tuple[float, float, float]:
        """When this batch starts to run, starts to finalize, and ends."""
        start = doc["created_at"] + VALIDATING_S
        stop = start + RUNNING_S + RUNNING_ROW_S * doc["summary"]["lines"]
        return start, stop, stop + FINALIZING_S

    def _status(self, doc: Document) -> str:
        now, cancelled = self._now(), doc["cancel_at"]
        start, stop, end = self._timeline(doc)
        if cancelled is not None:
            return "cancelled" if now >= cancelled + CANCELLING_S and doc["result"] else "cancelling"
        if now < start:
            return "validating"
        if doc["summary"]["errors"]:
            return "failed"
        if now < stop:
            return "in_progress"
        return "completed" if now >= end and doc["result"] else "finalizing"

    def _share(self, doc: Document) -> float:
        """The share of rows done by now, or by the time the batch was cancelled."""
        start, stop, _ = self._timeline(doc)
        until = self._now() if doc["cancel_at"] is None else doc["cancel_at"]
        return min(1.0, max(0.0, (until - start) / (stop - start)))

    async def _catch_up(self, doc: Document) -> None:
        if doc["result"] is not None or self._status(doc) not in ("finalizing", "cancelling"):
            return
        task = self._writing.get(doc["id"])
        if task is None:
            task = self._writing[doc["id"]] = asyncio.create_task(self._write_results(doc))
        await asyncio.wait({task}, timeout=1.0)
        if task.done():
            self._writing.pop(doc["id"], None)
            task.result()

    async def _write_results(self, doc: Document) -> None:
        source = self._files_dir / f"{doc['input_file_id']}.data"
        if doc["summary"]["errors"]:
            doc["result"] = {"files": [None, None], "completed": 0, "failed": 0}
            self._save(self._batches_dir, doc)
            return
        paths = self.new_path(), self.new_path()
        written = await asyncio.to_thread(
            answers.write_results,
            source,
            *paths,
            seed=doc["summary"]["sha256"],
            fail_rate=self._fail_rate,
            share=self._share(doc),
            created=doc["created_at"],
        )
        ids: list[str | None] = []
        for path, rows, name in zip(paths, (written.completed, written.failed), ("output", "error"), strict=True):
            if rows:
                file_id, filename = f"file-{uuid.uuid4()}", f"{doc['id']}_{name}.jsonl"
                self._keep_file(file_id, path, filename, "batch_output", doc["output_expires_s"], None)
                ids.append(file_id)
            else:
                path.unlink()
                ids.append(None)
        doc["result"] = {"files": ids, "completed": written.completed, "failed": written.failed}
        self._save(self._batches_dir, doc)

    def _public(self, doc: Document) -> Document:
        status, (start, stop, end) = self._status(doc), self._timeline(doc)
        created, lines, done = doc["created_at"], doc["summary"]["lines"], doc["result"]
        shown = done if status in ("completed", "cancelled") else None
        moments = {"in_progress": start, "finalizing": stop, "completed": end, "failed": start}
        cancelled = doc["cancel_at"]
        counts = {"total": lines, "completed": int(lines * self._share(doc)), "failed": 0}
        if status in ("validating", "failed"):
            counts = {"total": lines if status == "failed" else 0, "completed": 0, "failed": 0}
        if shown:
            counts = {"total": lines, "completed": shown["completed"], "failed": shown["failed"]}
        reached = {"validating": [], "failed": ["failed"], "in_progress": ["in_progress"]}.get(
            status, ["in_progress"] if cancelled else ["in_progress", "finalizing", "completed"]
        )
        times = {
            f"{name}_at": int(at) if name in reached and at <= self._now() else None for name, at in moments.items()
        }
        return {
            "object": "batch",
            "id": doc["id"],
            "status": status,
            "endpoint": doc["endpoint"],
            "completion_window": "24h",
            "input_file_id": doc["input_file_id"],
            "output_file_id": shown["files"][0] if shown else None,
            "error_file_id": shown["files"][1] if shown else None,
            "errors": {"object": "list", "data": doc["summary"]["errors"]} if status == "failed" else None,
            "request_counts": counts,
            "metadata": doc["metadata"],
            "created_at": created,
            "expires_at": created + 86_400,
            **times,
            "expired_at": None,
            "cancelling_at": cancelled,
            "cancelled_at": int(cancelled + CANCELLING_S) if status == "cancelled" else None,
        }

    # documents on disk

    def _keep_file(
        self,
        file_id: str,
        path: Path,
        filename: str,
        purpose: str,
        expires_s: int | None,
        summary: validate.Summary | None,
    ) -> Document:
        created = int(self._now())
        doc: Document = {
            "id": file_id,
            "filename": filename,
            "purpose": purpose,
            "bytes": path.stat().st_size,
            "created_at": created,
            "expires_at": created + expires_s if expires_s else None,
            "summary": summary.document() if summary else None,
        }
        path.rename(self._files_dir / f"{file_id}.data")
        self._files[file_id] = doc
        self._save(self._files_dir, doc)
        return self.file(file_id)

    def _save(self, directory: Path, doc: Document) -> None:
        temporary = directory / f".{doc['id']}.{secrets.token_hex(4)}"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps(doc))
        temporary.rename(directory / f"{doc['id']}.json")

    def _now(self) -> float:
        return self._clock.now()


def newest(directory: Path) -> float:
    """The latest moment any kept document knows of: an emulator started again must not live before it."""
    docs = [doc for name in ("files", "batches") for doc in _load(directory / name)]
    return max((float(doc.get("cancel_at") or doc["created_at"]) for doc in docs), default=0.0)


def _load(directory: Path) -> Iterator[Document]:
    for path in directory.glob("*.json"):
        with contextlib.suppress(orjson.JSONDecodeError):
            yield orjson.loads(path.read_bytes())


def _metadata_ok(metadata: Any) -> bool:
    return (
        isinstance(metadata, dict)
        and len(metadata) <= 16
        and all(len(k) <= 64 and isinstance(v, str) and len(v) <= 512 for k, v in metadata.items())
    )
