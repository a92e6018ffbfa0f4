"""A worker on a host of its own, as far as its leases tell: runs three jobs until each is done, whoever does it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

from batchkit import AsyncClient, Settings
from batchkit.clock import ScaledClock
from batchkit.config import Limits, make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.errors import LedgerBusy
from batchkit.ledger import Ledger, Terms, open_ledger

from ..conftest import KEY, request_lines

TERMS = Terms(ttl_s=1.0, renew_s=0.2, retry_s=0.1, takeover_s=0.5)
SETTINGS = Settings(create_timeout_s=0.6, read_timeout_s=0.5, connect_timeout_s=0.5, settle_window_s=100.0)


async def main(host: str, url: str, endpoint: str, home: Path) -> None:
    target = make_target("test", endpoint, Credential(Secret(KEY), bearer=False), dialect="v1")
    target = replace(target, limits=Limits(max_lines=2), poll_interval_s=60.0)
    ledger, workdir = open_ledger(url)
    ledger = Ledger(ledger.store, terms=TERMS, owner=lambda: f"{host}/boot/{os.getpid()}/?/{os.urandom(4).hex()}")
    async with AsyncClient(target, ledger=(ledger, workdir), settings=SETTINGS, clock=ScaledClock(200.0)) as client:
        for number in range(3):
            while True:
                try:
                    results = await client.run(request_lines(4), name=f"job-{number}", out=home / f"{number}.jsonl")
                except LedgerBusy:
                    await asyncio.sleep(0.1)
                    continue
                assert results.report.ok == 4
                print("done", flush=True)
                break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
