"""pytest fixtures for your own tests: an Azure OpenAI batch service that your code finds in its environment.

They are there wherever batchkit is installed with the extra `emulator`; nothing is imported before one is used.

    def test_nightly(batchkit_emulator):
        batchkit_emulator.inject("lose_answer,nth=1")
        assert my_job.main() == 0
        assert len(batchkit_emulator.batches) == 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from batchkit.emulator import Emulator

SPEED = 3600.0
"""An hour a second: a small batch is done in a tenth of one."""
_FOREIGN = ("AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION", "OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHKIT_TARGET")


@pytest.fixture
def make_batchkit_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Emulator]]:
    """A function that starts an emulator with options of `batchkit.emulator.Emulator`; the environment names the last
    one started (`AZURE_OPENAI_ENDPOINT`, `AZURE_OPENAI_API_KEY`), and a ledger that only this test knows."""
    from batchkit.emulator import Emulator

    started: list[Emulator] = []

    def make(**options: Any) -> Emulator:
        clock = {} if "clock" in options else {"speed": SPEED}
        service = Emulator(tmp_path / f"batchkit-emulator-{len(started)}", **{"fail_rate": 0.0} | clock | options)
        started.append(service.__enter__())
        for name in _FOREIGN:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", service.url)
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", service.key)
        monkeypatch.setenv("BATCHKIT_LEDGER", str(tmp_path / "batchkit-ledger.sqlite3"))
        return service

    yield make
    for service in started:
        service.__exit__(None, None, None)


@pytest.fixture
def batchkit_emulator(make_batchkit_emulator: Callable[..., Emulator]) -> Emulator:
    """A running emulator where every row succeeds, 3,600 times faster than real time."""
    return make_batchkit_emulator()
