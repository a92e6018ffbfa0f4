"""Where the settings come from: flags > environment > targets file > defaults, ending in one `Target`.

A target named by `--target` (or `BATCHKIT_TARGET`) is taken from the file as a whole; without a name the variables
people already have set are a target of their own, and the file's `default` comes last.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from batchkit import credentials
from batchkit.credentials import Credential, Secret
from batchkit.errors import ConfigError, CredentialError, UnsafeEndpoint

Dialect = Literal["dated", "v1", "openai"]
DIALECTS: tuple[Dialect, ...] = ("dated", "v1", "openai")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LOCAL_POLL_S = 2.0
"""A service on this machine may be asked more often."""
MIN_POLL_S = 60.0
"""Microsoft asks to wait at least 60 seconds between status calls (Azure guide, "Track batch job progress")."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input file may hold. Data, not code, since the published pages disagree (Azure: 100,000 requests and
    200 MB, decimal or binary left open; OpenAI: 50,000)."""

    max_lines: int = 100_000
    max_bytes: int = 200_000_000
    enqueued_tokens: int | None = None
    """How many tokens of all that is submitted the deployment's queue may hold; None: learned from the service."""
    files: int | None = None
    """How many input files the resource may hold. None: 500, or 10,000 with expiry, on Azure (its limits page)."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that notices are posted to: which (`on`: done, change), and the secret that signs them.

    The address may itself be a secret, so only its `host` is ever shown.
    """

    url: str = field(repr=False)
    on: frozenset[str]
    secret: Secret | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class Target:
    """Endpoint + deployment + credential + limits, under a name.

    `base_url` is where `/files` and `/batches` hang; `api_version` goes into the query where given. Input and output
    files are asked to expire after `expires_s` seconds (Azure documents 14 to 30 days; `0`: do not ask).
    `create_endpoint` overrides the `endpoint` sent when a batch is created. `identity` names the service for the
    ledger where its address is not fixed. `notify` are told when a job moves or ends. `pool` are the targets that share
    a job's parts, where there are several; its own address is that of the first.
    """

    name: str
    base_url: str
    dialect: Dialect
    credential: Credential = field(repr=False)
    api_version: str | None = None
    deployment: str | None = None
    poll_interval_s: float = MIN_POLL_S
    expires_s: int = 14 * 86400
    create_endpoint: str | None = None
    limits: Limits = Limits()
    identity: str | None = None
    notify: tuple[Webhook, ...] = ()
    pool: tuple[Target, ...] = ()

    @property
    def members(self) -> tuple[Target, ...]:
        """The targets that parts may go to: those of a pool, or this one."""
        return self.pool or (self,)

    @property
    def service(self) -> str:
        """What a job belongs to for ever: on Azure the resource, whose dialects share their files and batches."""
        if self.pool:
            return " + ".join(sorted({member.service for member in self.pool}))
        return self.identity or (self.base_url.split("/openai")[0] if self.azure else self.base_url)

    @property
    def azure(self) -> bool:
        return self.dialect != "openai"

    @property
    def max_files(self) -> int | None:
        """How many input files the resource may hold."""
        if self.limits.files is not None or not self.azure:
            return self.limits.files
        return 10_000 if self.expires_s else 500

    @property
    def output_expiry(self) -> bool:
        """Whether `output_expires_after` is known: v1, and the dated API from 2025-04-01-preview."""
        return self.dialect == "v1" or (self.dialect == "dated" and (self.api_version or "") >= "2025-04-01")

    @property
    def filters(self) -> bool:
        """Whether lists of batches take `$filter`: in dated previews from 2024-10-01 on (Azure API descriptions)."""
        version = self.api_version or ""
        return self.dialect == "dated" and version >= "2024-10-01" and version.endswith("-preview")

    @property
    def local(self) -> bool:
        return urlsplit(self.base_url).hostname in LOOPBACK


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of our own conduct, all in seconds unless they say otherwise."""

    settle_window_s: float = 180.0
    relist_after_s: float = 60.0
    file_poll_s: float = 5.0
    quota_wait_s: float = 60.0
    quota_wait_cap_s: float = 1800.0
    grace_s: float = 10.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    call_timeout_s: float = 300.0
    create_timeout_s: float = 75.0
    """A creating request must be over before the lease is, which is renewed just before it is sent."""
    max_attempts: int = 5
    max_attempts_s: float = 120.0
    retry_after_cap_s: float = 900.0

    def quota_wait(self, tries: int) -> float:
        """Seconds to wait after the `tries`-th refusal for quota: doubling, with a cap, for as long as it takes."""
        return min(self.quota_wait_cap_s, self.quota_wait_s * 2.0 ** min(tries - 1, 20))


def data_home(env: Mapping[str, str] = os.environ) -> Path:
    """Where the ledger lives unless told otherwise: per user, not per directory, since cron's differs."""
    if "XDG_DATA_HOME" in env:
        return Path(env["XDG_DATA_HOME"]) / "batchkit"
    base = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".local/share")
    return base / "batchkit"


