"""What a service is and how we behave toward it: Target, Limits, Settings. `targets` says where they come from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchkit.config import endpoint as endpoints
from batchkit.config.credentials import Credential, Secret
from batchkit.config.endpoint import LOOPBACK as LOOPBACK
from batchkit.config.endpoint import Dialect as Dialect
from batchkit.errors import ConfigError
from batchkit.given import expect_numbers
from batchkit.model.moving import POOLED

LOCAL_POLL_S = 2.0
"""A service on this machine may be asked more often."""
MIN_POLL_S = 60.0
"""Microsoft asks to wait at least 60 seconds between status calls (Azure guide, "Track batch job progress")."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one input file may hold. Data, not code, since the published pages disagree (Azure: 100,000 requests and
    200 MB, decimal or binary left open; OpenAI: 50,000). Raises ConfigError for what is no number from 1 on."""

    max_lines: int = 100_000
    max_bytes: int = 200_000_000
    enqueued_tokens: int | None = None
    """How many tokens of all that is submitted the deployment's queue may hold; None: learned from the service."""
    files: int | None = None
    """How many input files the resource may hold. None: 500, or 10,000 with expiry, on Azure (its limits page)."""

    def __post_init__(self) -> None:
        expect_numbers(self, least=1, error=ConfigError)


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
    a job's parts, where there are several; its own address is that of the first. `headers` go with every request, for
    gateways. `remarks` are what the user should know of how the target was read.
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
    headers: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All that opens the service or its gateway, and must not be seen anywhere."""
        held = [value for member in self.members for value in (*member.credential.known, *member.headers.values())]
        return tuple(value for value in held if isinstance(value, Secret))

    @property
    def members(self) -> tuple[Target, ...]:
        """The targets that parts may go to: those of a pool, or this one."""
        return self.pool or (self,)

    @property
    def service(self) -> str:
        """What a job belongs to for ever: on Azure the resource, whose dialects share their files and batches."""
        if self.pool:
            return POOLED.join(sorted({member.service for member in self.pool}))
        resource = self.base_url.removesuffix("/v1").removesuffix("/openai") if self.azure else self.base_url
        return self.identity or resource

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
    """Numbers of our own conduct, all in seconds unless they say otherwise. `strict` takes what is warned of before
    anything is sent (a misspelt parameter, the rows of another job, …) for an error. Raises ConfigError for what is no
    number from 0 on."""

    strict: bool = False
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

    def __post_init__(self) -> None:
        expect_numbers(self, least=0, error=ConfigError)

    def quota_wait(self, tries: int) -> float:
        """Seconds to wait after the `tries`-th refusal for quota: doubling, with a cap, for as long as it takes."""
        return min(self.quota_wait_cap_s, self.quota_wait_s * 2.0 ** min(tries - 1, 20))


def data_home(env: Mapping[str, str] | None = None) -> Path:
    """Where the ledger lives unless told otherwise: per user, not per directory, since cron's differs."""
    env = os.environ if env is None else env
    usual = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".local/share")
    return _xdg(env, "XDG_DATA_HOME", usual) / "batchkit"


def config_file(env: Mapping[str, str] | None = None) -> Path:
    """Where the targets file is looked for unless told otherwise."""
    env = os.environ if env is None else env
    return _xdg(env, "XDG_CONFIG_HOME", Path.home() / ".config") / "batchkit" / "targets.toml"


def _xdg(env: Mapping[str, str], name: str, usual: Path) -> Path:
    """A directory by its variable. One that is empty or relative does not count (XDG Base Directory Specification)."""
    given = Path(env.get(name) or "")
    return given if given.is_absolute() else usual


def make_target(
    name: str,
    endpoint: str,
    credential: Credential,
    *,
    dialect: Dialect | None = None,
    api_version: str | None = None,
    plain_http: bool = False,
    **options: Any,
) -> Target:
    """A target from an endpoint as people write or paste it; see `endpoint.read`."""
    found = endpoints.read(endpoint, dialect=dialect, api_version=api_version, plain_http=plain_http)
    remarks = found.remarks
    if found.regional:
        if credential.entra:
            raise ConfigError(f"{_host(found.base_url)} takes no Entra ID tokens: {_SHARED}", hint=_SUBDOMAIN)
        remarks += (f"{_host(found.base_url)} does not run batches: {_SHARED}; {_SUBDOMAIN}",)
    target = Target(
        name,
        found.base_url,
        found.dialect,
        credential,
        api_version=found.api_version,
        deployment=found.deployment,
        poll_interval_s=LOCAL_POLL_S if _host(found.base_url) in LOOPBACK else MIN_POLL_S,
        remarks=remarks,
    )
    target = replace(target, **{key: value for key, value in options.items() if value is not None})
    if target.azure and not target.local and target.poll_interval_s < MIN_POLL_S:
        raise ConfigError("poll_interval_s is below 60: Azure asks for at least a minute between status calls")
    return target


_SHARED = "it is the address of a whole region, since the resource has no subdomain of its own"
_SUBDOMAIN = "az cognitiveservices account update --name NAME --resource-group GROUP --custom-domain NAME"


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
