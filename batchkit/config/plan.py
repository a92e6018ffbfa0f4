"""A plan → a Target: the credential it names, a gateway's headers, who is told, and the pool."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchkit.config import credentials, endpoint, entra
from batchkit.config.credentials import Credential, Secret
from batchkit.config.endpoint import LOOPBACK
from batchkit.config.target import Limits, Target, Webhook, make_target
from batchkit.errors import ConfigError, CredentialError, UnsafeEndpoint

_FRAMING = frozenset(
    "host content-length content-type content-encoding transfer-encoding accept-encoding connection upgrade".split()
)
_SECRET = re.compile(r"(proxy-)?authorization|(x-)?api-key|cookie|(.*-)?subscription-key", re.IGNORECASE)


@dataclass(frozen=True)
class Value:
    """A value and where it came from, in words."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Plan:
    """A target as it is written down, before any secret is looked for: its values by key, and a pool's members."""

    name: str
    where: str
    values: Mapping[str, Value]
    members: tuple[Plan, ...] = ()

    def get(self, key: str, default: Any = None) -> Any:
        found = self.values.get(key)
        return default if found is None else found.value


def build(plan: Plan, env: Mapping[str, str]) -> Target:
    """A plan made real. Raises ConfigError, CredentialError or MissingExtra with what to set."""
    if plan.members:
        members = tuple(build(member, env) for member in plan.members)
        told = tuple(dict.fromkeys(hook for member in members for hook in member.notify))
        remarks = tuple(f"{member.name}: {words}" for member in members for words in member.remarks)
        return replace(members[0], name=plan.name, pool=members, notify=told, remarks=remarks)
    target = service(plan, credential(plan, env))
    notify = _webhooks(plan.get("notify", []), f"{plan.where}, notify", env)
    return replace(target, notify=notify, headers=_headers(plan, env))


def service(plan: Plan, credential: Credential) -> Target:
    """The service that a plan names, opened by `credential`."""
    _check_headers(plan)
    limits = {item.name: plan.get(f"limits.{item.name}") for item in fields(Limits)}
    return make_target(
        plan.name,
        plan.get("endpoint"),
        credential,
        dialect=plan.get("dialect"),
        api_version=plan.get("api_version"),
        plain_http=plan.get("plain_http", False),
        deployment=plan.get("deployment"),
        poll_interval_s=plan.get("poll_interval_s"),
        expires_s=plan.get("expires_s"),
        create_endpoint=plan.get("create_endpoint"),
        limits=Limits(**{key: value for key, value in limits.items() if value is not None}),
    )


def credential(plan: Plan, env: Mapping[str, str]) -> Credential:
    """What opens a plan's service. A key in the environment is looked at now, others when they are needed."""
    dialect = plan.get("dialect")
    bearer = _bearer(plan)
    if plan.get("entra"):
        plain = plan.get("plain_http", False)
        host = urlsplit(endpoint.read(plan.get("endpoint"), dialect="openai", plain_http=plain).base_url).hostname or ""
        return entra.credential(host, env, scope=plan.get("scope"), client_id=plan.get("client_id"))
    if file := plan.get("key_file"):
        return credentials.file_credential(_at_home(plan, file), bearer=bearer)
    if argv := plan.get("key_command"):
        return credentials.command_credential(argv, bearer=bearer)
    if entry := plan.get("keyring"):
        return credentials.keyring_credential(entry, bearer=bearer)
    variable = plan.get("key_env") or ("OPENAI_API_KEY" if dialect == "openai" else "AZURE_OPENAI_API_KEY")
    try:
        secret = credentials.from_environment(variable, env)
    except CredentialError as error:
        azure = dialect != "openai"
        identity = ", or for Microsoft Entra ID pip install '.[entra]' and az login"
        if entra.installed():  # a mistyped or unknown host gets no token that nobody asked for
            identity = "; Entra ID at an address not Azure's: batchkit targets add NAME --endpoint … --entra"
        others = f"export {variable}=…, or set key_file, key_command, keyring{' or entra = true' if azure else ''}"
        hint = others if plan.name != "env" else f"export {variable}=…" + (identity if azure else "")
        raise CredentialError(f"{plan.where}: {error}", hint=hint) from None
    return Credential(secret, bearer=bearer, origin=f"the environment variable {variable}")


