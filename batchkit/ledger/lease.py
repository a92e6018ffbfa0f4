"""Who may act on a job: the owner written into a lease, and whether an owner is still alive."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from batchkit.disk import alive

TTL_S = 120.0
RENEW_S = 30.0
RETRY_S = 5.0


def new_owner() -> str:
    """This process under a name no other process has: host, boot, pid, start of the process, and a random word."""
    pid = os.getpid()
    return "/".join((socket.gethostname(), _boot(), str(pid), _started(pid) or "?", secrets.token_hex(4)))


def takeable(owner: str, expires_at: float, now: float) -> bool:
    """Whether another owner's lease may be taken.

    On this host only from a process that is gone, however stale the lease: a sleeping laptop is not a dead one. On
    other hosts only once it expired. Pure but for the look at this host's processes.
    """
    host, boot, pid, started, _ = owner.split("/")
    if host != socket.gethostname():
        return now > expires_at
    if boot != _boot():
        return True
    if started == "?":
        return not alive(int(pid)) or now > expires_at
    return _started(int(pid)) != started


def describe(owner: str) -> str:
    """The owner for a person: `process 123 on myhost`."""
    host, _, pid, *_ = owner.split("/")
    return f"process {pid} on {host}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "-"


def _started(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None when there is no such process, or no /proc to ask."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie does nothing any more
    except (OSError, IndexError):
        return None
