"""What `--emulator` rehearses with: a ledger of its own, and the built-in service in this process."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from batchkit.clock import Clock
from batchkit.config import MIN_POLL_S, Target, data_home, make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.disk import local_errors
from batchkit.errors import LedgerBusy, MissingExtra


def home(ledger: str | None) -> Path:
    """Where the built-in service and its ledger live: never with real jobs, so that no two ledgers share one."""
    if not ledger:
        return data_home() / "emulator"
    path = ledger.removeprefix("sqlite://")
    if "://" in path:
        return data_home() / f"emulator-{hashlib.sha256(ledger.encode()).hexdigest()[:12]}"
    named = Path(path).absolute()
    return named.with_name(f"{named.name}.emulator")


def emulator(directory: Path, speed: float, stack: ExitStack) -> tuple[Target, Clock]:
    """The built-in service, in a thread of this process."""
    try:
        from batchkit.emulator.serve import Emulator, InUse
    except ImportError:
        raise MissingExtra("the emulator is not installed", hint="pip install '.[emulator]' in the checkout") from None
    try:
        with local_errors(directory):
            service = stack.enter_context(Emulator(directory, speed=speed))
    except InUse:
        raise LedgerBusy(
            "another batchkit is using the built-in emulator", hint="wait for it, or use another --ledger"
        ) from None
    target = make_target("emulator", service.url, Credential(Secret(service.key), bearer=False), dialect="v1")
    return replace(target, identity="emulator", poll_interval_s=MIN_POLL_S), service.clock
