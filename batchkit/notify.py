"""Who is told when a job moves or ends: commands and webhooks.

`due` decides from the job and its diary; `Notifier.tell` acts and writes each notice into the diary once it is out.
The end is told *before* the job is settled in the ledger, by the one who holds it: after a crash in between it is not
settled, so that the next turn tells it, at least once, and twice only when the crash came between the notice and its
line in the diary. Its `Idempotency-Key` is then the same. A job that ended where nobody was to be told is told of by
the first who names it and has somebody to tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import orjson

from batchkit.clock import Clock
from batchkit.config import Settings, Webhook
from batchkit.config.credentials import Secret
from batchkit.disk import local_errors
from batchkit.errors import BatchkitError, LocalError
from batchkit.logs import NOT_TOLD
from batchkit.model import Event, Job
from batchkit.model.document import job as document
from batchkit.text import visible

_log = logging.getLogger(NOT_TOLD)
TOLD, UNTOLD = "told", "untold"
"""The kinds of events for a notice that is out, and for one that was given up."""
COMMAND_S = 300.0
"""How long a command may run."""
SAID = 20
"""How many of its last lines are passed on."""
_PRIVATE = frozenset(
    "AZURE_OPENAI_API_KEY AZURE_OPENAI_AD_TOKEN OPENAI_API_KEY AZURE_CLIENT_SECRET BATCHKIT_EMULATOR_KEY".split()
)
_OURS = frozenset(("BATCHKIT_ON_DONE", "BATCHKIT_ON_CHANGE"))
"""A command that runs batchkit must not be called by that again."""


@dataclass(frozen=True, slots=True)
class Command:
    """A shell command that is run `when` a job is done, or at each change."""

    when: str
    shell: str

    @property
    def on(self) -> frozenset[str]:
        return frozenset((self.when,))


Channel = Command | Webhook


@dataclass(frozen=True, slots=True)
class Notice:
    """A channel is due to hear a `word`, done or change. `mark` says of what, for the diary; `key` names the notice."""

    channel: Channel
    word: str
    mark: str
    key: str


def due(job: Job, diary: Sequence[Event], channels: Sequence[Channel]) -> list[Notice]:
    """The notices that nobody sent yet. Pure.

    A settled job is done, once a round. A change is another state, status or round than was told last, or that it
    begins or ceases to wait. Who hears that a job is done does not hear the change to it. One command hears of an end,
    whoever gave it: its words may differ at each call.
    """
    found = []
    for channel in channels:
        name = f"{name_of(channel)}: "
        notices = [event.detail for event in diary if event.kind in (TOLD, UNTOLD)]
        told = [detail.removeprefix(name) for detail in notices if detail.startswith(name)]
        done = f"done {job.round}"
        change = f"change {job.round} {job.state} {visible(job.status, 60)}{' held' if job.held else ''}".rstrip()
        if job.settled_at is not None and "done" in channel.on:
            by_command = isinstance(channel, Command) and any(
                detail.startswith(f"{_kind(channel)} ") and detail.endswith(f": {done}") for detail in notices
            )
            if done not in told and not by_command:
                found.append(Notice(channel, "done", done, f"{job.id}-done-{job.round}"))
        elif "change" in channel.on and told[-1:] != [change]:
            found.append(Notice(channel, "change", change, f"{job.id}-change-{len(told)}"))
    return found


def name_of(channel: Channel) -> str:
    """What a channel is called in the diary and in warnings. Commands and addresses may hold secrets and stay away."""
    text = channel.url if isinstance(channel, Webhook) else channel.shell
    return f"{_kind(channel)} {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _kind(channel: Channel) -> str:
    return visible(channel.host, 100) if isinstance(channel, Webhook) else f"--on-{channel.when}"


class Record(Protocol):
    """Writes a line into the job's diary."""

    def __call__(self, kind: str, detail: str, *, at: float) -> Awaitable[None]: ...


class Notifier:
    """Tells channels what is due. Trouble with one is a warning, and the notice is given up."""

    def __init__(
        self, channels: Sequence[Channel], *, clock: Clock, settings: Settings, secrets: Collection[Secret]
    ) -> None:
        self.channels, self._clock, self._settings = tuple(channels), clock, settings
        self._secrets = [*secrets, *(hook.secret for hook in channels if isinstance(hook, Webhook) and hook.secret)]

    async def tell(self, job: Job, diary: Sequence[Event], record: Record) -> None:
        """Send what is due, webhooks first, and write down each that is out before the next is sent."""
        body = orjson.dumps(document(job))
        for notice in sorted(due(job, diary, self.channels), key=lambda notice: isinstance(notice.channel, Command)):
            name, kind = name_of(notice.channel), TOLD
            try:
                await self._send(notice, job, body)
            except BatchkitError as error:
                words = "job %r: %s failed at %r: %s; it is not told of it again"
                _log.warning(words, job.name, name, notice.mark, error)
                kind = UNTOLD
            await record(kind, f"{name}: {notice.mark}", at=self._clock.now())

    async def _send(self, notice: Notice, job: Job, body: bytes) -> None:
        channel = notice.channel
        if isinstance(channel, Command):
            await _run(channel, body, environment(os.environ, job, self._secrets))
        else:
            from batchkit.api.webhook import post  # what only asks what is due must not load the network

            clock, settings = self._clock, self._settings
            await post(channel, body, word=notice.word, key=notice.key, clock=clock, settings=settings)


def environment(env: Mapping[str, str], job: Job, secrets: Collection[Secret]) -> dict[str, str]:
    """What a command finds in its environment: ours without keys, and which job it is about."""
    hidden = [secret.reveal() for secret in secrets]
    kept = {
        name: value
        for name, value in env.items()
        if name not in _PRIVATE | _OURS and not any(secret in value for secret in hidden)
    }
    about = {"": job.name, "_ID": job.id, "_STATE": job.state, "_STATUS": visible(job.status, 60)}
    return kept | {f"BATCHKIT_JOB{name}": value for name, value in about.items()}  # none of them is a flag's form


async def _run(command: Command, body: bytes, env: Mapping[str, str]) -> None:
    """Run a command to its end with the document on its stdin. What it says becomes talk: stdout is for data.

    Raises LocalError when it fails or takes too long. It is a group of its own, and stopped as a whole.
    """
    with local_errors(f"--on-{command.when}"):
        process = await asyncio.create_subprocess_shell(
            command.shell, stdin=PIPE, stdout=PIPE, stderr=STDOUT, env=env, start_new_session=True
        )
    try:
        async with asyncio.timeout(COMMAND_S):
            said, _ = await process.communicate(body)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, TimeoutError):
            raise LocalError(f"it took longer than {COMMAND_S:.0f} s and was stopped") from None
        raise
    for line in said.decode("utf-8", "replace").splitlines()[-SAID:]:
        _log.info("--on-%s: %s", command.when, line)
    if process.returncode:
        raise LocalError(f"it ended with exit code {process.returncode}")
