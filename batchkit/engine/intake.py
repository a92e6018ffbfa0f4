"""Where lines become a job: judged, cut into parts, durable on this disk, and then in the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any

from batchkit.builder import split
from batchkit.builder.check import check
from batchkit.builder.deployments import elsewhere
from batchkit.builder.difference import difference
from batchkit.builder.lines import REQUESTS, encode, judged
from batchkit.builder.rows import is_frame
from batchkit.clock import Clock
from batchkit.collector.account import retryable, words_of
from batchkit.collector.merge import account_of, changed, leftovers
from batchkit.config import Limits, Target
from batchkit.disk import Workdir, already_there, discard, lines_name, place, private_directory, replacing
from batchkit.engine.pump import holding
from batchkit.errors import CancelWished, InputError, LedgerBusy
from batchkit.given import expect, job_name, warn
from batchkit.ledger import Hold, Ledger, deeds
from batchkit.ledger.store import check_same, conflict
from batchkit.model import Job, Line, Part, Result, State, moving
from batchkit.text import duration, plural, slug

_log = logging.getLogger(__name__)

Source = str | os.PathLike[str] | Iterable[Line | Mapping[str, Any]]
"""What can be submitted: a path to a JSONL file of request lines, or the lines themselves."""
Judge = Callable[[Job, Sequence[Path]], None]
"""Raises for what cannot be done with a job's lines, whose files it gets."""


