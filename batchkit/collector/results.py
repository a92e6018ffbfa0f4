"""What a person gets in the end: results in input order, and their account."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from batchkit.collector import export
from batchkit.collector.account import Account
from batchkit.collector.merge import merge
from batchkit.disk import Workdir
from batchkit.model import Job, Report, Result


class Results:
    """A job's results: iterating reads them lazily from this machine, in input order; `report` is their account.

    `sha256` is the hash of the file they were written to, if they were.
    """

    def __init__(self, job: Job, workdir: Workdir, report: Report, sha256: str | None) -> None:
        self.job, self.report, self.sha256, self._workdir = job, report, sha256, workdir

    def __iter__(self) -> Iterator[Result]:
        return merge(self.job, self._workdir, Account(self.job.name))

    def __len__(self) -> int:
        return self.report.total


def collect(
    job: Job, workdir: Workdir, out: Path | None, encode: export.Encode, replaceable: Collection[str] | None
) -> Results:
    """Merge and account for all rows, writing them to `out` if there is one (see `export.write`)."""
    account, digest = Account(job.name), None
    results = merge(job, workdir, account)
    if out is None:
        for _ in results:
            continue
    else:
        digest = export.write(results, out, encode, replaceable)
    return Results(job, workdir, account.report(job.lines), digest)
