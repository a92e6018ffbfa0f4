"""The shared words: frozen values that pass between rooms. No I/O and no decisions beyond simple sums.

Times are Unix seconds (UTC), sizes are bytes, unless a name says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batchkit.model.reports import CheckReport as CheckReport
from batchkit.model.reports import Cost as Cost
from batchkit.model.reports import Finding as Finding
from batchkit.model.reports import Outcome as Outcome
from batchkit.model.reports import Problem as Problem
from batchkit.model.reports import Report as Report
from batchkit.model.reports import Result as Result
from batchkit.model.reports import Tokens as Tokens
from batchkit.model.reports import short

CHAT = "/v1/chat/completions"
URLS = ("/chat/completions", "/responses", "/embeddings", "/completions")
"""What a line's url may be, with or without /v1 in front."""

_PACE = ("validating", "in_progress", "cancelling", "finalizing", "failed", "expired", "cancelled", "completed")

STATUSES = frozenset(_PACE)
"""The service's statuses, as Azure documents them (Azure guide, "Track batch job progress")."""

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""The service's statuses after which a batch does not move any more. Anything else, known or not, is still moving."""


TOKEN_LIMIT = "token_limit_exceeded"  # noqa: S105  (a word of the service, no secret)
"""The service's word for a deployment whose enqueued-token quota is used up; it stands in a code or a message."""

LOST = "batch_lost"
GIVEN_UP = "given_up"
"""Our own codes for rows of a batch that the service forgot, or that the user gave up: they may have run."""


LONGEST_WAIT_S = 86_400.0
"""No wait is longer, whatever the service asks for. A time further ahead comes from a clock that was wrong."""

SILENT_S = 3600.0
"""How long a service must have been silent before it counts as one that cannot be asked."""


_MARK = re.compile("[0-9a-f]{16}")
_OF_THE_TARGET = frozenset({"model_not_found", "invalid_request"})
"""What validation says of a deployment that is not there, or is none for batches (Azure guide, "Troubleshooting")."""


class State(StrEnum):
    """Where a part stands, in our words (a batch's `status` is the service's word).

    The two intent states, UPLOADING and SUBMITTING, are written before the request they announce. Found after a
    crash they mean: look at the service before acting.
    """

    STAGED = "staged"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    SUBMITTING = "submitting"
    RUNNING = "running"
    ENDED = "ended"
    FETCHED = "fetched"
    SETTLED = "settled"
    DROPPED = "dropped"


COLLECTED = frozenset({State.FETCHED, State.SETTLED, State.DROPPED})
"""The states of a part of whose rows everything there is to know is on this machine."""


@dataclass(frozen=True, slots=True, repr=False)
class Line:
    """One request line: what the service is asked for one row.

    `custom_id` names the row and is unique in the job. `body` is the request of `url` with the deployment's name in
    `body["model"]`.
    """

    custom_id: str
    body: Mapping[str, Any]
    url: str = CHAT
    method: str = "POST"

    def __repr__(self) -> str:
        return f"Line(custom_id={short(self.custom_id)}, body={short(self.body)}, url={self.url!r})"


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by outcome, as the service counts them."""

    total: int = 0
    completed: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.total + other.total, self.completed + other.completed, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class ServiceError:
    """One error in the service's words: an entry of a failed batch, or the body of a refused request."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the service. `bytes` may be unknown until the file is processed."""

    id: str
    filename: str = ""
    bytes: int | None = None
    status: str = ""
    purpose: str = ""
    created_at: float | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An input file at a `service` and its `standing`: "needed" or "needless" where it is that of a `job` of this
    ledger, else "another ledger's" or "not ours"."""

    file: RemoteFile
    service: str
    standing: str
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch at its `service`, as last seen (`looked_at`); `ended_at` is when we first saw it ended."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    counts: Counts | None = None
    errors: tuple[ServiceError, ...] = ()
    created_at: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    looked_at: float | None = None
    ended_at: float | None = None
    service: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What no other batch has: two services may give the same id."""
        return self.service, self.id

    @property
    def part_id(self) -> str | None:
        """The part that its marks say it was made for; None where the service forgot or blanked them."""
        mark = self.metadata.get("batchkit_part", "")
        return mark if _MARK.fullmatch(mark) else None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def refused_for_quota(self) -> bool:
        """Whether it failed only because the deployment's queue was full: the late form of a refusal that in other
        regions the create call itself gives."""
        return self._refused and any(TOKEN_LIMIT in e.code + e.message for e in self.errors)

    @property
    def refused_by_target(self) -> bool:
        """Whether validation failed for what another target may have: the deployment, or its kind. What names a line
        is wrong with the lines, wherever they go."""
        return self._refused and all(e.line is None and e.code in _OF_THE_TARGET for e in self.errors)

    @property
    def _refused(self) -> bool:
        """Whether it failed before a row of it ran: what is done is paid for, and never asked again unasked."""
        did = self.output_file_id is not None or (self.counts is not None and self.counts.completed > 0)
        return self.status == "failed" and bool(self.errors) and not did


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """A slice of a round that fits one input file, and how far it has come.

    `target`, `service` and `deployment` say where it goes, or went: None while any of a pool will do. `sha256` and
    `bytes` are those of its lines; `sent_sha256` and `sent_bytes` of the copy that names another deployment, where one
    is sent. `place` orders the parts of a round. `held` says in words why a part waits, `next_try_at` until when at
    least; once it waits no more, `held` is why rows of it were done without. `doubt_at` is when a lost creation was
    taken for not done and made again, `listed_at` when twins were last looked for; `swept_at` when its input file was
    deleted. `batches` are all that were ever made or adopted for it, oldest first; the last one counts.
    """

    id: str
    job_id: str
    round: int
    number: int
    state: State
    lines: int
    bytes: int
    sha256: str
    file_id: str | None = None
    intent: str | None = None
    intent_at: float | None = None
    clean_at: float | None = None
    held: str | None = None
    next_try_at: float | None = None
    tries: int = 0
    place: float = 0.0
    target: str | None = None
    service: str | None = None
    deployment: str | None = None
    sent_sha256: str | None = None
    sent_bytes: int | None = None
    doubt_at: float | None = None
    listed_at: float | None = None
    swept_at: float | None = None
    batches: tuple[Batch, ...] = ()

    @property
    def batch(self) -> Batch | None:
        return self.batches[-1] if self.batches else None

    @property
    def counts(self) -> Counts:
        """Its rows, as the service counts them in the batch that counts."""
        seen = (self.batch.counts if self.batch else None) or Counts()
        return Counts(self.lines, seen.completed, seen.failed)

    @property
    def collected(self) -> bool:
        """Whether everything there is to know of its rows is on this machine."""
        return self.state in COLLECTED

    @property
    def file_name(self) -> str:
        """The name of the input file at the service: ours, unique, and made from the content."""
        return f"batchkit-{self.job_id}-{self.round}-{self.number:03d}-{(self.sent_sha256 or self.sha256)[:12]}.jsonl"

    @property
    def size(self) -> int:
        """The bytes of the input file at the service."""
        return self.bytes if self.sent_bytes is None else self.sent_bytes

    def __repr__(self) -> str:
        batch = f", {self.batch.id} {self.batch.status}" if self.batch else ""
        return f"<Part {self.round}-{self.number}: {self.state}, lines: {self.lines}{batch}>"


