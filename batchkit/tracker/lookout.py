"""One look at a service serves all its batches: lists by the hundred, single questions only where they are cheaper."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from batchkit import wire
from batchkit.api.service import Service
from batchkit.clock import Clock
from batchkit.errors import NotFound, Unintelligible
from batchkit.model import STATUSES, Batch, Job, State
from batchkit.tracker.late import patience_s

_log = logging.getLogger(__name__)
SINGLES = 25
"""How many batches one look asks for by id, where a list lacks them: the others wait for the next look."""
EARLIER_S = 3600.0
"""How much further back than the oldest batch a list is asked for: clocks differ."""

Seen = Mapping[str, Batch | None]
"""Batches by their ids as the service shows them; None for an id that it does not know."""


@dataclass
class _View:
    """A list as it was `at` a moment, as far as anybody may want to know of it; `whole` where it was read to its end,
    so that what it lacks is not in it."""

    at: float
    batches: dict[str, Batch] = field(default_factory=dict)
    whole: bool = False


@dataclass
class Lookout:
    """What the jobs of one client share: the list of a service, read once for all of them.

    `expect` says which jobs are about to look, so that the first of them brings the list for all.
    """

    clock: Clock
    _expected: dict[str, dict[str, float]] = field(default_factory=dict)
    _views: dict[str, _View] = field(default_factory=dict)
    _strays: dict[str, list[Batch]] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def expect(self, jobs: Iterable[Job]) -> None:
        """These jobs will have their turns now."""
        self._expected.clear()
        for job in jobs:
            for part in job.parts:
                if part.state is State.RUNNING and part.batch and part.service:
                    wanted = self._expected.setdefault(part.service, {})
                    wanted[part.batch.id] = part.batch.created_at or 0.0

    async def look(self, api: Service, batches: Collection[Batch]) -> tuple[float, Seen]:
        """When the look was taken, and what it saw of these batches; one that is not in it could not be looked at now.

        What a list does not show is asked for by its id before it is called unknown; a 404 alone is no proof, since
        gateways give them too. Raises Unavailable.
        """
        service, last = api.target.service, max((batch.looked_at or 0.0 for batch in batches), default=0.0)
        wanted = {batch.id: batch.created_at or 0.0 for batch in batches}
        view = self._views.get(service)
        fresh = view is not None and last < view.at <= self.clock.now() < view.at + api.target.poll_interval_s
        if view is None or not fresh or not wanted.keys() <= view.batches.keys():
            everybody = self._expected.get(service, {}) | wanted
            view = await self._list(api, everybody) if len(everybody) > 1 else _View(self.clock.now())
            self._views[service] = view
        seen: dict[str, Batch | None] = {name: view.batches[name] for name in wanted if name in view.batches}
        # A list may say less of what ended than the answer to a question for it.
        short = {name for name, batch in seen.items() if batch and batch.ended and patience_s(batch)}
        unlisted = [batch for batch in batches if batch.id not in seen or batch.id in short]
        unlisted.sort(key=lambda batch: batch.looked_at or 0.0)
        for batch in unlisted[SINGLES:]:
            seen.pop(batch.id, None)
        for batch in unlisted[:SINGLES]:
            try:
                seen[batch.id] = await api.batch(batch.id)
            except NotFound:
                if batch.id in short:
                    continue
                proof = view if len(wanted) > 1 else await self._list(api, {batch.id: 0.0})
                if proof.whole or batch.id in proof.batches:
                    seen[batch.id] = proof.batches.get(batch.id)
        self._warn(seen)
        return view.at, seen

    def strays(self, service: str) -> list[Batch]:
        """What the latest list of a service showed alive beside the batches it was made for; told once."""
        return self._strays.pop(service, [])

    async def _list(self, api: Service, wanted: Mapping[str, float]) -> _View:
        """What the service's list shows of these batches. One that cannot be read to its end is no trouble: what it
        lacks is asked for by id."""
        seen: dict[str, Batch] = {}
        whole = True
        strays = self._strays[api.target.service] = []
        since = min(wanted.values()) - EARLIER_S
        try:
            async with aclosing(api.batches(wire.batch_filter(after=since) if since > 0 else None)) as batches:
                async for batch in batches:
                    if batch.id in wanted:
                        seen[batch.id] = batch
                        if len(seen) == len(wanted):
                            break
                    elif not batch.ended:
                        strays.append(batch)
        except Unintelligible as error:
            _log.warning("%s; %d of %d batches were in it", error, len(seen), len(wanted))
            whole = False
        return _View(self.clock.now(), seen, whole)

    def _warn(self, seen: Seen) -> None:
        for batch in seen.values():
            if batch is not None and batch.status not in STATUSES and batch.status not in self._warned:
                self._warned.add(batch.status)
                words = "batch %s has the status %r, which is not known here; it is taken for one that has not ended"
                _log.warning(words, batch.id, batch.status)
