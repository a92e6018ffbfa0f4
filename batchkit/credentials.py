"""Secrets that cannot be printed, and the places one may come from. Never from a command-line argument."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from batchkit.errors import CredentialError


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


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret and how it is sent: as `api-key: …`, or as `Authorization: Bearer …` (`bearer`)."""

    secret: Secret
    bearer: bool

    @property
    def header(self) -> tuple[str, str]:
        value = self.secret.reveal()
        return ("Authorization", f"Bearer {value}") if self.bearer else ("api-key", value)


def from_environment(name: str, env: Mapping[str, str]) -> Secret:
    """The secret in the environment variable `name`."""
    return _usable(env.get(name, ""), f"the environment variable {name}", f"export {name}=…")


def from_file(path: Path) -> Secret:
    """The secret in a file that only its owner can read."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise CredentialError(f"{path} can be read by others (mode {mode:04o})", hint=f"chmod 600 {path}")
            return _usable(file.read(), str(path), f"put the key into {path}")
    except (OSError, UnicodeDecodeError):
        raise CredentialError(f"the key file {path} could not be read", hint="check key_file") from None


def _usable(value: str, where: str, hint: str) -> Secret:
    value = value.strip()
    if not value:
        raise CredentialError(f"no key found in {where}", hint=hint)
    if not (value.isascii() and value.isprintable()):
        raise CredentialError(f"the key in {where} has characters no key has", hint="copy it again, without quotes")
    return Secret(value)
