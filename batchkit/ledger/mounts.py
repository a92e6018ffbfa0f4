"""On what kind of disk a path lies. Deciding only, from the text of Linux's mount table; pure but for `check_local`."""

from __future__ import annotations

import re
from pathlib import Path

from batchkit.errors import NetworkDisk

NETWORK = frozenset(
    "9p afs beegfs ceph cifs coda davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb3 smbfs"
    " vboxsf virtiofs fuse.blobfuse fuse.blobfuse2 fuse.ceph fuse.davfs2 fuse.gcsfuse fuse.glusterfs fuse.goofys"
    " fuse.grpcfuse fuse.mountpoint-s3 fuse.rclone fuse.s3fs fuse.sshfs fuse.vmhgfs-fuse".split()
)
"""File systems that several machines may write to: SQLite's WAL needs memory that all its writers share
(https://sqlite.org/wal.html, "All processes using a database must be on the same host computer")."""
TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def filesystem(path: str, mountinfo: str) -> str:
    """The type of the file system that holds `path`, which is absolute and without links; "" where that is not said.

    `mountinfo` is a text as in proc(5): the mount point is the fifth field, the type stands behind a lone hyphen.
    """
    found, length = "", -1
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(" "), after.split(" ")
        if len(fields) < 5 or not types[0]:
            continue
        point = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4]).rstrip("/")
        if (path == point or path.startswith(point + "/")) and len(point) >= length:
            found, length = types[0], len(point)  # of several at one place the last one is seen
    return found


def check_local(path: Path, table: Path = TABLE) -> None:
    """Raise NetworkDisk where a ledger at `path` would lie on a network file system. Where there is no mount table,
    nothing is known."""
    try:
        mountinfo = table.read_text("utf-8", "surrogateescape")
    except OSError:
        return
    if (kind := filesystem(str(path.resolve()), mountinfo)) in NETWORK:
        raise NetworkDisk(f"the ledger {path} would be on a network disk ({kind}), where SQLite's WAL does not work")
