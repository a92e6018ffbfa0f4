"""JSON documents in a directory, one file each, private to their owner: the emulator's memory across restarts."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import orjson

from batchkit.emulator.api import Document


class Store(dict[str, Document]):
    """Documents by id, oldest first; `save` makes a change durable across a killed process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in directory.glob(".*"):
            name.unlink()  # a write that a kill cut short
        known = [doc for doc in load(directory) if "made" in doc]  # others are of an emulator before the first release
        super().__init__((doc["id"], doc) for doc in sorted(known, key=lambda doc: (doc["made"], doc["id"])))

    def save(self, doc: Document) -> None:
        """Keep a document, new or changed; a new one is told its place in the order."""
        doc.setdefault("made", next(reversed(self.values()))["made"] + 1 if self else 0)
        self[doc["id"]] = doc
        temporary = self._directory / f".{doc['id']}.{secrets.token_hex(4)}"
        with private(temporary) as file:
            file.write(orjson.dumps(doc))
        temporary.rename(self._directory / f"{doc['id']}.json")

    def forget(self, doc: Document) -> None:
        del self[doc["id"]]
        (self._directory / f"{doc['id']}.json").unlink(missing_ok=True)


def load(directory: Path) -> Iterator[Document]:
    """The documents kept in a directory."""
    for path in directory.glob("*.json"):
        with contextlib.suppress(orjson.JSONDecodeError):
            yield orjson.loads(path.read_bytes())


def private(path: Path) -> FileIO:
    """A new file that only its owner can read."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def newest(directory: Path) -> float:
    """The latest moment any kept document knows of: an emulator started again must not live before it."""
    docs = [doc for name in ("files", "batches") for doc in load(directory / name)]
    return max((float(doc.get("cancel_at") or doc["created_at"]) for doc in docs), default=0.0)
