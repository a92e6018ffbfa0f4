"""The files of the emulated resource: what was uploaded and what batches left behind."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path

from batchkit.clock import Clock
from batchkit.emulator.api import Document, Refusal
from batchkit.emulator.faults import Fault
from batchkit.emulator.settings import Limits, Pace
from batchkit.emulator.store import Store

SMALL = 1 << 20
"""Files up to this size are `processed` at once, as small uploads are on Azure."""


class Files:
    """Files under one directory. Documents are in the service's words; their states follow from the time."""

    def __init__(self, directory: Path, clock: Clock, limits: Limits, pace: Pace) -> None:
        self._directory, self._clock, self._limits, self._pace = directory, clock, limits, pace
        self._docs = Store(directory)
        for abandoned in directory.glob("*.upload"):
            abandoned.unlink()

    def new_path(self) -> Path:
        """Where bytes are received before they are a file."""
        return self._directory / f"{secrets.token_hex(16)}.upload"

    def admit(self, expires_s: int | None) -> None:
        """Refuse one input file more than the resource may hold."""
        if len(self._docs) < (self._limits.files if expires_s is None else self._limits.expiring_files):
            return  # whatever they are
        inputs = [doc for doc in self._docs.values() if doc["purpose"] == "batch" and not self._expired(doc)]
        expiring = sum(doc["expires_at"] is not None for doc in inputs)
        if expires_s is None and len(inputs) - expiring >= self._limits.files:
            words = f"The quota for files without expiry is reached. The maximum is {self._limits.files}."
            raise Refusal(400, "quotaExceeded", words)
        if expires_s is not None and expiring >= self._limits.expiring_files:
            words = f"The quota for files with expiry is reached. The maximum is {self._limits.expiring_files}."
            raise Refusal(400, "quotaExceeded", words)

    def add(
        self,
        received: Path,
        filename: str,
        expires_s: int | None,
        struck: Mapping[str, Fault],
        trouble: str | None = None,
    ) -> Document:
        """Keep an upload; it is `processed` at once where it is small, and ends in `error` where there is trouble."""
        pending = struck.get("pending_for")
        wait_s = pending.number if pending else self._pace.file_s if received.stat().st_size > SMALL else 0.0
        name = f"file-{secrets.token_hex(16)}"
        trouble = "The file could not be processed." if "spoil_file" in struck else trouble
        return self._keep(name, received, filename, "batch", expires_s, wait_s=wait_s, trouble=trouble)

    def add_result(self, written: Path, filename: str, expires_s: int | None) -> str:
        """Keep a result file; its id."""
        return str(self._keep(f"file-{uuid.uuid4()}", written, filename, "batch_output", expires_s)["id"])

    def get(self, file_id: str) -> Document:
        """The file as the service shows it. Raises Refusal where there is none, or none any more."""
        doc = self._doc(file_id)
        public = {key: doc[key] for key in ("id", "bytes", "created_at", "filename", "purpose", "expires_at")}
        return {"object": "file", **public, "status": self._status(doc), "status_details": doc["trouble"]}

    def ids(self, purpose: str | None = None, *, oldest_first: bool = False) -> list[str]:
        """Newest first unless told."""
        found = [d["id"] for d in self._docs.values() if purpose in (None, d["purpose"]) and not self._expired(d)]
        return found if oldest_first else found[::-1]

    def content(self, file_id: str) -> Path:
        """Where the bytes of a file lie."""
        self._doc(file_id)
        return self.path(file_id)

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file lie, or lay."""
        return self._directory / f"{file_id}.data"

    def delete(self, file_id: str, *, keep_bytes: bool) -> Document:
        """Forget a file; a batch that runs goes on with what it was given."""
        self._docs.forget(self._doc(file_id))
        if not keep_bytes:
            self.path(file_id).unlink(missing_ok=True)
        return {"object": "file", "id": file_id, "deleted": True}

    def _doc(self, file_id: str) -> Document:
        doc = self._docs.get(file_id)
        if doc is None or self._expired(doc):
            raise Refusal(404, "notFound", f"The file '{file_id}' was not found.")
        return doc

    def _status(self, doc: Document) -> str:
        age = self._clock.now() - doc["created_at"]
        if doc["wait_s"] and age < doc["wait_s"]:
            return "pending" if age < doc["wait_s"] / 2 else "running"
        return "error" if doc["trouble"] else "processed"

    def _expired(self, doc: Document) -> bool:
        return doc["expires_at"] is not None and self._clock.now() >= doc["expires_at"]

    def _keep(
        self,
        file_id: str,
        path: Path,
        filename: str,
        purpose: str,
        expires_s: int | None,
        *,
        wait_s: float = 0.0,
        trouble: str | None = None,
    ) -> Document:
        created = int(self._clock.now())
        doc: Document = {
            "id": file_id,
            "filename": filename,
            "purpose": purpose,
            "bytes": path.stat().st_size,
            "created_at": created,
            "expires_at": created + expires_s if expires_s else None,
            "wait_s": wait_s,
            "trouble": trouble,
        }
        path.rename(self.path(file_id))
        self._docs.save(doc)
        return self.get(file_id)
