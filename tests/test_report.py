"""The report on a job: its numbers hold, and the page shows them without reaching out for anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from batchkit import ConfigError
from batchkit.collector.page import page
from batchkit.collector.statistics import Distribution
from batchkit.config.prices import Price, Prices, read_prices
from batchkit.emulator import Reply

from .conftest import SMALL, World, request_lines
from .test_schemas import validate

NASTY = "</td><script>alert(1)</script>\x1b[31m"
HEAD = 'date = 2025-11-01\ncurrency = "USD"\n'
PRICES = Prices(date(2025, 11, 1), "EUR", {"gpt-4o": Price(1.0, 10.0), "gpt-4o-mini": Price(100.0, 100.0)})


def answer(line: dict[str, Any]) -> Any:
    number = int(line["custom_id"].rpartition("-")[2])
    if number % 5 == 4:
        return Reply(400, {"error": {"code": NASTY, "message": NASTY}})
    usage = {"prompt_tokens": 100 + number, "completion_tokens": 10}
    choice = {"finish_reason": "stop", "message": {"content": "x"}}
    return {"model": "gpt-4o-2024", "choices": [choice], "usage": usage, "created": 4_000_000_000 + number}


@pytest.fixture
def told(make_world: Callable[..., World]) -> dict[str, Any]:
    world = make_world(fail_rate=0.0, answer=answer)
    with world.client(limits=SMALL) as client:
        client.run(request_lines(20), name=f"nightly {NASTY}".replace("\x1b", ""))
        return client.report(f"nightly {NASTY}".replace("\x1b", ""), prices=PRICES)


def test_the_numbers(told: dict[str, Any]) -> None:
    validate("job-report", told)
    rows = told["rows"]
    assert (rows["total"], rows["ok"], rows["failed"], rows["missing"], rows["balanced"]) == (20, 16, 4, 0, True)
    assert rows["input_tokens"] == sum(100 + n for n in range(20) if n % 5 != 4)
    assert told["tokens"]["output"]["p50"] == told["tokens"]["output"]["max"] == 10
    assert told["tokens"]["input"]["min"] == 100
    assert sum(bar["count"] for bar in told["tokens"]["input"]["bars"]) == 16
    assert told["cost"]["total"] == pytest.approx((rows["input_tokens"] * 1.0 + 160 * 10.0) / 1e6)
    assert [found["examples"] for found in told["failures"]] == [["row-4", "row-9", "row-14"]]
    assert told["latency_s"]["count"] == 16
    assert [part["number"] for part in told["parts"]] == [0, 1, 2, 3, 4]
    assert all(part["file_id"] and part["batches"][0]["id"] for part in told["parts"])


def test_the_page_is_closed_and_hostile_text_is_text(told: dict[str, Any]) -> None:
    html = page(told, version="1", now=told["job"]["settled_at"])
    assert "<script" not in html
    assert not re.search(r"(?:\b(?:src|href)\s*=|url\(|@import|https?://(?!127\.0\.0\.1))", html)
    assert "\x1b" not in html
    for part in told["parts"]:
        for name in (part["file_id"], part["batches"][0]["id"], part["batches"][0]["output_file_id"]):
            assert name in html
    assert "16 ok + 4 failed + 0 missing" in html
    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "br"):
                opened.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "line"

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(html)
    assert opened == []


def test_answers_of_no_use_and_tokens_without_a_price_are_seen_at_the_top(told: dict[str, Any]) -> None:
    rows = told["rows"] | {"failed": 0, "ok": 20, "unusable": {"cut_off": 3}}
    cost = told["cost"] | {"total": 0.0, "models": [], "unpriced": ["gpt-4o"]}
    found = page(told | {"rows": rows, "cost": cost}, version="1", now=0.0)
    assert "all rows answered, 3 cut off" in found
    assert "Cost: no price is known" in found
    assert "0.00" not in found


def test_a_job_that_still_runs_has_a_page(world: World) -> None:
    with world.client(limits=SMALL) as client:
        job = client.submit(request_lines(6), name="running")
        told = client.report(job)
    validate("job-report", told)
    assert told["rows"]["pending"] == 6
    assert "6 pending" in page(told, version="1", now=world.clock.now())


def test_times_of_a_clock_that_is_not_ours_are_said_to_be(told: dict[str, Any]) -> None:
    def head(service: str = "https://a", ahead_s: float = 0.0) -> str:
        parts = [
            part | {"batches": [batch | {"created_at": batch["looked_at"] + ahead_s} for batch in part["batches"]]}
            for part in told["parts"]
        ]
        changed = told | {"job": told["job"] | {"service": service}, "parts": parts}
        return page(changed, version="0", now=told["job"]["settled_at"]).partition("</header>")[0]

    assert "emulator" not in head()
    assert "the times are its own, which pass faster than ours" in head(service="emulator")
    assert "ahead of this machine’s, as that of an emulator" in head(ahead_s=7200.0)


def test_waits_for_quota_are_told(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["quota,call=create_batch,nth=1"])
    with world.client() as client:
        client.run(request_lines(3), name="full")
        told = client.report("full")
    assert [wait["part"] for wait in told["waits"]] == [0]
    assert "Waits for quota" in page(told, version="1", now=world.clock.now())


def test_quantiles_are_right_to_two_percent() -> None:
    seen = Distribution()
    for value in range(1, 10_001):
        seen.add(value)
    for share in (0.01, 0.5, 0.9, 0.99):
        assert seen.quantile(share) == pytest.approx(share * 10_000, rel=0.02)
    assert (seen.quantile(0), seen.least, seen.most) == (1, 1, 10_000)


@pytest.mark.parametrize(
    ("values", "edges", "counts"),
    [
        ([0, 0, 0], [0, 0], [3]),
        ([7], [7, 7], [1]),
        ([1, 2, 2], [1, 1.41, 2], [1, 2]),
        ([0, 1, 3], [0, 1.32, 1.73, 2.28, 3], [2, 0, 0, 1]),
    ],
)
def test_bars_begin_and_end_with_the_values_and_tell_no_fractions_apart(
    values: list[float], edges: list[float], counts: list[int]
) -> None:
    seen = Distribution()
    for value in values:
        seen.add(value)
    bars = seen.bars()
    assert [bars[0][0], *(end for _, end, _ in bars)] == pytest.approx(edges, abs=0.01)
    assert [count for _, _, count in bars] == counts


def test_a_job_of_a_second_has_times_at_its_axes(told: dict[str, Any]) -> None:
    """As on the emulator, whose clock runs ahead."""
    began = 1_764_000_000.2
    told["job"] |= {"created_at": began, "settled_at": began + 0.6}
    for part in told["parts"]:
        part["planned_at"] = began
        part["batches"][0] |= {"created_at": began + 9000, "ended_at": began + 0.5}
    svg = _timeline(told)
    assert re.findall("<text[^>]*middle[^>]*>([^<]*)<", svg) == ["16:00:00"]
    widths = [(kind, float(wide)) for kind, wide in re.findall(r'class="(\w+)" x=[^>]* width="([\d.]+)"', svg)]
    assert {kind for kind, wide in widths if wide > 400} == {"ok"}, "it was at the service, not waiting"
    told["job"]["settled_at"] = began + 20
    labels = re.findall("<text[^>]*middle[^>]*>([^<]*)<", _timeline(told))
    assert labels == ["16:00:05", "16:00:10", "16:00:15", "16:00:20"]


def _timeline(told: dict[str, Any]) -> str:
    html = page(told, version="1", now=told["job"]["settled_at"])
    found = re.search("<svg.*?</svg>", html, re.DOTALL)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date = ", "not valid TOML"),
        ("date = 2025-11-01", "lacks currency or models"),
        ('currency = "EUR"', "has no date"),
        (HEAD + '[models.a]\ninput = "1"\noutput = 2', "needs input and output"),
        (HEAD + "[models.a]\ninput = -1\noutput = 2", "needs input and output"),
    ],
)
def test_price_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_prices(path)


def test_the_longest_name_of_a_price_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(HEAD + "[models.gpt-4o]\ninput=1\noutput=2\n[models.gpt-4o-mini]\ninput=3\noutput=4\n")
    prices = read_prices(path)
    assert (prices.date, prices.currency) == (date(2025, 11, 1), "USD")
    assert prices.of("gpt-4o-mini-2024") == Price(3, 4)
    assert prices.of("unknown", "gpt-4o-2024") == Price(1, 2)
    assert prices.of("o1") is None
