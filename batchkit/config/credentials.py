"""Secrets that cannot be printed, and the places one may come from. Never from a command-line argument."""

from __future__ import annotations

import asyncio
import hmac
import math
import os
import shlex
import stat
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar
from weakref import WeakKeyDictionary

from batchkit.aside import begin
from batchkit.errors import CredentialError, MissingExtra, Unavailable
from batchkit.text import visible

COMMAND_TIMEOUT_S = 30.0
KEYRING_TIMEOUT_S = 3.0
"""An OS keyring that asks nobody answers at once; one that hangs must not hang us."""
RENEW_AGAIN_S = 30.0
"""After another secret could not be had, while the one held is still good."""
T = TypeVar("T")


class Secret:
    """A key or token. Printing, formatting, pickling or logging it shows `***`; `reveal()` is the only way in."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(Secret)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


class Fetched(NamedTuple):
    """A secret that was got, from when on another is asked for, and until when it is good itself (Unix times)."""

    secret: Secret
    renew_at: float = math.inf
    until: float = math.inf


Fetch = Callable[[bool], Awaitable[Fetched]]
"""Get a secret; told whether the last was refused."""


class Credential:
    """What opens a service: a secret, sent as `api-key: …`, or as `Authorization: Bearer …` (`bearer`).

    One that has a `fetch` is got when it is first needed, when its time is over, and when the service refused it; where
    no other can be had, it is used as long as it is good. It is kept in memory only. `origin` says in words where it
    comes from; `private` are secrets that it is got with, `entra` whether it is a token of Microsoft Entra ID.
    """

    def __init__(
        self,
        held: Secret | None,
        *,
        bearer: bool,
        origin: str = "given",
        fetch: Fetch | None = None,
        private: Sequence[Secret] = (),
        entra: bool = False,
    ) -> None:
        self.bearer, self.origin, self.entra = bearer, origin, entra
        self._held, self._fetch, self._private = held, fetch, tuple(private)
        self._renew_at = self._until = math.inf
        self._asking: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Credential: {self.origin}>"

    @property
    def known(self) -> tuple[Secret, ...]:
        """The secrets that must not be seen anywhere."""
        return (*self._private, self._held) if self._held is not None else self._private

    async def secret(self, refused: Secret | None = None) -> Secret:
        """The secret for a request; another than the one the service `refused`, if there is one.

        Raises CredentialError where there is none, Unavailable where none can be had now, though there was one.
        """
        if self._fetch is not None:
            async with self._asking.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                if self._held is None or self._held == refused or time.time() >= self._renew_at:
                    await self._renew(self._fetch, self._held is not None and self._held == refused)
        if self._held is None:
            raise CredentialError
        return self._held

    async def _renew(self, fetch: Fetch, refused: bool) -> None:
        try:
            self._held, self._renew_at, self._until = await fetch(refused)
        except (CredentialError, Unavailable) as error:
            if self._held is None:
                raise
            now = time.time()
            if refused or now >= self._until:
                raise Unavailable(str(error), hint=error.hint) from None  # it was there: an outage, no setting
            self._renew_at = min(now + RENEW_AGAIN_S, self._until)

    def header(self, secret: Secret) -> tuple[str, str]:
        """The header that carries it."""
        return ("Authorization", f"Bearer {secret.reveal()}") if self.bearer else ("api-key", secret.reveal())


def hidden(text: str, secrets: Sequence[Secret]) -> str:
    """`text` with every secret in it as `***`."""
    for secret in secrets:
        text = text.replace(secret.reveal(), "***") if secret.reveal() else text
    return text


def from_environment(name: str, env: Mapping[str, str]) -> Secret:
    """The secret in the environment variable `name`."""
    return _usable(env.get(name, ""), f"the environment variable {name}", f"export {name}=…")


def from_file(path: Path) -> Secret:
    """The secret in a file that only its owner can read."""
    try:
        with open(path, encoding="utf-8", opener=_at_once) as file:
            status = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(status):
                raise CredentialError(f"the key file {path} is no regular file", hint="check key_file")
            mode = stat.S_IMODE(status)
            if mode & 0o077:
                raise CredentialError(f"{path} can be read by others (mode {mode:04o})", hint=f"chmod 600 {path}")
            return _usable(file.read(), str(path), f"put the key into {path}")
    except (OSError, UnicodeDecodeError):
        raise CredentialError(f"the key file {path} could not be read", hint="check key_file") from None


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def file_credential(path: Path, *, bearer: bool) -> Credential:
    """The secret in a file, read again when the service refuses it: keys are rotated under long jobs."""

    async def fetch(_: bool) -> Fetched:
        return Fetched(from_file(path))

    return Credential(from_file(path), bearer=bearer, origin=f"the file {path}", fetch=fetch)


def command_credential(argv: Sequence[str], *, bearer: bool) -> Credential:
    """What a command prints, run without a shell when a key is needed, and again when the service refuses it."""

    async def fetch(_: bool) -> Fetched:
        return Fetched(await _printed(argv))

    return Credential(None, bearer=bearer, origin=f"the command {argv[0]}", fetch=fetch)


def split_command(text: str) -> list[str]:
    """A command line as the arguments it is run with, without a shell."""
    try:
        argv = shlex.split(text)
    except ValueError:
        argv = []
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    if not argv or any(set(word) <= set("|&;<>()") for word in list(lexer) if word):
        words = "--key-command is not one command with its arguments, and no shell is run"
        raise CredentialError(words, hint="--key-command 'pass show azure/key', or sh -c '…' where a shell is meant")
    return argv


async def _printed(argv: Sequence[str]) -> Secret:
    """Its stderr may hold the key and is not read. A session of its own keeps Ctrl-C from it, and lets all be ended."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=nothing, stdout=pipe, stderr=nothing, start_new_session=True
        )
    except OSError as error:
        words = f"key_command {argv[0]}: {(error.strerror or str(error)).lower()}"
        raise CredentialError(words, hint="check key_command") from None
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            out, _ = await process.communicate()
    except TimeoutError:
        words = f"key_command {argv[0]} printed no key within {COMMAND_TIMEOUT_S:.0f} s"
        raise CredentialError(words, hint="run it by hand: it must not ask anything") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
    printed = out.decode("utf-8", "replace").strip()
    if process.returncode:
        words = f"key_command {argv[0]} ended with exit code {process.returncode}"
        raise CredentialError(words, hint="run it by hand to see what it says: it may hold the key")
    return _usable(printed, f"what key_command {argv[0]} printed", "run it by hand: it is to print the key alone")