def config_file(env: Mapping[str, str] = os.environ) -> Path:
    """Where the targets file is looked for unless told otherwise."""
    base = Path(env["XDG_CONFIG_HOME"]) if "XDG_CONFIG_HOME" in env else Path.home() / ".config"
    return base / "batchkit" / "targets.toml"


def load_target(
    name: str | None = None,
    *,
    config: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> Target:
    """The target to work with, by the precedence this module states.

    Raises ConfigError or CredentialError with what to set.
    """
    name = name or env.get("BATCHKIT_TARGET") or None
    if config is None and env.get("BATCHKIT_CONFIG"):
        config = Path(env["BATCHKIT_CONFIG"])
    if name is None and not config:
        found = _from_environment(env)
        if found is not None:
            return found
    path = config or config_file(env)
    document = _read(path) if config or path.exists() else {}
    tables = document.get("targets", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: targets is not a table", hint="write [targets.NAME]")
    if name is None:
        name = document.get("default") or (next(iter(tables)) if len(tables) == 1 else None)
    if name is None:
        raise ConfigError(
            "no service to talk to: no target is named and no endpoint is set",
            hint="export AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com AZURE_OPENAI_API_KEY=…, "
            "or try without an account: add --emulator",
        )
    if name not in tables:
        known = f"known: {', '.join(sorted(tables)) or 'none'}" if path.exists() else "there is no such file"
        raise ConfigError(f"target {name!r} is not in {path} ({known})", hint="check --target and --config")
    return _from_tables(name, tables, path, env)


def make_target(
    name: str,
    endpoint: str,
    credential: Credential,
    *,
    dialect: Dialect,
    api_version: str | None = None,
    **options: Any,
) -> Target:
    """A target from an endpoint as people write it: with or without `/openai`, `/openai/v1` or a trailing slash."""
    endpoint = endpoint.strip()
    if "@" in endpoint:
        raise ConfigError("the endpoint must not hold a user name or password", hint="give the address alone")
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0 and endpoint.isascii()
    except ValueError:
        known = False
    if not known:
        raise ConfigError(f"{endpoint!r} is not an endpoint", hint="it looks like https://NAME.openai.azure.com")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UnsafeEndpoint(f"{endpoint!r} would send the key unencrypted")
    base = f"{parts.scheme}://{parts.netloc}"
    if dialect == "openai":
        base += parts.path.rstrip("/")
    elif parts.path.rstrip("/") in ("", "/openai", "/openai/v1"):
        base += "/openai/v1" if dialect == "v1" else "/openai"
    else:
        raise ConfigError(
            f"{endpoint!r} has a path that does not belong to an Azure endpoint",
            hint=f"use {base} alone: files and batches belong to the resource, not to a deployment",
        )
    if dialect == "dated" and not api_version:
        raise ConfigError(
            "the dated API needs an api-version", hint="export OPENAI_API_VERSION=2025-04-01-preview, or use v1"
        )
    interval_s = LOCAL_POLL_S if parts.hostname in LOOPBACK else MIN_POLL_S
    target = Target(name, base, dialect, credential, api_version=api_version, poll_interval_s=interval_s)
    target = replace(target, **{key: value for key, value in options.items() if value is not None})
    if target.azure and not target.local and target.poll_interval_s < MIN_POLL_S:
        raise ConfigError("poll_interval_s is below 60: Azure asks for at least a minute between status calls")
    return target


def _from_environment(env: Mapping[str, str]) -> Target | None:
    if endpoint := env.get("AZURE_OPENAI_ENDPOINT"):
        version = env.get("OPENAI_API_VERSION") or None
        v1 = version in (None, "v1", "preview") or urlsplit(endpoint).path.rstrip("/").endswith("/v1")
        return make_target(
            "env",
            endpoint,
            _azure_credential(env),
            dialect="v1" if v1 else "dated",
            api_version=(version if version == "preview" else None) if v1 else version,
            deployment=env.get("AZURE_OPENAI_DEPLOYMENT"),
        )
    if env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_KEY"):
        endpoint = env.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        azure = (urlsplit(endpoint).hostname or "").endswith((".openai.azure.com", ".services.ai.azure.com"))
        key = credentials.from_environment("OPENAI_API_KEY", env)
        return make_target("env", endpoint, Credential(key, bearer=True), dialect="v1" if azure else "openai")
    return None


def _azure_credential(env: Mapping[str, str]) -> Credential:
    if env.get("AZURE_OPENAI_AD_TOKEN") and not env.get("AZURE_OPENAI_API_KEY"):
        return Credential(credentials.from_environment("AZURE_OPENAI_AD_TOKEN", env), bearer=True)
    return Credential(credentials.from_environment("AZURE_OPENAI_API_KEY", env), bearer=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}", hint="check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


_KEYS = {
    "endpoint": str,
    "dialect": str,
    "api_version": str,
    "deployment": str,
    "key_env": str,
    "key_file": str,
    "auth": str,
    "poll_interval_s": (int, float),
    "expires_s": int,
    "create_endpoint": str,
    "limits": dict,
    "notify": (dict, list),
    "pool": list,
}


def _from_tables(name: str, tables: Mapping[str, Any], path: Path, env: Mapping[str, str]) -> Target:
    """A target, or a pool of them: `pool = ["east", "west"]`."""
    table, where = tables[name], f"{path}, target {name!r}"
    if not isinstance(table, dict) or "pool" not in table:
        return _from_table(name, table, path, env)
    _typed(table, _KEYS, where)
    others = [key for key in table if key != "pool"]
    wrong = [str(item) for item in table["pool"] if not isinstance(tables.get(item), dict) or "pool" in tables[item]]
    if others or wrong or not table["pool"]:
        words = f"{where}: a pool lists other targets of this file, and has nothing else"
        raise ConfigError(f"{words}: {', '.join(others + wrong) or 'it is empty'}", hint='pool = ["east", "west"]')
    members = tuple(_from_table(item, tables[item], path, env) for item in dict.fromkeys(table["pool"]))
    told = tuple(dict.fromkeys(hook for member in members for hook in member.notify))
    return replace(members[0], name=name, pool=members, notify=told)


def _from_table(name: str, table: Any, path: Path, env: Mapping[str, str]) -> Target:
    where = f"{path}, target {name!r}"
    _typed(table, _KEYS, where)
    if "endpoint" not in table:
        raise ConfigError(f"{where} has no endpoint")
    limits = table.get("limits", {})
    _typed(limits, {item.name: int for item in fields(Limits)}, f"{where}, limits")
    dialect = table.get("dialect") or ("dated" if "api_version" in table else "v1")
    if dialect not in DIALECTS:
        raise ConfigError(f"{where}: dialect is one of {', '.join(DIALECTS)}, not {dialect!r}")
    auth = table.get("auth") or ("bearer" if dialect == "openai" else "api-key")
    if auth not in ("api-key", "bearer"):
        raise ConfigError(f"{where}: auth is api-key or bearer, not {auth!r}")
    return make_target(
        name,
        table["endpoint"],
        Credential(_secret(table, dialect, where, env), bearer=auth == "bearer"),
        dialect=dialect,
        api_version=table.get("api_version"),
        deployment=table.get("deployment"),
        poll_interval_s=table.get("poll_interval_s"),
        expires_s=table.get("expires_s"),
        create_endpoint=table.get("create_endpoint"),
        limits=Limits(**limits),
        notify=_webhooks(table.get("notify", []), f"{where}, notify", env),
    )


def _webhooks(given: Any, where: str, env: Mapping[str, str]) -> tuple[Webhook, ...]:
    """The addresses of `notify = { url = "https://…", secret_env = "NAME", on = ["done", "change"] }`, or of a list."""
    hooks = []
    for table in given if isinstance(given, list) else [given]:
        _typed(table, {"url": str, "secret_env": str, "on": list}, where)
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


def _secret(table: Mapping[str, Any], dialect: str, where: str, env: Mapping[str, str]) -> Secret:
    if "key_file" in table:
        return credentials.from_file(Path(table["key_file"]).expanduser())
    variable = table.get("key_env") or ("OPENAI_API_KEY" if dialect == "openai" else "AZURE_OPENAI_API_KEY")
    try:
        return credentials.from_environment(variable, env)
    except CredentialError as error:
        raise CredentialError(f"{where}: {error}", hint=f"export {variable}=…, or set key_file") from None


def _typed(table: Any, keys: Mapping[str, Any], where: str) -> None:
    """Hold a table against the keys it may have: a misspelt key must not be ignored silently."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table")
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"{where} has an unknown key {key!r}", hint=f"known: {', '.join(keys)}")
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise ConfigError(f"{where}: {key} has the wrong type")
        if isinstance(value, (int, float)) and value <= 0 and key != "expires_s":
            raise ConfigError(f"{where}: {key} must be more than 0")
