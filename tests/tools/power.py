"""A disk that loses what was not made durable when the power fails: contents without fsync, names without that of their
directory. The ledger is spared: SQLite does its own, and proves it."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .doors import OURS, Doors

SECTOR = 512
Tree = dict[int, dict[str, int]]
"""The names in each directory, all by their inodes."""


@dataclass
class Power(Doors):
    """Doors of a bench at `home` that note what is durable."""

    home: Path = field(kw_only=True)
    _names: Tree = field(default_factory=dict)
    _bytes: dict[int, bytes] = field(default_factory=dict)
    _kept: list[int] = field(default_factory=list)

    def synced(self, descriptor: int) -> None:
        """A point to fail at, and from then on durable."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not str(path).startswith(str(self.home)):
            return
        self.knock(f"fsync {path.name}")
        inode = os.fstat(descriptor).st_ino
        self._kept.append(os.dup(descriptor))  # so that no other file gets its number
        if path.is_dir():
            self._names[inode] = {name.name: name.stat().st_ino for name in self._inside(path)}
        else:
            self._bytes[inode] = path.read_bytes()

    def remember(self) -> None:
        """All that is there when a life begins is durable."""
        self._look(self.home, self._names, self._bytes)

    def fail(self, dice: random.Random | None = None) -> None:
        """The power fails. Without `dice` all that was not durable is lost, with them any of it, files torn."""
        names: Tree = {}
        contents: dict[int, bytes] = {}
        self._look(self.home, names, contents)
        after = self.home.with_name(f"{self.home.name}-after")
        after.mkdir()
        self._restore(self.home.stat().st_ino, after, names, contents, dice)
        for path in self._inside(self.home):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in list(after.iterdir()):
            path.rename(self.home / path.name)
        after.rmdir()
        for descriptor in self._kept:
            os.close(descriptor)

    def _inside(self, folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if folder != self.home or path.name.startswith(OURS)]

    def _look(self, folder: Path, names: Tree, contents: dict[int, bytes]) -> None:
        here = names[folder.stat().st_ino] = {}
        for path in self._inside(folder):
            inode = here[path.name] = path.stat().st_ino
            if path.is_dir():
                self._look(path, names, contents)
            else:
                contents[inode] = path.read_bytes()

    def _restore(
        self, folder: int, at: Path, names: Tree, contents: dict[int, bytes], dice: random.Random | None
    ) -> None:
        now, durable = names.get(folder, {}), self._names.get(folder, {})
        for name in sorted({*now, *durable}):
            versions = [durable.get(name), now.get(name)]
            inode = dice.choice(versions) if dice else versions[0]
            if inode is None:
                continue
            if inode in names or inode in self._names:
                (at / name).mkdir(mode=0o700)
                self._restore(inode, at / name, names, contents, dice)
            else:
                whole = contents.get(inode, b"")
                torn = whole[: SECTOR * dice.randint(0, len(whole) // SECTOR)] if dice else b""
                kept = self._bytes.get(inode, b"")
                (at / name).touch(0o600)
                (at / name).write_bytes(dice.choice([kept, torn, whole]) if dice and whole != kept else kept)
