"""The looks themselves, in the order in which a job meets things."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.config import Target
from batchkit.config.facts import Facts, load_facts
from batchkit.disk import Workdir
from batchkit.doctor import judge, machine, network
from batchkit.doctor.probe import PATIENCE_S, Verbs, probe
from batchkit.errors import BatchkitError
from batchkit.ledger import Ledger, rows
from batchkit.model import Finding, Job, Queue
from batchkit.text import plural


@dataclass(frozen=True)
class Patient:
    """All that is looked at. `target` and `service` may raise what is wrong with them; `direct` is false where requests
    do not go over the network; a probe is waited for `patience_s` seconds."""

    target: Callable[[], Target]
    service: Callable[[Target], Service]
    ledger: Ledger
    workdir: Workdir
    clock: Clock
    deployment: str | None = None
    config: Path | None = None
    facts: Path | None = None
    direct: bool = True
    patience_s: float = PATIENCE_S

    @property
    def members(self) -> tuple[Target, ...]:
        """The targets that are looked at, with the deployment that they would be used with."""
        target, named = self.target(), self.deployment
        if not target.pool:
            return (replace(target, deployment=named or target.deployment),)
        return tuple(replace(member, deployment=member.deployment or named) for member in target.pool)


async def consult(
    patient: Patient, alone: Callable[[Target], AbstractAsyncContextManager[Verbs]] | None = None, *, fix: bool = False
) -> tuple[Finding, ...]:
    """All findings, in the order a job would meet them; with `fix` after mending what is local and safe, and with a
    client for each target `alone` after probing its deployment."""
    found = await _examine(patient, fix=fix)
    if alone is None:
        return tuple(found)
    others = [finding for finding in found if finding.what != "deployment"]  # that one the probe asks anew
    if any(finding.verdict == "problem" for finding in others):
        words = "no batch was made: what is wrong above comes first"
        return (*found, Finding("probe", "warning", words, "mend that, then batchkit doctor --probe again"))
    found = others
    jobs = await _jobs(patient.ledger)
    for member in patient.members:
        async with alone(member) as client:
            finding = await probe(client, member, jobs, patient.clock, patient.patience_s)
        found.append(replace(finding, target=member.name if len(patient.members) > 1 else None))
    return tuple(found)


async def _examine(patient: Patient, *, fix: bool) -> list[Finding]:
    found = await _mended(patient) if fix else []
    found += machine.settings(patient.config)
    book = await machine.ledger(patient.ledger)
    try:
        facts, target = load_facts(patient.facts), patient.target()
    except BatchkitError as error:
        found.append(judge.problem("settings", error))
    else:
        named = patient.deployment or target.deployment
        deployment = f", deployment {named}" if named else ""
        members = f", a pool of {plural(len(target.pool), 'target')}" if target.pool else ""
        found.append(Finding("settings", "ok", f"{target.name}{members}{deployment}"))
        jobs = await _jobs(patient.ledger) if book.verdict == "ok" else []
        for member in patient.members:
            name = member.name if target.pool else None
            found += [replace(item, target=name) for item in await _member(patient, member, facts, jobs)]
    return [*found, *await _machine(patient, book)]


async def _mended(patient: Patient) -> list[Finding]:
    try:
        return await machine.mend(patient.workdir, patient.ledger, patient.config)
    except BatchkitError as error:
        return [judge.problem("fix", error)]


async def _member(patient: Patient, target: Target, facts: Facts, jobs: list[Job]) -> list[Finding]:
    """One target, from its address to its quota."""
    remarks = [Finding("endpoint", "warning", words) for words in target.remarks]
    found: list[Finding | None] = [judge.endpoint(target), *remarks]
    way = await network.way(target) if patient.direct else []
    found += way
    version, deployment = judge.version(target, facts), judge.deployment(target, jobs, facts)
    if any(item.verdict == "problem" for item in way):
        found += [version, deployment]
    else:
        api = patient.service(target)
        try:
            headers = await api.glance()
            found.append(Finding("credential", "ok", f"{target.credential.origin}: accepted by the service"))
            found += [version, deployment, judge.files(target, await api.files(), facts)]
            queue = await _queue(patient.ledger, target) if jobs else Queue()
            found.append(judge.quota(target, queue, facts, patient.clock.now()))
            found.append(judge.clock(headers.get("date"), time.time()))
        except BatchkitError as error:
            found.append(judge.refused(error, target))
            found += [item for item in (version, deployment) if item not in found]
        finally:
            await api.close()
    return [item for item in found if item is not None]


async def _machine(patient: Patient, book: Finding) -> list[Finding]:
    """The ledger and this machine."""
    found = [book]
    if book.verdict == "ok":
        found += judge.jobs(await _jobs(patient.ledger))
        if left := await machine.leftovers(patient.workdir, patient.ledger):
            words = f"{len(left)} working directories that no job knows, as a death while taking rows in leaves them"
            found.append(Finding("ledger", "warning", words, "batchkit doctor --fix removes them"))
    return [*found, *machine.directory(patient.workdir, patient.ledger), machine.package()]


async def _jobs(ledger: Ledger) -> list[Job]:
    """The jobs, if there is a ledger: looking does not make one."""
    path = machine.ledger_file(ledger)
    return await ledger.jobs() if path is None or path.exists() else []


async def _queue(ledger: Ledger, target: Target) -> Queue:
    return await ledger.store.run(lambda tx: rows.queue(tx, target.service, target.deployment or ""))
