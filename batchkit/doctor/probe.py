"""Does the deployment run batches? One batch of one short request finds out, as a job like any other: made once, in the
ledger, cancelled as soon as the service has taken it, and its file deleted."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any, Protocol

from batchkit.clock import Clock
from batchkit.config import Target
from batchkit.doctor.judge import MAKE, PROBE, problem, refusal, refused
from batchkit.errors import BatchkitError, Interrupted, LedgerBusy, Unauthorized, Uncertain, Unfinished
from batchkit.model import CHAT, ENDED, Finding, Job
from batchkit.text import duration, slug

if TYPE_CHECKING:
    from batchkit.engine.watch import Watched

_log = logging.getLogger(__name__)
PATIENCE_S = 1200.0
"""Seconds: validation takes minutes, and so does cancelling."""
SHORT_S = 5.0


class Verbs(Protocol):
    """What a probe needs of a client."""

    async def submit(
        self, source: Iterable[Mapping[str, Any]], *, name: str | None = None, wait: bool = True
    ) -> Job: ...
    async def cancel(self, job: Job | str) -> Job: ...
    def watch(
        self, jobs: Collection[Job | str] = (), *, timeout_s: float | None = None, settled: bool = False
    ) -> AsyncGenerator[list[Watched], None]: ...


def line(deployment: str) -> dict[str, Any]:
    """The request: about ten tokens in, and a word out."""
    body = {"model": deployment, "messages": [{"role": "user", "content": "Say OK."}]}
    return {"custom_id": "probe", "method": "POST", "url": CHAT, "body": body}


async def probe(
    client: Verbs, target: Target, jobs: Iterable[Job], clock: Clock, patience_s: float = PATIENCE_S
) -> Finding:
    """Whether the service takes a batch for the target's deployment. A probe that is under way is gone on with."""
    deployment = target.deployment
    if deployment is None:
        return Finding("probe", "problem", "no deployment to probe", "batchkit doctor --probe -d NAME", 2)
    stem = f"{PROBE}{slug(target.name)}-{slug(deployment)}-"
    ours = re.compile(re.escape(stem) + r"\d{8}-\d{6}")  # no other deployment's, whose name begins alike
    open_ones = [job.name for job in jobs if ours.fullmatch(job.name) and job.settled_at is None]
    name = open_ones[0] if open_ones else stem + datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%d-%H%M%S")
    began, ending = clock.now(), f"batchkit cancel {quote(name)} --give-up"
    _log.info("probe of %s: waiting up to %s for the service to judge a batch", deployment, duration(patience_s))
    try:
        job = await client.submit([line(deployment)], name=name, wait=False)
        job = await _until_judged(client, job, patience_s)
        finding = _judged(deployment, job)
        if finding is None:
            waited = f"{job.held or job.status or job.state}, after {duration(clock.now() - began)}"
            words = f"{deployment}: the service has not judged the batch yet ({waited})"
            hint = f"batchkit doctor --probe -d {quote(deployment)} looks at the same batch, later; {ending} ends it"
            return Finding("probe", "warning", words, hint)
        if not await _clear(client, job, patience_s - (clock.now() - began)) and finding.verdict == "ok":
            words = f"{finding.message}, which it has not cancelled yet: job {name}"
            finding = replace(finding, message=words, hint=f"batchkit run --once finishes it; {ending} ends it at once")
    except Interrupted:
        raise  # no finding: nothing further is to be made
    except (LedgerBusy, Uncertain) as error:
        return problem("probe", error)
    except BatchkitError as error:
        with suppress(BatchkitError):
            await _clear(client, name, SHORT_S)
        if isinstance(error, Unauthorized):  # a key that may read, but not upload
            return replace(refused(error, target), what="probe")
        return problem("probe", error)
    return finding


async def _until_judged(client: Verbs, job: Job, patience_s: float) -> Job:
    """The job once its batch is beyond validation, or the patience is at its end."""
    with suppress(Unfinished):
        async with aclosing(client.watch([job], timeout_s=patience_s)) as steps:
            async for (step,) in steps:
                job = step.job
                if step.trouble is not None:
                    raise step.trouble
                if _verdict(job) is not None:
                    break
    return job


async def _clear(client: Verbs, job: Job | str, timeout_s: float) -> bool:
    """Cancel what runs, and see it ended and its file gone, within `timeout_s`. What is left `run --once` finishes."""
    if isinstance(job, str) or job.status not in ENDED:
        job = await client.cancel(job)
    with suppress(Unfinished):
        async for (step,) in client.watch([job], timeout_s=max(timeout_s, SHORT_S), settled=True):
            job = step.job
    return job.settled_at is not None


def _verdict(job: Job) -> bool | None:
    """Whether the service took the batch; None while that is open."""
    batch = job.parts[0].batch
    if batch is None or batch.status in ("", "validating"):
        return None
    return batch.status != "failed"


def _judged(deployment: str, job: Job) -> Finding | None:
    taken = _verdict(job)
    if taken is None:
        return None
    batch = job.parts[0].batch
    if taken or batch is None:
        return Finding("probe", "ok", f"{deployment} runs batches: the service took one of a single request")
    why = refusal(batch) or "; ".join(f"{e.code}: {e.message}" for e in batch.errors) or "it did not say why"
    return Finding("probe", "problem", f"{deployment}: the service refused the batch: {why}", MAKE, 5)
