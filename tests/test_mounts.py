"""A ledger on a network disk is refused before anything is written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.errors import NetworkDisk
from batchkit.ledger.mounts import NETWORK, check_local, filesystem

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /proc rw,nosuid - proc proc rw
30 22 0:40 / /home rw,relatime shared:7 - nfs4 filer:/home rw,vers=4.2,addr=10.0.0.9
31 30 254:1 / /home/ada/fast rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/two\040words rw shared:9 master:2 propagate_from:3 - fuse.sshfs ada@host:/ rw,user_id=1000
33 22 0:42 / /srv rw - ext4 /dev/vdc rw
34 22 0:43 / /srv rw - cifs //server/share rw,vers=3.1.1
35 22 0:44 / /mnt/c rw - 9p C:\134 rw,dirsync
a line that is none
36 22 0:45 / /broken rw -
"""


@pytest.mark.promise("D6")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/ledger.sqlite3", "ext4"),
        ("/home", "nfs4"),
        ("/home/ada/ledger.sqlite3", "nfs4"),
        ("/home/ada/fast/ledger.sqlite3", "xfs"),
        ("/home/ada/faster/ledger.sqlite3", "nfs4"),
        ("/homes/ledger.sqlite3", "ext4"),
        ("/mnt/two words/ledger.sqlite3", "fuse.sshfs"),
        ("/srv/ledger.sqlite3", "cifs"),
        ("/mnt/c/Users/ledger.sqlite3", "9p"),
        ("/broken/ledger.sqlite3", "ext4"),
    ],
)
def test_which_file_system_holds_a_path(path: str, kind: str) -> None:
    assert filesystem(path, TABLE) == kind


@pytest.mark.promise("D6")
@pytest.mark.parametrize("kind", sorted(NETWORK))
def test_a_ledger_on_a_network_disk_is_refused_with_the_way_out(tmp_path: Path, kind: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "share")
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:40 / {tmp_path}/share rw - {kind} host:/ rw\n")
    with pytest.raises(NetworkDisk, match=rf"network disk \({kind}\), where SQLite's WAL does not work") as caught:
        check_local(tmp_path / "link" / "ledger.sqlite3", table)
    assert "BATCHKIT_LEDGER=postgresql://" in caught.value.hint
    check_local(tmp_path / "ledger.sqlite3", table)


def test_where_nothing_is_known_nothing_is_refused(tmp_path: Path) -> None:
    check_local(tmp_path / "ledger.sqlite3", tmp_path / "no-such-table")
    assert filesystem("/x", "") == ""