@dataclass(frozen=True)
class Intake:
    """Takes lines in for one ledger. Part files are durable before the ledger speaks of them. Whoever is `strict` is
    refused what others are warned of."""

    ledger: Ledger
    workdir: Workdir
    clock: Clock
    strict: bool = False

    async def job(
        self,
        source: Source,
        target: Target,
        *,
        name: str | None,
        stem: str | None,
        new_file: Path | None = None,
        judge: Judge | None = None,
    ) -> Job:
        """The job that these lines are: found by name and content, or new. A new job must not write over `new_file`.

        `judge` has its say before a new job is kept.
        """
        if isinstance(source, (str, os.PathLike)):
            stem = stem or Path(source).stem
        else:
            kind = () if isinstance(source, (Mapping, bytes)) or is_frame(source) else Iterable
            expect("source", source, kind, "request lines, or the path of a file of them", hint=REQUESTS)
        name = job_name(name)
        async with self._staging() as directory:
            staged = await asyncio.to_thread(_stage, source, directory, target.limits, self.strict)
            files = [directory / lines_name(0, piece.number) for piece in staged.slices]
            job = Job(
                id=secrets.token_hex(6),
                name=name or f"{slug(stem or 'job')}-{staged.sha256[:8]}",
                sha256=staged.sha256,
                service=target.service,
                target=target.name,
                url=staged.url,
                deployment=staged.deployment,
                created_at=self.clock.now(),
            )
            job = replace(job, parts=_parts(job, staged, 0, target))
            if (found := await self.ledger.find(job.name)) is not None:
                job = await self._same(found, job, files, target)
            elif new_file is not None and await asyncio.to_thread(new_file.exists):
                raise already_there(new_file)
            if judge is not None:
                await asyncio.to_thread(judge, job, files)
            if found is None:
                return await self._add(job, target, directory)
            await asyncio.to_thread(_supply, job, files, self.workdir)
            settled = "all its results are here" if job.collected else "going on where it stood"
            _log.info("job %r is known: %s, nothing is submitted twice", job.name, settled)
            return job

    async def _same(self, found: Job, job: Job, files: Sequence[Path], target: Target) -> Job:
        """The job of that name, if it is this one. It may change its target: the first endpoint was perhaps a slip, or
        a pool got a new member."""
        reach = _reach(target)
        follows = moving.sent(found) <= reach or moving.is_edited(found, target.name, reach)
        if found.service != job.service and follows:
            found = await self.rehome(found, target)
        if found.sha256 != job.sha256:
            raise conflict(found, job, await asyncio.to_thread(_difference, self.files(found), files))
        check_same(found, job)
        return found

    async def _add(self, job: Job, target: Target, directory: Path) -> Job:
        """A new job, whose lines are in `directory`; the other one where another process was faster with the same."""
        if target.pool and (instead := elsewhere(job.deployment, target)):
            requests = f"all {plural(job.lines, 'request')} of job {job.name!r}"
            words = f"{requests} name the deployment {job.deployment!r}: {instead}"
            warn(_log, words, "is that meant?", strict=self.strict)
        await self._warn_of_likes(job)
        self.workdir.adopt(directory, job.id)
        added = await self.ledger.add(job)
        if added.id != job.id:
            discard(self.workdir.job(job.id))
        return added

    async def _warn_of_likes(self, job: Job) -> None:
        """Say so where another job asks the same: it is what makes people pay twice, and may be meant all the same."""
        like = next(
            (other for other in await self.ledger.alike(job.sha256) if other.name != job.name and _worth(other)), None
        )
        if like is not None:
            name, age = quote(like.name), duration(self.clock.now() - like.created_at)
            takes = f"batchkit fetch {name} -o results.csv takes its answers"
            takes = takes if like.collected else f"batchkit track {name} follows it, and then {takes}"
            words = f"job {job.name!r} asks the very same as job {like.name!r} of {age} ago, and is billed again"
            warn(_log, words, f"{takes} instead", strict=self.strict)

    async def round(
        self,
        job: Job,
        target: Target,
        *,
        only: Collection[str] = (),
        params: Mapping[str, Any] = MappingProxyType({}),
        hold: Hold,
        short: Collection[str] | None = None,
    ) -> int:
        """A further round of a finished job, of the rows worth asking again; how many. `params` go into every body.
        `hold` is the job's lease. One that nobody wished for names the batches that came `short`: it leaves away what
        did not come of them, since that may be paid for, and is given up where the job was cancelled meanwhile: 0.

        Raises InputError when there is no such row, CancelWished where a round that was wished for is cancelled
        meanwhile.
        """
        number = job.round + 1
        if "model" in params:
            hint = "submit the rows as another job, whose lines name another deployment"
            raise InputError(f"a retry goes to the job's deployment, {job.deployment}, whatever params say", hint=hint)
        async with AsyncExitStack() as stack:
            directory = await stack.enter_async_context(self._staging())
            wanted = _Wanted(job, only, short or (), structured=account_of(job, self.workdir).structured)
            rows = stack.enter_context(closing(leftovers(job, self.workdir, wanted)))
            lines = judged((changed(line, params) for line in rows), strict=self.strict) if params else rows
            first = await asyncio.to_thread(next, lines, None)
            if first is None and short is not None:
                return 0
            if first is None:
                raise wanted.nothing()
            lines = chain([first], lines)
            staged = await asyncio.to_thread(split.stage, lines, directory, target.limits, round_number=number)
            wanted.warn()
            if (await hold.job()).round != job.round:
                raise LedgerBusy(f"job {job.name!r} was retried meanwhile", hint=f"batchkit show {quote(job.name)}")
            self.workdir.adopt(directory, job.id, number)
            parts = _parts(job, staged, number, target)
            added = await hold.add_round(parts, at=self.clock.now(), cancelled_at=job.cancelled_at)
        if not added and short is None:
            raise CancelWished(
                f"job {job.name!r} was cancelled while its rows were gathered: none is asked again",
                hint=f"batchkit retry {quote(job.name)}  # asks for them all the same",
            )
        return sum(part.lines for part in parts) if added else 0

    def files(self, job: Job) -> list[Path]:
        """The files with a job's request lines; none where this machine does not have all."""
        files = [self.workdir.lines(part) for part in job.parts if part.round == 0]
        return files if all(path.exists() for path in files) else []

    async def count(self, job: Job, *, only: Collection[str]) -> int:
        """How many rows `round` would ask again. Raises InputError when there is no such row."""
        wanted = _Wanted(job, only, structured=account_of(job, self.workdir).structured)
        lines = leftovers(job, self.workdir, wanted)
        count = await asyncio.to_thread(lambda: sum(1 for _ in lines))
        if not count:
            raise wanted.nothing()
        wanted.warn()
        return count

    async def rehome(self, job: Job, target: Target, *, hold: Hold | None = None) -> Job:
        """The job at this target, which reaches all that was sent of it; what was not goes where that says. `hold` is
        its lease where somebody keeps it already."""
        async with holding(self.ledger, job, hold) as hold:
            found = await hold.job()  # whoever held it before may have sent parts
            there = (found.target, found.service) == (target.name, target.service)
            if there or not moving.awaited(found) <= _reach(target):
                return found
            asked = replace(found, service=target.service, target=target.name)
            fresh = [
                replace(part, **_place(asked, target))
                for part in found.parts
                if not (part.collected or (part.intent and part.service))
            ]
            return await deeds.rehome(hold, asked, fresh, at=self.clock.now())

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[Path]:
        self.workdir.sweep()
        for job_id in await self.ledger.unknown(self.workdir.orphans()):
            discard(self.workdir.job(job_id))
        directory = self.workdir.staging()
        try:
            yield directory
        finally:
            discard(directory)


