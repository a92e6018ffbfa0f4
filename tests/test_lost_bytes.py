"""The wire breaks at every byte of the requests that create, and of their answers: each part still gets one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from batchkit import AsyncClient, Limits, Report
from batchkit.config import make_target

from .conftest import World, request_lines
from .tools.proxy import Cut, Proxy

PARTS = 100


def whole(world: World, proxy: Proxy, name: str, parts: int) -> Report:
    """A job of so many parts through the proxy."""

    async def work() -> Report:
        target = make_target("test", proxy.url, world.target().credential, dialect="v1")
        target = replace(target, limits=Limits(max_lines=1), poll_interval_s=60.0, identity="test")
        async with AsyncClient(target, ledger=world.home / "ledger.sqlite3", clock=world.clock) as client:
            return (await client.run(request_lines(parts), name=name)).report

    return asyncio.run(work())


def sizes(world: World, what: bytes) -> tuple[int, int]:
    """How many bytes such a request and its response have at most."""
    with Proxy(world.service.url, what) as proxy:
        whole(world, proxy, "whole", 2)
    assert proxy.sizes
    return max(size for size, _ in proxy.sizes), max(size for _, size in proxy.sizes)


def survive(world: World, what: bytes, cuts: list[Cut], name: str) -> None:
    before = {batch["id"] for batch in batches(world)}
    with Proxy(world.service.url, what, iter(cuts)) as proxy:
        report = whole(world, proxy, name, len(cuts))
    assert (report.ok, report.balanced) == (len(cuts), True)
    made = [batch for batch in batches(world) if batch["id"] not in before]
    assert len(made) == len({batch["input_file_id"] for batch in made}) == len(cuts)


def batches(world: World) -> list[dict[str, str]]:
    """All batches at the service, over all pages."""
    found: list[dict[str, str]] = []
    with world.http() as http:
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            page = http.get("/openai/v1/batches", params={"limit": "100", **after}).json()
            found += page["data"]
            if not page["has_more"]:
                return found


EVERY = 12
"""The plain tests take each twelfth byte, the deep ones all others."""
PHASES = [0, *(pytest.param(phase, marks=pytest.mark.deep) for phase in range(1, EVERY))]


@pytest.mark.promise("A4")
@pytest.mark.parametrize("phase", PHASES)
def test_create_batch_at_every_byte(make_world: Callable[..., World], phase: int) -> None:
    world = make_world(fail_rate=0.0)
    what = b"POST /openai/v1/batches HTTP"
    request, response = sizes(world, what)
    assert request > 500
    assert response > 500
    cuts = [Cut(request=at) for at in range(request + 1)] + [Cut(response=at) for at in range(response)]
    mine = cuts[phase::EVERY]
    for start in range(0, len(mine), PARTS):
        survive(world, what, mine[start : start + PARTS], f"nightly-{start}")


@pytest.mark.promise("A4")
@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.deep)])
def test_upload_at_sampled_bytes(make_world: Callable[..., World], count: int) -> None:
    world = make_world(fail_rate=0.0)
    what = b"POST /openai/v1/files HTTP"
    request, response = sizes(world, what)
    every = [Cut(request=at) for at in range(request + 1)] + [Cut(response=at) for at in range(response)]
    survive(world, what, every[:: len(every) // count], "nightly")
