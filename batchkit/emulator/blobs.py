"""Blob storage in a local folder, for batches that read and write it: `http://127.0.0.1:PORT/blobs/CONTAINER/NAME`."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

PREFIX = "/blobs"
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,254}")


class Blobs:
    """Files under `directory/CONTAINER/…`; a URL that leads anywhere else leads nowhere."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, url: str, *, make: bool = False) -> Path | None:
        """Where the blob of a URL, or of a path of one, lies; None for what is no blob of ours."""
        parts = urlsplit(url)
        segments = unquote(parts.path).removeprefix(PREFIX).strip("/").split("/")
        ours = parts.path.startswith(f"{PREFIX}/") and parts.hostname in (None, "127.0.0.1", "localhost")
        if not ours or len(segments) < 2 or not all(map(_SEGMENT.fullmatch, segments)):
            return None
        path = self._directory.joinpath(*segments)
        if make:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def outputs(self, folder: str) -> tuple[str, str]:
        """URLs for the results and the errors of one batch, in a new folder below `folder`."""
        base = f"{folder.rstrip('/')}/{uuid.uuid4()}"
        return f"{base}/results.jsonl", f"{base}/errors.jsonl"


def signature(path: Path) -> list[int] | None:
    """What tells whether a blob was changed; None where it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ino]
