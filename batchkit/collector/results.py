"""What a person gets in the end: results in input order, and their account."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from batchkit.collector.account import Account
from batchkit.collector.columns import Table, refuse_several
from batchkit.collector.export import Shape, lines, write
from batchkit.collector.lines import names_of, text
from batchkit.collector.merge import Row, account_of, first_line, merge
from batchkit.collector.statistics import Statistics
from batchkit.collector.unusable import in_words
from batchkit.collector.verdict import verdict
from batchkit.config.prices import Prices
from batchkit.disk import PIECE, Workdir, blocks, local_errors
from batchkit.errors import MissingExtra
from batchkit.model import Job, Result


class Results:
    """A job's results: iterating reads them lazily from this machine, in input order; `report` is their account.

    `sha256` is the hash of the file they were written to, if they were. `news` is whether this call changed anything:
    it ended the job, or wrote a file that was not there as it is.

    A table of them has the columns of a CSV, joined rows and `columns` as they were asked for: `results.to_pandas()`,
    or whatever takes the Arrow stream interface, such as `polars.DataFrame(results)` or `pyarrow.table(results)`. One
    by one they are `Result`s, whose `row` is the joined row. Reading raises LocalError where files are gone from this
    machine, and InputError where the joined rows are not the job's.

    Rows that failed are results too: `raise_for_failures()` makes an exception of them, and where no row is good a
    warning is logged.
    """

    def __init__(
        self, job: Job, workdir: Workdir, account: Account, shape: Shape = Shape(), sha256: str | None = None
    ) -> None:
        self.job, self.report, self.sha256, self.news = job, account.report(job), sha256, False
        self.hopeless, self.short = account.hopeless(), frozenset(account.short)
        self._workdir, self._shape = workdir, shape

    def __iter__(self) -> Iterator[Result]:
        with closing(merge(self.job, self._workdir, Account(self.job.name))) as rows:
            if self._shape.rows is None:
                yield from (row.result for row in rows)
            else:
                yield from (replace(row.result, row=joined) for joined, row in self._shape.pairs(rows))

    def __len__(self) -> int:
        return self.report.total

    def __repr__(self) -> str:
        found = self.report
        doubtful = f" ({in_words(found.unusable)})" if found.unusable else ""
        pending = f" + {found.pending} pending" if found.pending else ""
        account = f"{found.total} = {found.ok} ok{doubtful} + {found.failed} failed + {found.missing} missing{pending}"
        return f"<Results of {found.job!r}: rows: {account}; .to_pandas() makes a table>"

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The results as an Arrow stream, read as they are asked for. Needs the extra `parquet`."""
        return self._batches().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> Any:
        """All results as a `pyarrow.Table`, with the columns of a CSV, typed. Raises MissingExtra without the extra
        `parquet`, and ResultError for embeddings that fit in no column."""
        return self._batches().read_all()

    def to_pandas(self) -> Any:
        """All results as a `pandas.DataFrame`, as `to_arrow`. Its index counts from 0, whatever that of a joined frame:
        take this table, which has the joined columns, rather than to set a column of it into the frame. Raises
        MissingExtra also where pandas is not installed."""
        if find_spec("pandas") is None:
            raise MissingExtra("pandas is not installed", hint="pip install pandas; or polars.DataFrame(results)")
        return self.to_arrow().to_pandas()

    def raise_for_failures(self) -> None:
        """Raise what is wrong with the rows: RowsFailed, BatchFailed where the service refused them all at once,
        ResultError where they do not add up, or Unfinished. Silent where every row is good."""
        if (wrong := verdict(self.job, self.report)) is not None:
            raise wrong

    def pieces(self) -> Iterator[bytes]:
        """The results as the bytes of a file."""
        return _encoded(self.job, self._workdir, Account(self.job.name), self._shape)

    def _batches(self) -> Any:
        from batchkit.collector import arrow

        rows = merge(self.job, self._workdir, Account(self.job.name))
        made = self._shape.table(self.job, first_line(self._workdir.lines(self.job.parts[0])))
        return arrow.batches(made, made.rows((joined, row.result) for joined, row in self._shape.pairs(rows)))


def collect(job: Job, workdir: Workdir, out: Path | None, shape: Shape, replaceable: Collection[str] | None) -> Results:
    """Merge and account for all rows, writing them to `out` if there is one (see `export.write`)."""
    account, digest = account_of(job, workdir), None
    if out is None:
        for _ in merge(job, workdir, account):
            continue
    else:
        with closing(_encoded(job, workdir, account, shape)) as pieces:
            digest = write(pieces, out, replaceable)
    return Results(job, workdir, account, shape, digest)


def columns(job: Job, files: Sequence[Path], shape: Shape) -> Table | None:
    """The columns that the results will have; None where they are written as they are. Raises UsageError for others.
    `files` have the job's requests."""
    return None if shape.plain else shape.table(job, first_line(files[0]))


def judge(job: Job, files: Sequence[Path], shape: Shape) -> None:
    """Raise UsageError for columns that the results will not have, or embeddings that a row has no room for, and
    InputError for rows that cannot be read or, where nothing was sent of the job yet, are not its rows. `files` have
    the job's requests."""
    made = columns(job, files, shape)
    if made is not None and made.one_vector:
        for path in files:
            with local_errors(path), path.open("rb", buffering=PIECE) as file:
                for line in file:
                    refuse_several(line)
    if not any(part.intent for part in job.parts):
        _fit(job, files, shape)


def fit(job: Job, workdir: Workdir, shape: Shape) -> None:
    """Raise InputError where the rows to be joined are not those of the job."""
    _fit(job, [workdir.lines(part) for part in job.parts if part.round == 0], shape)


def _fit(job: Job, files: Iterable[Path], shape: Shape) -> None:
    if shape.rows is not None:
        rows = (Row(Result(text(name), ok=False), b"", None) for name in _names(files))
        for _ in islice(shape.pairs(rows), job.lines):  # no step further, which would tell of rows that are left over
            pass


def survey(job: Job, workdir: Workdir, prices: Prices | None) -> dict[str, Any]:
    """The numbers of a job as they stand on this machine."""
    account, seen = account_of(job, workdir), Statistics(job)
    seen.gather(row.result for row in merge(job, workdir, account))
    return seen.document(account, prices)


def _names(files: Iterable[Path]) -> Iterator[bytes]:
    """The custom_ids in files of requests."""
    for path in files:
        with local_errors(path), path.open("rb", buffering=PIECE) as file:
            for lines in blocks(file):
                yield from (name for name in names_of(lines) if name is not None)


def _encoded(job: Job, workdir: Workdir, account: Account, shape: Shape) -> Generator[bytes, None, None]:
    if shape.plain and shape.rows is None:
        return lines(job, workdir, account, raw=shape.format == "raw")
    return shape.encode(job, first_line(workdir.lines(job.parts[0])), merge(job, workdir, account))