def keyring_credential(entry: str, *, bearer: bool) -> Credential:
    """The secret that the OS keyring keeps as `SERVICE/USER`. Raises MissingExtra without the extra `keyring`."""
    service, _, user = entry.rpartition("/")
    if not (service and user):
        raise CredentialError(f"keyring is SERVICE/USER, not {entry!r}", hint='keyring = "batchkit/prod"')
    if find_spec("keyring") is None:
        raise MissingExtra("the keyring needs an extra that is not installed", hint="pip install '.[keyring]'")

    async def fetch(_: bool) -> Fetched:
        def ask() -> str:
            import keyring

            return keyring.get_password(service, user) or ""

        hint = f"keyring set {shlex.quote(service)} {shlex.quote(user)}"
        try:
            found = await aside(ask, KEYRING_TIMEOUT_S)
        except TimeoutError:
            words = f"the keyring did not answer within {KEYRING_TIMEOUT_S:.0f} s"
            raise CredentialError(words, hint="unlock it, or use key_file or key_command") from None
        except Exception as error:  # noqa: BLE001  (each operating system's store has errors of its own)
            words = f"the keyring refused: {type(error).__name__}: {visible(str(error), 300)}"
            raise CredentialError(words, hint="unlock it, or use key_file or key_command") from None
        return Fetched(_usable(found, f"the keyring under {entry}", hint))

    return Credential(None, bearer=bearer, origin=f"the keyring's {entry}", fetch=fetch)


async def aside(work: Callable[[], T], timeout_s: float) -> T:
    """What `work` returns, done in a thread that nobody waits for longer: not even the end of the process."""
    async with asyncio.timeout(timeout_s):
        return await asyncio.wrap_future(begin(work))


def _usable(value: str, where: str, hint: str) -> Secret:
    value = value.strip()
    if not value:
        raise CredentialError(f"no key found in {where}", hint=hint)
    if not (value.isascii() and value.isprintable()):
        raise CredentialError(f"the key in {where} has characters no key has", hint="copy it again, without quotes")
    return Secret(value)