@dataclass(frozen=True, slots=True)
class Queue:
    """What the ledger knows of a deployment's queue: the `bytes` of our parts in it, the limit in `tokens` where the
    service named it, how often in a row it was full (`tries`), until when it is left alone, and `why`."""

    bytes: int = 0
    tokens: int | None = None
    tries: int = 0
    next_try_at: float | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's diary."""

    at: float
    kind: str
    detail: str
    part: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Job:
    """What the user asked for under one name: a snapshot from the ledger.

    `service` is the base URL the job belongs to; its files and batches exist nowhere else.
    `aside` are the targets of a pool whose validation refused the job; its parts go to the others.
    `events`, the job's diary, is filled by `show` only.
    """

    id: str
    name: str
    sha256: str
    service: str
    target: str
    url: str
    deployment: str
    created_at: float
    parts: tuple[Part, ...] = ()
    settled_at: float | None = None
    cancelled_at: float | None = None
    aside: tuple[str, ...] = ()
    outcome: Outcome | None = None
    events: tuple[Event, ...] = ()

    @property
    def lines(self) -> int:
        """How many rows went in (rounds after the first repeat rows and do not count)."""
        return sum(part.lines for part in self.parts if part.round == 0)

    @property
    def round(self) -> int:
        return max((part.round for part in self.parts), default=0)

    @property
    def latest(self) -> tuple[Part, ...]:
        """The parts of the latest round."""
        number = self.round
        return tuple(part for part in self.parts if part.round == number)

    @property
    def state(self) -> State:
        """The state of the part that is furthest behind."""
        live = [part.state for part in self.parts if part.state is not State.DROPPED]
        order = list(State)
        return min(live, key=order.index) if live else State.DROPPED

    @property
    def status(self) -> str:
        """The service's status of the batch furthest behind in the latest round; "" before any batch exists."""
        statuses = [part.batch.status for part in self.latest if part.batch]
        return min(statuses, key=lambda status: _PACE.index(status) if status in _PACE else -1, default="")

    @property
    def counts(self) -> Counts:
        """The service's row counts, summed over the batches of the latest round."""
        return sum((part.counts for part in self.latest), Counts())

    @property
    def so_far(self) -> Outcome:
        """Where every row stands, each counted once: how the job ended, or before that as the service counts. A row
        that is asked again is pending until that round counts it, whatever the rounds before said of it."""
        if self.outcome is not None:
            return self.outcome
        moving = [part for part in self.parts if not part.collected]
        pending = sum(max(0, part.lines - part.counts.completed - part.counts.failed) for part in moving)
        ok = min(sum(part.counts.completed for part in self.parts), self.lines - pending)
        return Outcome(self.lines, ok, self.lines - pending - ok, 0, pending=pending)

    @property
    def collected(self) -> bool:
        """Whether everything there is to know of its rows is on this machine."""
        return all(part.collected for part in self.parts)

    @property
    def owed(self) -> bool:
        """Whether it waits for what the service owes it: a batch that it does not know, or files that it does not
        name; not for another target to take what one refused."""
        waiting = [part for part in self.parts if part.state is State.RUNNING and part.held]
        return any(not (part.batch and part.batch.refused_by_target) for part in waiting)

    @property
    def held(self) -> str | None:
        """Why the job waits."""
        return next((part.held for part in self.parts if part.held and not part.collected), None)

    def __repr__(self) -> str:
        rows = self.so_far
        pending = f" + {rows.pending} pending" if rows.pending else ""
        account = f"rows: {rows.total} = {rows.ok} ok + {rows.failed} failed + {rows.missing} missing{pending}"
        return f"<Job {self.name!r}: {self.status or self.state}; {account}>"


@dataclass(frozen=True, slots=True)
class Next:
    """What a turn says: done, or look again at `at` (clock seconds) and why it waits."""

    at: float | None = None
    why: str = ""

    @property
    def done(self) -> bool:
        return self.at is None


DONE = Next()
