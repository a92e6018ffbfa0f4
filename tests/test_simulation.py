"""A seed is a whole job's life over virtual days: services that misbehave, disks that fail, processes that die.

After each process every part has at most one batch; once the faults stop the job settles, whole.
A seed that ever failed is listed in `REGRESSIONS` for good.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from batchkit import AsyncClient, Results
from batchkit.config import Limits
from batchkit.emulator.faults import Faults, made
from batchkit.emulator.settings import Pace
from batchkit.errors import BatchkitError
from batchkit.model import moving

from .conftest import request_lines
from .tools.doors import Bench, Doors, Harm, Killed, Place, Plan

PLAIN = 32
REGRESSIONS: list[int] = []
HOURS = 3600.0
RAM = Path("/dev/shm")


class Weather(httpx.AsyncBaseTransport):
    """A way to the service on which answers go missing or come from a gateway, for a share of the requests."""

    def __init__(self, inner: httpx.AsyncBaseTransport, dice: random.Random, badness: float) -> None:
        self._inner, self._dice, self.badness = inner, dice, badness

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._dice.random() >= self.badness:
            return await self._inner.handle_async_request(request)
        done = self._dice.random() < 0.5
        if done:
            await self._inner.handle_async_request(request)
        kind = self._dice.randrange(6)
        if kind == 0:
            raise httpx.ConnectError("refused") if not done else httpx.ReadTimeout("silence")
        if kind == 1:
            raise httpx.ReadError("reset")
        if kind == 2 and not done:
            return _answer(
                429, b'{"error":{"code":"429","message":"slow"}}', {"Retry-After": str(self._dice.randrange(40))}
            )
        if kind == 3:
            return _answer(200, b"<html>hello</html>")
        return _answer(self._dice.choice([500, 502, 503, 408]), b"<html>busy</html>")


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


def world(home: Path, dice: random.Random) -> Bench:
    """A service or two with quirks of their own, and a job."""
    rows = dice.randint(2, 12)
    per_part = dice.randint(1, 4)
    part_tokens = per_part * 150 // 4
    places = []
    for name in ("east", "west")[: dice.choice([1, 1, 2])]:
        quirks = [
            f"hide_for,{dice.choice([20, 100, 230])},rate=0.3,seed={dice.randrange(99)}",
            f"forget_metadata,rate={dice.choice([0, 0.5, 1])}",
            f"pending_for,{dice.choice([5, 90])},rate=0.3",
            f"iso_times,rate={dice.choice([0, 1])}",
            f"null_counts,rate={dice.choice([0, 0.3])}",
        ]
        limit = dice.choice([part_tokens // 2, part_tokens, 3 * part_tokens, 10**6]) + 20
        places.append(
            Place(
                name,
                faults=Faults(made(dice.sample(quirks, dice.randint(0, 3)))),
                deployments=(f"gpt-4o-batch:::{limit}",),
                late_quota=dice.random() < 0.5,
                configured=dice.choice([None, limit]),
            )
        )
    running_s = dice.choice([100.0, 2 * HOURS])
    return Bench(
        home,
        poll_interval_s=max(60.0, running_s / 10),
        rows=rows,
        limits=Limits(max_lines=per_part),
        places=tuple(places),
        pace=Pace(running_s=running_s),
        fail_rate=dice.choice([0.0, 0.3]),
    )


def live(home: Path, seed: int) -> dict[str, Any]:
    """One seed; what it met."""
    dice = random.Random(seed)
    random.seed(seed)  # jitter
    bench = world(home, dice)
    begin, met = bench.clock.now(), Counter[str]()
    deadly, badness = dice.choice([0.0, 0.002, 0.01]), dice.choice([0.0, 0.02, 0.1])

    def plan() -> Plan:
        return lambda _number, _what: dice.choice(list(Harm)) if dice.random() < deadly else None

    bench.wrap = lambda inner: Weather(inner, dice, badness)
    for _ in range(dice.randint(1, 6)):
        limit_s = dice.choice([600.0, 4 * HOURS])

        async def some(client: AsyncClient, limit_s: float = limit_s) -> Results:
            return await client.run(
                request_lines(bench.rows), name="nightly", out=home / "out.jsonl", timeout_s=limit_s
            )

        with suppress(Killed, BatchkitError, OSError):
            bench.live(Doors(plan()), some)
            met["finished in bad weather"] += 1
        met["lives"] += 1
        invariants(bench)
        bench.clock.advance(dice.choice([0.0, 30.0, HOURS]))
    bench.wrap = lambda inner: inner
    for place in bench.places:
        place.faults.script.clear()
    calm = bench.clock.now()
    results: Results = bench.live(Doors())
    took = bench.clock.now() - calm
    parts, pace = len(results.job.parts), bench.pace.running_s + 400
    most = 2 * HOURS + (parts + 1) * (pace + 1800)
    if any(part.doubt_at for part in results.job.parts):
        most += moving.DOUBT_S  # for so long a part that is too large is not cut
    assert took <= most, f"the job took {took / HOURS:.1f} hours in calm weather"
    invariants(bench)
    report = results.report
    assert report.balanced
    assert (report.total, report.missing) == (bench.rows, 0)
    written = [json.loads(line)["custom_id"] for line in (home / "out.jsonl").read_text().splitlines()]
    assert written == [line["custom_id"] for line in request_lines(bench.rows)]
    assert [bench.files(number) for number in range(len(bench.places))] == [[]] * len(bench.places)
    met["virtual hours"] = round((bench.clock.now() - begin) / HOURS)
    return dict(met)


def invariants(bench: Bench) -> None:
    """No part ever has two batches but those that failed for quota, wherever they are; none had to be cancelled."""
    batches = [batch for place in range(len(bench.places)) for batch in bench.batches(place)]
    made = [batch["input_file_id"] for batch in batches if batch["status"] != "failed"]
    marked = [(batch["metadata"] or {}).get("batchkit_part") for batch in batches if batch["status"] != "failed"]
    marked = [part for part in marked if part is not None]
    assert len(made) == len(set(made)), Counter(made).most_common(1)
    assert len(marked) == len(set(marked)), Counter(marked).most_common(1)
    assert not [batch for batch in batches if batch["status"] in ("cancelling", "cancelled")]


def lives(seeds: Iterable[int]) -> Counter[str]:
    """Live these seeds; what they met. In memory where there is such a disk: nobody cuts the power here."""
    met = Counter[str]()
    for seed in seeds:
        with TemporaryDirectory(dir=RAM if RAM.is_dir() else None) as home:
            try:
                met.update(live(Path(home) / "life", seed))
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
    return met


@pytest.mark.promise("A1", "A2", "A6", "A9", "B4", "C7")
@pytest.mark.parametrize("eighth", range(8))
def test_lives(eighth: int) -> None:
    assert lives([*range(eighth, PLAIN, 8), *REGRESSIONS[eighth::8]])["lives"] >= PLAIN / 8


@pytest.mark.deep
@pytest.mark.promise("A1", "A2", "A6", "A9", "B4", "C7")
@pytest.mark.parametrize("hundredth", range(100))
def test_many_lives(pytestconfig: pytest.Config, hundredth: int) -> None:
    many = int(pytestconfig.getoption("lives"))
    met = lives(range(PLAIN + hundredth, PLAIN + many, 100))
    assert met["lives"] >= many // 100
