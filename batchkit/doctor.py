"""Is everything fit for work? Settings, service and ledger, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from batchkit.api.service import Service
from batchkit.errors import BatchkitError
from batchkit.ledger import Ledger
from batchkit.model import Finding, State
from batchkit.text import plural


async def examine(service: Callable[[], Service], ledger: Ledger) -> tuple[Finding, ...]:
    """The findings, in the order a job would meet them."""
    return (*await _service(service), await _ledger(ledger))


async def _service(service: Callable[[], Service]) -> list[Finding]:
    try:
        api = service()
        target = api.target
    except BatchkitError as error:
        return [_problem("settings", error)]
    version = f", api-version {target.api_version}" if target.api_version else ""
    found = [Finding("settings", "ok", f"{target.name}: {target.base_url} ({target.dialect}{version})")]
    try:
        async with aclosing(api.batches()) as batches:
            async for _ in batches:
                break
        files = await api.files()
    except BatchkitError as error:
        return [*found, _problem("service", error)]
    finally:
        await api.close()
    lasting = sum(file.expires_at is None for file in files)
    words = f"answers; {plural(len(files), 'batch file')} there, {lasting} without expiry"
    if lasting > 400:
        hint = "Azure allows 500 input files without expiry: delete old ones"
        return [*found, Finding("service", "warning", words, hint)]
    return [*found, Finding("service", "ok", words)]


async def _ledger(ledger: Ledger) -> Finding:
    try:
        jobs = await ledger.jobs()
    except BatchkitError as error:
        return _problem("ledger", error)
    stuck = [job.name for job in jobs if any(part.state is State.SUBMITTING for part in job.parts)]
    if stuck:
        hint = "run the job's command again: batchkit looks before it acts"
        return Finding("ledger", "warning", f"waiting to be sure about: {', '.join(stuck)}", hint)
    return Finding("ledger", "ok", plural(len(jobs), "job"))


def _problem(what: str, error: BatchkitError) -> Finding:
    return Finding(what, "problem", str(error), error.hint, error.exit)
