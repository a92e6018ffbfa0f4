"""`python -m tests.benchmarks`: all tables, or those that are named."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import builder, collector, startup, upload
from .harness import ROUNDS

TABLES = {
    "check": builder.table_check,
    "build": builder.table_build,
    "upload": upload.table_upload,
    "download": collector.table_download,
    "merge": collector.table_merge,
    "linear": collector.table_linear,
    "collect": collector.table_collect,
    "startup": startup.table_startup,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("tables", nargs="*", choices=[[], *TABLES], help="which; all without a name")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "batchkit-benchmarks")
    asked = parser.parse_args()
    asked.dir.mkdir(parents=True, exist_ok=True)
    names = asked.tables or list(TABLES)
    reached = [TABLES[name](asked.dir, asked.scale, asked.rounds) for name in names]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
