"""Who may act on a job: the owner written into a lease, its terms, and whether an owner is still alive."""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from batchkit.disk import alive
from batchkit.errors import LedgerRefused
from batchkit.text import duration

MOST_APART_S = 60.0
"""How far the clock of a machine may be from that of the database by which hosts share a ledger: what was begun on one
host is waited for, by its own clock, on any other."""
_NO_BOOT = "-"
"""Stands for the boot where the system does not tell one from another."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A lease's numbers, in seconds of the wall's (or the database's) clock.

    It lasts `ttl_s`, is renewed every `renew_s`, or `retry_s` after a renewal failed, and is taken by another host
    `takeover_s` after it expired: what its holder had under way has then arrived or never will.
    """

    ttl_s: float = 120.0
    renew_s: float = 30.0
    retry_s: float = 5.0
    takeover_s: float = 180.0


def new_owner() -> str:
    """This process under a name no other process has: host, boot, pid, start of the process, and a random word."""
    pid = os.getpid()
    return "/".join((_host(), _boot(), str(pid), _started(pid) or "?", secrets.token_hex(4)))


def takeable(owner: str, expires_at: float, now: float, terms: Terms = Terms(), *, shared: bool) -> bool:
    """Whether another owner's lease may be taken.

    On this host only from a process that is gone, however stale the lease: a sleeping laptop is not a dead one. From
    other hosts only a while after it expired. Two hosts may have one name: where the ledger is `shared` by hosts, only
    the same boot is this one; where it is not, another boot is one that has ended. Pure but for the look at this host's
    processes.
    """
    host, boot, pid, started, _ = owner.split("/")
    if host != _host() or (shared and (boot != _boot() or boot == _NO_BOOT)):
        return now > expires_at + terms.takeover_s
    if boot != _boot():
        return True
    if started == "?":
        return not alive(int(pid)) or now > expires_at
    return _started(int(pid)) != started


def check_clock(now: float) -> None:
    """Raise LedgerRefused where this machine's clock is far from the ledger's `now`: what one host waits for, another
    would take for over."""
    ahead_s = time.time() - now
    if abs(ahead_s) > MOST_APART_S:
        words = (
            f"this machine's clock is {duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} the ledger's"
        )
        raise LedgerRefused(words, hint="set the clock that is wrong, as NTP does; nothing was done")


def same_process(owner: str, other: str) -> bool:
    """Whether two owners are one process."""
    return owner.rpartition("/")[0] == other.rpartition("/")[0]


def describe(owner: str) -> str:
    """The owner for a person: `process 123 on myhost`."""
    host, _, pid, *_ = owner.split("/")
    return f"process {pid} on {host.partition('#')[0]}"


def elapsed() -> float:
    """Seconds since some fixed moment, those of a suspended machine included where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _host() -> str:
    """This host; a container, whose processes cannot be seen from elsewhere, is one of its own."""
    try:
        return f"{socket.gethostname()}#{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return _NO_BOOT


def _started(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None when there is no such process, or no /proc to ask."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie does nothing any more
    except (OSError, IndexError):
        return None
