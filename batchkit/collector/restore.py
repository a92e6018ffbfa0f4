"""Request lines that this machine lost, or never had: had back from the service, or made again of the rounds before.

Their hash proves them: no line but the one that was asked is joined to an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from shlex import quote

from batchkit.api.service import Service
from batchkit.collector.lines import names_of
from batchkit.disk import Workdir, blocks, local_errors, place, private_directory, replacing, sha256
from batchkit.errors import LocalError, Refused
from batchkit.ledger import Hold
from batchkit.model import Job, Part


async def lines(api: Service, hold: Hold, part: Part, workdir: Workdir) -> None:
    """Have what a part asked for on this machine.

    Raises LocalError where it cannot be had, Unavailable where the service cannot be asked now.
    """
    path = workdir.lines(part)
    if path.exists():
        return
    job = await hold.job(everywhere=True)
    await asyncio.to_thread(private_directory, workdir.job(job.id))
    coming = workdir.coming(path, part.file_id or part.id)
    if await _from_service(api, part, coming) and await asyncio.to_thread(_is_it, coming, part, path):
        return
    if await _from_before(api, workdir, part, job, coming) and await asyncio.to_thread(_is_it, coming, part, path):
        return
    raise _not_here(workdir, part, job)


def _is_it(coming: Path, part: Part, path: Path) -> bool:
    """Whether what came is what the part asked for: then it gets its place, else it goes."""
    if sha256(coming) != part.sha256:
        coming.unlink()
        return False
    place(coming, path)
    return True


async def _from_service(api: Service, part: Part, coming: Path) -> bool:
    """Whether the service has what was sent, as it was before any other deployment was named in it."""
    if part.file_id is None or part.sent_sha256 is not None:
        return False
    try:
        await api.content(part.file_id, coming, part.bytes)
    except Refused:
        return False
    return True


async def _from_before(api: Service, workdir: Workdir, part: Part, job: Job, coming: Path) -> bool:
    """Whether a later round's lines could be made of those before: its result files name the rows. Those that were
    asked with other parameters, or that did not all come back, are then not the same."""
    before = [workdir.lines(other) for other in job.parts if other.round < part.round]
    if not before or part.batch is None or not all(path.exists() for path in before):
        return False
    answered = [workdir.output(part), workdir.error(part)]
    for file_id, answers in zip((part.batch.output_file_id, part.batch.error_file_id), list(answered), strict=True):
        if file_id is not None and not answers.exists():
            answered.append(workdir.coming(answers, file_id))
            try:
                await api.content(file_id, answered[-1], None)
            except Refused:
                return False
    await asyncio.to_thread(_make_again, before, [path for path in answered if path.exists()], coming)
    return True


def _make_again(before: Sequence[Path], answered: Iterable[Path], to: Path) -> None:
    """The lines of the rows that are `answered`, as they were last asked `before`, in input order."""
    wanted: set[bytes | None] = set()
    found: dict[bytes | None, tuple[int, int, int]] = {}
    """Where each line stands: which file, from where, how many bytes."""
    with local_errors(to), ExitStack() as stack:
        for path in answered:
            with path.open("rb") as file:
                for some in blocks(file):
                    wanted.update(names_of(some))
        files = [stack.enter_context(path.open("rb")) for path in before]
        for which, file in enumerate(files):
            start = 0
            for some in blocks(file):
                for name, line in zip(names_of(some), some, strict=True):
                    if name is not None and name in wanted:
                        found[name] = which, start, len(line)
                    start += len(line)
        with replacing(to) as made:
            for which, start, length in found.values():
                files[which].seek(start)
                made.write(files[which].read(length))


def _not_here(workdir: Workdir, part: Part, job: Job) -> LocalError:
    """What to do where nobody but another machine has what a part asked for."""
    brings = f"batchkit run ROWS … --name {quote(job.name)}"
    if not part.round:
        return LocalError(
            f"the request lines of job {job.name!r} are on another machine",
            hint=f"run the command there, or with the same rows here: {brings}",
        )
    words = f"the request lines of round {part.round} of job {job.name!r} are on the machine that asked again"
    if any(not other.round and not workdir.lines(other).exists() for other in job.parts):
        return LocalError(words, hint=f"{brings}  # with the same rows, brings them")
    missing = workdir.lines(part)
    return LocalError(words, hint=f"run this there, or copy its {missing.name} to {quote(str(missing))}")
