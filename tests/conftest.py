"""The emulator on a loopback port, and clients of it whose days pass in no time."""

from __future__ import annotations

import os
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from batchkit import Client, ManualClock, Target
from batchkit.config import Dialect, Limits, make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.emulator import Emulator

from .tools.postgres import database, server

pytest_plugins = ["pytester", "tests.tools.shell"]

settings.register_profile("plain", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plain")

KEY = "test-key-8b5e2c"
VERSION = "2025-04-01-preview"
EXAMPLES = Path(__file__).parent.parent / "examples" / "quickstart"


@dataclass
class World:
    """One emulated service, one ledger, one clock; clients are made and thrown away."""

    service: Emulator
    clock: ManualClock
    home: Path

    def target(self, dialect: Dialect = "v1", **changes: Any) -> Target:
        endpoint = self.service.url + ("/v1" if dialect == "openai" else "")
        made = make_target(
            "test",
            endpoint,
            Credential(Secret(KEY), bearer=dialect == "openai"),
            dialect=dialect,
            api_version=VERSION if dialect == "dated" else None,
        )
        return replace(made, **{"poll_interval_s": 60.0, **changes})

    def client(self, dialect: Dialect = "v1", **changes: Any) -> Client:
        return Client(self.target(dialect, **changes), ledger=self.home / "ledger.sqlite3", clock=self.clock)

    def http(self) -> httpx.Client:
        """The service as a stranger sees it."""
        return httpx.Client(base_url=self.service.url, headers={"api-key": KEY})

    def batches(self) -> list[dict[str, Any]]:
        """All batches at the service."""
        with self.http() as http:
            found: list[dict[str, Any]] = http.get("/openai/v1/batches", params={"limit": 100}).json()["data"]
        return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server, started when the first test asks for it."""
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty ledger of each kind: what is tested with it holds for both."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite3")
    return database(request.getfixturevalue("postgres"), f"ledger-{secrets.token_hex(6)}")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_world(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., World]]:
    """Worlds with options of their own; all are closed at the end."""
    opened: list[Emulator] = []

    def make(**options: Any) -> World:
        service = Emulator(tmp_path / f"service-{len(opened)}", key=KEY, clock=clock, **options)
        opened.append(service.__enter__())
        return World(service, clock, tmp_path)

    yield make
    for service in opened:
        service.__exit__(None, None, None)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A service where every row succeeds."""
    return make_world(fail_rate=0.0)


def request_line(number: int, *, text: str = "hello", model: str = "gpt-4o-batch") -> dict[str, Any]:
    """A good request line."""
    return {
        "custom_id": f"row-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": f"{text} {number}"}]},
    }


def request_lines(count: int) -> list[dict[str, Any]]:
    return [request_line(number) for number in range(count)]


SMALL = Limits(max_lines=4)
"""So few lines a file that a small job has several parts."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--promises", action="store_true", help="print how many cases proved each promise")
    parser.addoption("--lives", type=int, default=10_000, help="how many seeds the deep simulation lives")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests wait for processes, sockets and leases about as long as they compute."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        promised = {name for mark in item.iter_markers("promise") for name in mark.args}
        item.user_properties.extend(("promise", name) for name in sorted(promised))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of promises: which tests stand for each, and how many cases of them passed."""
    if not config.getoption("--promises"):
        return
    cases: dict[str, Counter[str]] = defaultdict(Counter)
    for report in terminalreporter.stats.get("passed", []):
        test = report.nodeid.removeprefix("tests/").partition("[")[0]
        for kind, name in report.user_properties:
            if kind == "promise":
                cases[name][test] += 1
    terminalreporter.section("promises")
    for name in sorted(cases, key=lambda known: (known[0], int(known[1:]))):
        for test, count in cases[name].items():
            terminalreporter.write_line(f"{name:<4} {count:>5}  {test}")
