"""This machine: the package, the ledger, the disk, and who may read what; and what of it can be mended here."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import stat
import tomllib
from contextlib import closing
from importlib import metadata
from pathlib import Path

from batchkit.config import config_file
from batchkit.disk import Workdir, check_writable, discard, make_private
from batchkit.doctor.judge import problem
from batchkit.errors import BatchkitError, LocalError
from batchkit.ledger import Ledger
from batchkit.ledger.sqlite import SqliteStore
from batchkit.model import Finding
from batchkit.text import plural

_EXTRA = re.compile(r"([A-Za-z0-9._-]+).*;.*extra == ['\"]([a-z0-9-]+)['\"]")
_NOT_FOR_USERS = frozenset({"dev", "test"})
LITTLE, ENOUGH = 200_000_000, 2_000_000_000
"""Bytes: an input file as large as they get, and ten of them."""


def package() -> Finding:
    """Which batchkit this is, and which extras are there."""
    try:
        version, needs = metadata.version("global-batchkit"), metadata.requires("global-batchkit") or []
    except metadata.PackageNotFoundError:
        return Finding("package", "warning", "batchkit is not installed as a package", "pip install . in the checkout")
    extras: dict[str, bool] = {}
    for name, extra in (match.groups() for need in needs if (match := _EXTRA.match(need))):
        extras[extra] = extras.get(extra, True) and _installed(name)
    there = [name for name, whole in extras.items() if whole and name not in _NOT_FOR_USERS]
    away = [name for name, whole in extras.items() if not whole and name not in _NOT_FOR_USERS]
    words = f"batchkit {version}, Python {platform.python_version()}; extras: {', '.join(sorted(there)) or 'none'}"
    return Finding("package", "ok", words + (f"; without: {', '.join(sorted(away))}" if away else ""))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def ledger_file(ledger: Ledger) -> Path | None:
    """Where the ledger lies, if it is a file."""
    return ledger.store.path if isinstance(ledger.store, SqliteStore) else None


async def ledger(ledger: Ledger) -> Finding:
    """Whether the ledger can be read and is whole."""
    path = ledger_file(ledger)
    if path is not None and not path.exists():
        return Finding("ledger", "ok", f"none yet; the first job makes {path}")
    try:
        jobs = await ledger.jobs()
        words = f"{ledger.store.name}: {plural(len(jobs), 'job')}"
        if path is None:
            return Finding("ledger", "ok", words)
        flaws = await ledger.store.run(lambda tx: tx.rows("PRAGMA quick_check(3)"))
        version = await ledger.store.run(lambda tx: tx.rows("PRAGMA user_version"))
    except BatchkitError as error:
        return problem("ledger", error)
    flaw = flaws[0]["quick_check"] if flaws else "ok"
    if flaw != "ok":
        words = f"{path} is damaged: {flaw}"
        return Finding("ledger", "problem", words, "keep the file, and restore it from a backup", 12)
    size = sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists())
    return Finding("ledger", "ok", f"{words}, {size:,} bytes, format {version[0]['user_version']}, whole")


def directory(workdir: Workdir, ledger: Ledger) -> list[Finding]:
    """Whether working files can be written, by us alone, and whether there is room for them."""
    place = (ledger_file(ledger) or workdir.root).parent
    there = next(path for path in (place, *place.parents) if path.exists())
    findings = []
    try:
        if not there.is_dir():
            raise LocalError(
                f"{there} is not a directory", hint="use --ledger (or BATCHKIT_LEDGER) to keep it elsewhere"
            )
        check_writable(there / "doctor")
    except BatchkitError as error:
        hint = error.hint if "--ledger" in error.hint else "use --ledger (or BATCHKIT_LEDGER) to keep it elsewhere"
        return [Finding("directory", "problem", f"working files cannot be written: {error}", hint, error.exit)]
    for path, wanted in ((workdir.root, 0o700), (ledger_file(ledger), 0o600)):
        if path is not None and path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            words = f"{path} can be read by others (mode {mode:04o}), and prompts lie there"
            findings.append(
                Finding("directory", "warning", words, f"batchkit doctor --fix, or chmod {wanted:o} {path}")
            )
    if not findings:
        findings.append(Finding("directory", "ok", f"{place} can be written, and what is in it read by you alone"))
    return [*findings, _room(there)]


def _room(there: Path) -> Finding:
    free = shutil.disk_usage(there).free
    words = f"{free / 1e9:,.1f} GB free at {there}"
    if free < ENOUGH:
        hint = "free some space: request lines and answers lie there until they are collected"
        return Finding("disk", "problem" if free < LITTLE else "warning", words, hint, 12 if free < LITTLE else 0)
    return Finding("disk", "ok", words)


def settings(config: Path | None) -> list[Finding]:
    """Whether others may change where requests go, or read a key."""
    path = _config(config)
    findings = []
    if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o022:
        words = f"{path} can be changed by others (mode {mode:04o}), and it says where your key goes"
        findings.append(Finding("settings", "warning", words, f"batchkit doctor --fix, or chmod go-w {path}"))
    return findings


async def leftovers(workdir: Workdir, ledger: Ledger) -> list[str]:
    """Working directories that no job of the ledger knows, a day old or more."""
    path = ledger_file(ledger)
    if path is not None and not path.exists():
        return []
    try:
        return await ledger.unknown(workdir.orphans())
    except (BatchkitError, OSError):
        return []  # what keeps them from being read is said elsewhere


async def mend(workdir: Workdir, ledger: Ledger, config: Path | None) -> list[Finding]:
    """Mend what is local and safe: who may read what, what dead processes left, and the ledger's file."""
    path = ledger_file(ledger)
    done: list[str] = []
    private = [workdir.root, *(file for file in (path, *_key_files(_config(config))) if file)]
    done += [f"{item} can be read by you alone now" for item in private if make_private(item)]
    if make_private(_config(config), 0o022):
        done.append(f"{_config(config)} can be changed by you alone now")
    workdir.sweep()
    orphans = await leftovers(workdir, ledger)
    for job_id in orphans:
        discard(workdir.job(job_id))
    if orphans:
        done.append(f"{plural(len(orphans), 'working directory').replace('ys', 'ies')} that no job knows removed")
    if path is not None and path.exists():
        done.append(_compact(path))
    return [Finding("fix", "ok", words) for words in done]


def _compact(path: Path) -> str:
    """Write the ledger's log into its file and give unused pages back."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=1.0)) as connection:
            before = path.stat().st_size + (Path(f"{path}-wal").stat().st_size if Path(f"{path}-wal").exists() else 0)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.DatabaseError as error:
        return f"{path} was left as it is ({error})"
    return f"{path} compacted, from {before:,} to {path.stat().st_size:,} bytes"


def _config(config: Path | None) -> Path:
    named = os.environ.get("BATCHKIT_CONFIG")
    return config or (Path(named) if named else config_file())


def _key_files(config: Path) -> list[Path]:
    """The key files that the targets file names; none where it cannot be read, which is said elsewhere."""
    try:
        tables = tomllib.loads(config.read_text("utf-8")).get("targets", {})
    except (OSError, ValueError):
        return []
    named = [table.get("key_file") for table in tables.values() if isinstance(table, dict)]
    return [Path(name).expanduser() for name in named if isinstance(name, str)]
