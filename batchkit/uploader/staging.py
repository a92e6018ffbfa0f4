"""Part files made from part files: for a target that calls its deployment otherwise, or for a smaller quota."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from batchkit.disk import PIECE, Workdir, local_errors, replacing, sha256
from batchkit.errors import LocalError
from batchkit.model import Part, State

Rename = Callable[[bytes, str], bytes]
"""A request line with another deployment's name in it."""


def renamed(workdir: Workdir, part: Part, deployment: str, rename: Rename) -> Part:
    """The part with a durable copy of its lines that names `deployment`."""
    source, digest, size = workdir.lines(part), hashlib.sha256(), 0
    with local_errors(source), source.open("rb", buffering=PIECE) as lines, replacing(workdir.sent(part)) as file:
        for line in lines:
            line = rename(line, deployment)
            file.write(line)
            digest.update(line)
            size += len(line)
    return replace(part, sent_sha256=digest.hexdigest(), sent_bytes=size)


def copy(workdir: Workdir, part: Part, rename: Rename) -> Path:
    """The copy that the ledger speaks of, made again where it is gone."""
    path = workdir.sent(part)
    if not path.is_file() or path.stat().st_size != part.sent_bytes or sha256(path) != part.sent_sha256:
        made = renamed(workdir, part, part.deployment or "", rename)
        if made.sent_sha256 != part.sent_sha256:
            raise LocalError(f"{path} cannot be made again as it was", hint="submit the rows under another --name")
    return path


def cut(workdir: Workdir, part: Part, count: int, first_number: int) -> list[Part]:
    """The part as `count` smaller ones of about the same size, their files durable. The part's own file stays."""
    source, pieces = workdir.lines(part), list[Part]()
    with local_errors(source), source.open("rb", buffering=PIECE) as lines:
        line, left = lines.readline(), part.lines
        for index in range(count):
            number, digest, size, rows = first_number + index, hashlib.sha256(), 0, 0
            piece = replace(
                part,
                id=secrets.token_hex(8),
                number=number,
                state=State.STAGED,
                file_id=None,
                intent=None,
                intent_at=None,
                sent_sha256=None,
                sent_bytes=None,
                held=None,
                next_try_at=None,
                tries=0,
                batches=(),
            )
            most, rest = part.bytes * (index + 1) // count, count - index - 1
            with replacing(workdir.lines(piece)) as file:
                while line and (not rows or (lines.tell() <= most and left > rest) or not rest):
                    file.write(line)
                    digest.update(line)
                    size, rows, left = size + len(line), rows + 1, left - 1
                    line = lines.readline()
            pieces.append(replace(piece, lines=rows, bytes=size, sha256=digest.hexdigest()))
    return pieces
