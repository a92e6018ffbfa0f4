"""The real `fetch` is killed at random moments: never half a file under its final name, never a row lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchkit import Client
from batchkit.config import Limits

from .conftest import KEY, World, request_lines
from .tools.processes import zygote

ROWS = 60
OUTS = ("out.csv", "out.jsonl")


def ended(world: World) -> list[Path]:
    """A job of three parts, fetched once into each format; the files that came from the service."""
    target = world.target(limits=Limits(max_lines=ROWS // 3))
    with Client(target, ledger=world.home / "data" / "batchkit" / "ledger.sqlite3", clock=world.clock) as client:
        for out in OUTS:
            client.run(request_lines(ROWS), name="nightly", out=world.home / out)
    return sorted(world.home.glob("data/batchkit/*.jobs/*/*.output.jsonl"))


@pytest.mark.promise("B7", "B8")
@pytest.mark.parametrize("kills", [10, pytest.param(500, marks=pytest.mark.deep)])
def test_kill_a_fetch_at_any_moment(make_world: Callable[..., World], kills: int) -> None:
    world = make_world(fail_rate=0.0, answer=lambda _: "x" * 9_000)
    results, dice, struck = ended(world), random.Random(kills), 0
    home = world.home
    whole = {path: path.read_bytes() for path in [*results, *(home / out for out in OUTS)]}
    assert len(whole) == 5
    env = {"AZURE_OPENAI_ENDPOINT": world.service.url, "AZURE_OPENAI_API_KEY": KEY}
    with zygote(home, env) as start:

        def fetch(out: str, kill_after_s: float | None = None) -> int:
            return start.run(["fetch", "nightly", "-o", out, "--overwrite", "--quiet"], kill_after_s)

        began = time.monotonic()
        assert fetch(OUTS[0]) == 0
        longest = time.monotonic() - began
        while struck < kills:
            out = home / dice.choice(OUTS)
            for path in dice.sample(results, dice.randint(1, 3)):
                path.unlink(missing_ok=True)
            out.write_bytes(b"precious")
            code = fetch(out.name, dice.uniform(0.0, longest))
            struck += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL), start.log.read_text()
            assert out.read_bytes() in (whole[out], b"precious")
            for path in results:
                assert not path.exists() or path.read_bytes() == whole[path]
        for out in whole.keys() - set(results):
            assert fetch(out.name) == 0, start.log.read_text()
            assert out.read_bytes() == whole[out]
    assert [path.read_bytes() for path in results] == [whole[path] for path in results]
    assert [path for path in home.rglob(".*") if path.suffix in (".part", ".coming")] == []
    assert len(world.batches()) == 3
