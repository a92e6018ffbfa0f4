"""Durable files. Nothing appears under its final name before it is whole and on the disk:
temporary name → write → fsync → rename → fsync of the directory. The only module that writes files.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import AsyncIterable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from batchkit.errors import DiskFull, InputError, LocalError, UsageError
from batchkit.model import Part
from batchkit.text import plural

PIECE = 1 << 20
"""Bytes per read or write. Small pieces are what makes transfers slow, not Python."""

PRIVATE = 0o600
ORPHAN_S = 86_400.0
_JOB = re.compile(r"[0-9a-f]{12}")
RACY_S = 2.0
"""A file this young may be written to again without its time showing it."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Workdir:
    """Where a ledger's working files live: `<root>/<job>/<round>-<part>.{lines,output,error}.jsonl`, all private.

    Names are made from our own ids only; nothing the service says becomes part of a path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def job(self, job_id: str) -> Path:
        return self.root / job_id

    def lines(self, part: Part) -> Path:
        return self._file(part, "lines")

    def output(self, part: Part) -> Path:
        return self._file(part, "output")

    def error(self, part: Part) -> Path:
        return self._file(part, "error")

    def sent(self, part: Part) -> Path:
        """The copy of a part's lines that names another deployment."""
        return self._file(part, "sent")

    def forget(self, part: Part) -> None:
        """Remove the lines of a part that is no more."""
        for path in (self.lines(part), self.sent(part)):
            path.unlink(missing_ok=True)

    def inexact(self, path: Path) -> Path:
        """The mark beside a result file that holds more or other than exact JSON."""
        return path.with_suffix(".inexact")

    def coming(self, path: Path, file_id: str) -> Path:
        """Where the file of this id is received before it is known to be whole and gets its place at `path`."""
        return path.with_name(f".{path.name}.{hashlib.sha256(file_id.encode()).hexdigest()[:12]}.coming")

    def _file(self, part: Part, what: str) -> Path:
        return self.job(part.job_id) / lines_name(part.round, part.number).replace("lines", what)

    def staging(self) -> Path:
        """A fresh private directory to stage a job in, before it has its place."""
        path = self.root / f"{_staging()}-{os.getpid()}-{secrets.token_hex(4)}"
        private_directory(path)
        return path

    def adopt(self, staged: Path, job_id: str, round_number: int = 0) -> None:
        """Give a staged directory its place as `job_id`'s; durable when this returns."""
        home = self.job(job_id)
        with local_errors(home):
            if round_number == 0 and not home.exists():
                os.rename(staged, home)
            else:  # some of it may have been had back from the service
                for file in sorted(staged.iterdir()):
                    os.rename(file, home / file.name)
                staged.rmdir()
            _sync_directory(home)
            _sync_directory(self.root)

    def sweep(self) -> None:
        """Remove staging directories of this host's processes that are gone."""
        if not self.root.is_dir():
            return
        for path in self.root.iterdir():
            host, _, rest = path.name.rpartition("-")[0].rpartition("-")
            if host == _staging() and rest.isdigit() and not alive(int(rest)):
                discard(path)

    def orphans(self) -> list[str]:
        """Directories with nothing but request lines, a day old or more: what a death between staging a job and writing
        it down leaves behind. Which of them the ledger knows is for the ledger to say."""
        if not self.root.is_dir():
            return []
        old = [path for path in self.root.iterdir() if path.is_dir() and time.time() - path.stat().st_mtime > ORPHAN_S]
        return [
            path.name
            for path in old
            if _JOB.fullmatch(path.name) and all(file.name.endswith(".lines.jsonl") for file in path.iterdir())
        ]


def _staging() -> str:
    return f".staging-{socket.gethostname()}"


def place(source: Path, target: Path) -> None:
    """Give a durable file its place; the rename is durable when this returns."""
    with local_errors(target):
        os.rename(source, target)
        _sync_directory(target.parent)


def lines_name(round_number: int, part_number: int) -> str:
    """The file name of a part's request lines in its job's directory."""
    return f"{round_number}-{part_number:03d}.lines.jsonl"


def discard(directory: Path) -> None:
    """Remove a directory of ours and all that is in it, if it is there."""
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def local_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into sentences about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"the disk is full: {path} could not be written") from None
        reason = (error.strerror or str(error)).lower()
        raise LocalError(f"{path}: {reason}", hint=_local_hint(error)) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """As `local_errors`, for a file that the user named: one that is not there is wrong input."""
    try:
        with local_errors(path):
            if path.is_dir():
                raise InputError(f"{path} is a directory", hint="name a file")
            if path.exists() and not path.is_file():
                raise InputError(f"{path} is not a plain file", hint="save it to a file first: it is read twice")
            yield
    except LocalError:
        if path.exists():
            raise
        raise InputError(f"{path}: no such file", hint="check the path") from None


