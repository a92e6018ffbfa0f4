"""The command about files at the service: files."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict
from typing import Annotated, Any

import typer

from batchkit.cli.options import Where
from batchkit.cli.printer import Face, table, when
from batchkit.cli.session import opened
from batchkit.model import StoredFile
from batchkit.text import plural


def files(
    face: Face,
    where: Where,
    sweep: Annotated[bool, typer.Option("--sweep", help="Delete ours that nobody needs any more.")] = False,
) -> None:
    """The input files at the service, and sweep those nobody needs: each with whose it is, and who needs it.

    Example: batchkit files --sweep
    """
    with opened(face, where) as session:
        found, gone = session.act(lambda client: client.files(sweep=sweep))
    header = ("FILE", "NAME", "BYTES", "CREATED", "EXPIRES", "STANDING", "JOB")
    deleted = {stored.file.id for stored in gone}
    face.data(document(found, gone), table(header, (_row(stored, deleted) for stored in found)))
    if sweep:
        face.say(f"{plural(len(gone), 'file')} deleted")
    elif needless := [stored for stored in found if stored.standing == "needless"]:
        face.say(f"nobody needs {plural(len(needless), 'file')}")
        face.next("batchkit files --sweep")


def document(found: tuple[StoredFile, ...], gone: tuple[StoredFile, ...]) -> dict[str, Any]:
    """The document of `--json`."""
    deleted = {stored.file.id for stored in gone}
    entries = [
        asdict(stored.file)
        | {"service": stored.service, "standing": stored.standing, "job": stored.job}
        | {"deleted": stored.file.id in deleted}
        for stored in found
    ]
    return {"schema": "batchkit/files@1", "files": entries}


_STANDING = {"needed": "its job needs it", "needless": "nobody needs it"}


def _row(stored: StoredFile, deleted: Container[str]) -> tuple[str, ...]:
    file = stored.file
    size = "" if file.bytes is None else str(file.bytes)
    standing = "deleted" if file.id in deleted else _STANDING.get(stored.standing, stored.standing)
    return file.id, file.filename, size, when(file.created_at), when(file.expires_at), standing, stored.job or ""
