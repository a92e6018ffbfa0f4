"""Every operation of a job's life fails, kills, or loses its answer once; each part still gets one batch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from batchkit.errors import BatchkitError
from batchkit.model import ENDED, Job

from .conftest import request_lines
from .tools.doors import Bench, Doors, Harm, Killed, Plan

CHUNKS = 12


class Forgetful(httpx.AsyncBaseTransport):
    """A service that keeps no metadata."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if "/batches" not in request.url.path or response.status_code >= 300:
            return response
        document = json.loads(await response.aread())
        for batch in document.get("data", [document]):
            batch["metadata"] = None
        return httpx.Response(response.status_code, stream=httpx.ByteStream(json.dumps(document).encode()))


def harmed(at: int, harm: Harm) -> Plan:
    """Harm to one operation."""
    return lambda number, _: harm if number == at else None


def operations(bench: Bench) -> list[str]:
    """The operations of a life without harm."""
    doors = Doors()
    bench.live(doors)
    return doors.passed


def around_creations(passed: list[str]) -> list[int]:
    """The operations where money is at stake: each creation of a batch, and what comes before and after it."""
    made = [at for at, what in enumerate(passed) if what == "POST /openai/v1/batches"]
    return sorted({at + step for at in made for step in (-1, 0, 1)})


def suffer(bench: Bench, *plans: Plan) -> None:
    """Lives with harm, each followed by a fresh one, and at last one without: then everything must be right."""
    for plan in plans:
        with suppress(Killed, BatchkitError, OSError):
            bench.live(Doors(plan))
    check(bench)


def check(bench: Bench) -> None:
    """Run to the end; one batch a part, every batch known, every row there, nothing left behind."""
    results = bench.live(Doors())
    report, job = results.report, results.job
    assert (report.total, report.ok, report.balanced) == (bench.rows, bench.rows, True)
    written = [json.loads(line)["custom_id"] for line in (bench.home / "out.jsonl").read_text().splitlines()]
    assert written == [line["custom_id"] for line in request_lines(bench.rows)]
    batches = bench.batches()
    # Not even a twin that was cancelled in time: nothing was hidden, so nothing was ever made twice.
    assert {batch["status"] for batch in batches} == {"completed"}
    assert len(batches) == len({batch["input_file_id"] for batch in batches}) == len(job.parts)
    known = {batch.id for part in job.parts for batch in part.batches}
    assert {batch["id"] for batch in batches} == known
    assert all(part.batch and part.batch.status in ENDED for part in job.parts)
    assert bench.files() == []
    assert strays(bench, job) == []


def strays(bench: Bench, job: Job) -> list[str]:
    """Files that nothing refers to; those of a process that is alive, as ours is, are its own affair."""
    wanted = {
        f"{part.round}-{part.number:03d}.{kind}.jsonl" for part in job.parts for kind in ("lines", "output", "error")
    }
    home = bench.home / "ledger.jobs"
    return [
        str(path)
        for path in home.rglob("*")
        if path.is_file() and path.name not in wanted and not path.name.startswith(".") and path.parent.name == job.id
    ]


def chunk(points: Iterable[tuple[int, Harm]], number: int) -> list[tuple[int, Harm]]:
    return list(points)[number::CHUNKS]


@pytest.mark.promise("A1", "A2", "A6", "B4", "D7")
@pytest.mark.parametrize("forgets", [False, True], ids=["", "metadata forgotten"])
@pytest.mark.parametrize("number", range(CHUNKS))
def test_one_harm_to_each_operation(tmp_path: Path, number: int, forgets: bool) -> None:
    """Each operation suffers one of the four harms in turn, and those around a creation all four; the deep tests have
    them all suffer all."""
    wrap = Forgetful if forgets else (lambda inner: inner)
    rows, step = (4, 6) if forgets else (6, 1)
    passed = operations(Bench(tmp_path / "whole", rows=rows, wrap=wrap))
    points = {(at, list(Harm)[at % 4]) for at in range(0, len(passed), step)}
    points |= {(at, harm) for at in around_creations(passed) for harm in Harm}
    for at, harm in chunk(sorted(points), number):
        suffer(Bench(tmp_path / f"{at}-{harm.name}", rows=rows, wrap=wrap), harmed(at, harm))


@pytest.mark.deep
@pytest.mark.promise("A1", "A2", "A6", "B4", "D7")
@pytest.mark.parametrize("forgets", [False, True], ids=["", "metadata forgotten"])
@pytest.mark.parametrize("number", range(CHUNKS))
def test_every_harm_to_each_operation(tmp_path: Path, number: int, forgets: bool) -> None:
    wrap = Forgetful if forgets else (lambda inner: inner)
    total = len(operations(Bench(tmp_path / "whole", wrap=wrap)))
    for at, harm in chunk(((at, harm) for at in range(total) for harm in Harm), number):
        suffer(Bench(tmp_path / f"{at}-{harm.name}", wrap=wrap), harmed(at, harm))


@pytest.mark.promise("A1", "A2", "B4")
@pytest.mark.parametrize("seed", range(8))
def test_a_second_harm_during_recovery(tmp_path: Path, seed: int) -> None:
    twice(tmp_path, seed)


@pytest.mark.deep
@pytest.mark.promise("A1", "A2", "B4")
@pytest.mark.parametrize("seed", range(8, 208))
def test_many_second_harms_during_recovery(tmp_path: Path, seed: int) -> None:
    twice(tmp_path, seed)


def twice(home: Path, seed: int) -> None:
    dice = random.Random(seed)
    total = len(operations(Bench(home / "whole", rows=6)))
    plans = [harmed(dice.randrange(total), dice.choice(list(Harm))) for _ in range(3)]
    suffer(Bench(home / "harmed", rows=6), *plans)