class _Wanted:
    """Which rows to ask again, and which of the words for them were those of a row."""

    def __init__(self, job: Job, only: Collection[str], short: Collection[str] = (), *, structured: bool) -> None:
        """`short` are batches that yet have to hand out what they finished; `structured` answers were to be JSON."""
        self._job, self._only, self._short, self._met = job, only, short, set[str | None]()
        self._structured = structured

    def __call__(self, result: Result) -> bool:
        awaited = any(not one.came and one.batch_id in self._short for one in (result, *result.other_rounds))
        wanted = retryable(result, self._only, structured=self._structured) and not awaited
        if wanted and self._only:
            self._met |= words_of(result, structured=self._structured)
        return wanted

    def nothing(self) -> InputError:
        """That there is no such row."""
        words = f"no row of job {self._job.name!r} failed for a reason that may pass"
        hint = f"batchkit fetch {quote(self._job.name)} -o results.csv  # error_code names the codes for --only"
        return InputError(words if not self._only else f"no row failed with {', '.join(self._only)}", hint=hint)

    def warn(self) -> None:
        """Tell of words that no row has: a slip in one would else go unseen beside the others."""
        if none := [word for word in self._only if word not in self._met]:
            _log.warning("no row failed with %s", ", ".join(none))


def _stage(source: Source, directory: Path, limits: Limits, strict: bool) -> split.Staged:
    """Lines, judged, as part files."""
    if not isinstance(source, (str, os.PathLike)):
        return split.stage(encode(source, strict=strict), directory, limits)
    report = check(Path(source), limits=None)
    if wrong := report.total if strict else report.errors:
        first = next(problem for problem in report.problems if strict or problem.severity == "error")
        place = f", line {first.line}, byte {first.byte}" if first.line else ""
        more = f" (and {wrong - 1} more)" if wrong > 1 else ""
        raise InputError(
            f"{report.path}{place}: {first.message}{more}",
            hint=f"batchkit check {quote(report.path)}  # {first.fix}",
            problems=report.problems,
        )
    return split.stage(split.file_lines(Path(source)), directory, limits)


def _supply(found: Job, staged: Sequence[Path], workdir: Workdir) -> None:
    """Lines that this machine lacks, as when the job was taken in on another: the same content is `staged` again, and
    cut as the job is, which other limits or a smaller quota may have cut otherwise."""
    parts = [part for part in found.parts if part.round == 0]
    if all(workdir.lines(part).exists() for part in parts):
        return
    private_directory(workdir.job(found.id))
    copy = staged[0].with_name("copy")
    with closing(_lines(staged)) as lines:
        for part in parts:
            own, digest = islice(lines, part.lines), hashlib.sha256()
            if workdir.lines(part).exists():
                deque(own, maxlen=0)
                continue
            with replacing(copy) as file:
                for line in own:
                    file.write(line)
                    digest.update(line)
            if digest.hexdigest() == part.sha256:
                place(copy, workdir.lines(part))


def _difference(before: Sequence[Path], after: Sequence[Path]) -> str | None:
    """Where the lines of files differ."""
    with closing(_lines(before)) as was, closing(_lines(after)) as now:
        return difference(was, now)


def _lines(paths: Sequence[Path]) -> Generator[bytes, None, None]:
    for path in paths:
        with path.open("rb") as file:
            yield from file


def _worth(job: Job) -> bool:
    """Whether a job has answers, or may get some."""
    if job.outcome is not None:
        return job.outcome.ok > 0
    return job.cancelled_at is None or any(part.batches for part in job.parts)


def _reach(target: Target) -> set[str]:
    return {member.service for member in target.members}


def _place(job: Job, target: Target) -> dict[str, Any]:
    """Where a part goes that was not sent yet: anywhere in a pool, else to the one target there is."""
    if target.pool:
        return {"target": None, "service": None, "deployment": None}
    return {"target": target.name, "service": target.service, "deployment": job.deployment}


def _parts(job: Job, staged: split.Staged, number: int, target: Target) -> tuple[Part, ...]:
    return tuple(
        Part(
            id=secrets.token_hex(8),
            job_id=job.id,
            round=number,
            number=piece.number,
            place=float(piece.number),
            state=State.STAGED,
            lines=piece.lines,
            bytes=piece.bytes,
            sha256=piece.sha256,
            **_place(job, target),
        )
        for piece in staged.slices
    )