def _local_hint(error: OSError) -> str | None:
    if error.errno == errno.ENOENT:
        return "the directory must exist"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a place you may write to (-o for results, --ledger for batchkit's own files)"
    return None


def private_directory(path: Path) -> None:
    """Make `path` and its parents, durably; what is made is readable by its owner only."""
    with local_errors(path):
        for directory in reversed([path, *path.parents]):
            if not directory.exists():
                directory.mkdir(mode=0o700, exist_ok=True)
                _sync_directory(directory.parent)


def make_private(path: Path, others: int = 0o077) -> bool:
    """Take the rights in `others` away from what is there and ours; whether anything had to be taken."""
    with local_errors(path):
        try:
            seen = path.stat()
        except FileNotFoundError:
            return False
        if seen.st_uid != os.getuid() or not seen.st_mode & others:
            return False
        path.chmod(stat.S_IMODE(seen.st_mode) & ~others)
    return True


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE, replaceable: Collection[str] | None = None) -> Iterator[BinaryIO]:
    """Write `path` as a whole: the file appears, complete and durable, when the block ends without an exception.

    `replaceable` are the SHA-256 hashes of contents that may be written over; None allows any. The same bytes again are
    always fine.
    """
    named, path = path, path.resolve()
    temporary = _temporary(path)
    with local_errors(path):
        if path.exists() and not path.is_file():
            raise LocalError(f"{path} is not a plain file", hint="choose another -o, or leave -o away")
        try:
            descriptor = os.open(temporary, _CREATE, mode)
            with open(descriptor, "wb", buffering=PIECE) as file:
                yield file
                file.flush()
                _sync(file.fileno())
            if replaceable is not None and path.exists():
                before = sha256(path)
                if before not in replaceable and before != sha256(temporary):
                    raise already_there(named)
            os.rename(temporary, path)
            _sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def already_there(path: Path) -> UsageError:
    """The refusal to replace a file nobody said may be replaced. What is in it is nobody's to repeat."""
    seen = path.stat()
    since = datetime.fromtimestamp(seen.st_mtime).astimezone().strftime("%Y-%m-%d %H:%M")
    words = f"{path} is there already and holds something else ({plural(seen.st_size, 'byte')}, of {since})"
    return UsageError(words, hint="choose another -o, or add --overwrite to replace it")


def sha256(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path, *, ours: bool = False) -> str | None:
    """What tells an untouched file without reading it: size, time and inode. None for one that is not there, or that
    was changed a moment ago, by others than us (`ours`), and may change again unseen."""
    try:
        seen = path.stat()
    except OSError:
        return None
    if not ours and time.time() - seen.st_mtime < RACY_S:
        return None
    return f"{path.resolve()} {seen.st_size} {seen.st_mtime_ns} {seen.st_ino}"


def check_writable(path: Path) -> None:
    """Raise LocalError where `path` could not be written, before hours are spent on what belongs there."""
    path = path.resolve()
    with local_errors(path):
        if path.exists() and not path.is_file():
            raise LocalError(f"{path} is not a plain file", hint="choose another -o, or leave -o away")
        temporary = _temporary(path)
        os.close(os.open(temporary, _CREATE, PRIVATE))
        temporary.unlink()


def lately(path: Path, seconds: float) -> bool:
    """Whether this was asked of `path`, a mark, within so many seconds with the answer no. One that cannot be written
    never was."""
    try:
        if 0 <= time.time() - path.stat().st_mtime < seconds:
            return True
    except OSError:
        pass
    with suppress(OSError):
        path.touch(PRIVATE)
    return False


def length(path: Path) -> int:
    """The bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def blocks(file: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of a file, as many at once as stay in a processor's cache."""
    while lines := file.readlines(PIECE // 4):
        yield lines


async def receive(path: Path, chunks: AsyncIterable[bytes], *, behind: int = 0) -> None:
    """Stream `chunks` to the private file `path`, behind its first `behind` bytes.

    They are durable when this returns, and what came is kept when it fails: `path` is not to be the file's final name.
    """
    buffer = bytearray()
    with local_errors(path):
        descriptor = os.open(path, _UPDATE, PRIVATE)
        try:
            os.ftruncate(descriptor, behind)
            os.lseek(descriptor, behind, os.SEEK_SET)
            try:
                async for chunk in chunks:
                    buffer += chunk
                    if len(buffer) >= PIECE:
                        await asyncio.to_thread(_write, descriptor, buffer)
            finally:
                _write(descriptor, buffer)
            await asyncio.to_thread(_sync, descriptor)
        finally:
            os.close(descriptor)


def _write(descriptor: int, buffer: bytearray) -> None:
    """Write all of a buffer and empty it."""
    written = 0
    with memoryview(buffer) as view:
        while written < len(view):
            written += os.write(descriptor, view[written:])
    buffer.clear()


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_UPDATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other process has. What dead processes of this host left of `path` is removed."""
    mine = f".{path.name}.{socket.gethostname()}-"
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(mine) and entry.name.endswith(".part"):
                pid = entry.name.removeprefix(mine).partition("-")[0]
                if pid.isdigit() and not alive(int(pid)):
                    Path(entry.path).unlink(missing_ok=True)
    return path.with_name(f"{mine}{os.getpid()}-{secrets.token_hex(4)}.part")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """What was written there is durable when this returns. Python tells its audit hooks of opening and renaming, not of
    this, which makes the difference when the power fails."""
    sys.audit("batchkit.fsync", descriptor)
    os.fsync(descriptor)


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