def _at_home(plan: Plan, file: str) -> Path:
    try:
        return Path(file).expanduser()
    except RuntimeError:
        raise ConfigError(f"{plan.where}: key_file {file!r} is in the home of nobody known here") from None


def _bearer(plan: Plan) -> bool:
    default = "bearer" if plan.get("dialect") == "openai" else "api-key"
    return bool(plan.get("entra")) or plan.get("auth", default) == "bearer"


def _check_headers(plan: Plan) -> None:
    """Hold a gateway's headers against what may be sent, and what may stand in a file."""
    own = "authorization" if _bearer(plan) else "api-key"
    for key in ("headers", "headers_env"):
        for name, value in plan.get(key, {}).items():
            where = f"{plan.where}: {key} {name!r}"
            if not name or not all(c.isalnum() or c in "-_" for c in name) or not name.isascii():
                raise ConfigError(f"{where} is no header's name")
            if key == "headers" and _SECRET.fullmatch(name):
                words = f"{where} is a secret, which the targets file never holds"
                raise ConfigError(words, hint="--header-env NAME=VARIABLE (headers_env); the key itself: --key-env")
            if name.lower() in _FRAMING or name.lower() == own:
                raise ConfigError(f"{where} is a header that batchkit itself sends", hint="leave it away")
            if not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise ConfigError(f"{where} has no plain text as its value")


def _headers(plan: Plan, env: Mapping[str, str]) -> dict[str, str | Secret]:
    """The headers of `headers = { name = "value" }` and `headers_env = { name = "VARIABLE" }`."""
    secret = {
        name: credentials.from_environment(variable, env) for name, variable in plan.get("headers_env", {}).items()
    }
    return {**plan.get("headers", {}), **secret}


def _webhooks(given: Any, where: str, env: Mapping[str, str]) -> tuple[Webhook, ...]:
    """The addresses of `notify = { url = "https://…", secret_env = "NAME", on = ["done", "change"] }`, or of a list."""
    hooks = []
    for table in given if isinstance(given, list) else [given]:
        typed(table, {"url": str, "secret_env": str, "on": list}, where)
        try:
            parts = urlsplit(table.get("url", ""))
            known = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            known = False
        if not known:
            raise ConfigError(f"{where}: url is not an address", hint='url = "https://hooks.example.com/batchkit"')
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise UnsafeEndpoint(f"{where}: {parts.hostname} would be told unencrypted")
        on = table.get("on", ["done"])
        if not on or any(word not in ("done", "change") for word in on):
            raise ConfigError(f"{where}: on lists done, change or both", hint='on = ["done", "change"]')
        variable = table.get("secret_env")
        secret = credentials.from_environment(variable, env) if variable else None
        hooks.append(Webhook(table["url"], frozenset(on), secret))
    return tuple(hooks)


def is_amount(key: str, value: float) -> bool:
    """Whether a number is one that a key can have. `expires_s = 0` stands for no expiry."""
    return 0 < value < math.inf or (key == "expires_s" and value == 0)


_KINDS: Mapping[Any, tuple[str, str]] = {
    str: ("text", '"…"'),
    bool: ("true or false", "true"),
    int: ("a whole number", "3600"),
    (int, float): ("a number", "60"),
    list: ("a list", '["…", "…"]'),
    dict: ("a table", '{ NAME = "…" }'),
    (dict, list): ("a table, or a list of them", '{ url = "…" }'),
}
"""What a value must be, in words, and how it is written."""


def typed(table: Any, keys: Mapping[str, Any], where: str) -> None:
    """Hold a table against the keys it may have: a misspelt key must not be ignored silently."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table")
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"{where} has an unknown key {key!r}", hint=f"known: {', '.join(keys)}")
        if not isinstance(value, keys[key]) or isinstance(value, bool) != (keys[key] is bool):
            words, example = _KINDS[keys[key]]
            raise ConfigError(f"{where}: {key} must be {words}", hint=f"write {key} = {example}, or leave it away")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and not is_amount(key, value):
            raise ConfigError(f"{where}: {key} must be more than 0, and finite")
        if key == "key_command" and not (value and all(isinstance(word, str) and word for word in value)):
            raise ConfigError(f"{where}: key_command lists a command and its arguments", hint='["pass", "show", "key"]')
