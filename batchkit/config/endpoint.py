"""What people paste as an endpoint → the address files and batches hang at, or the right form spelled out. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from batchkit.errors import ConfigError, UnsafeEndpoint

Dialect = Literal["dated", "v1", "openai"]
DIALECTS: tuple[Dialect, ...] = ("dated", "v1", "openai")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
FIRST_VERSION = "2024-07-01"
"""The first api-version with batches (Azure API descriptions)."""
_OWN = "the resource's own address stands on its page “Keys and Endpoint”: https://NAME.openai.azure.com"
_FORM = "it looks like https://NAME.openai.azure.com"
_AZURE = re.compile(r"([a-z0-9-]+)\.(openai|services\.ai|cognitiveservices)\.azure\.(com|us|cn)")
_REGIONAL = re.compile(r"([a-z0-9]+)\.api\.cognitive\.(microsoft\.com|microsoft\.us|azure\.cn)")
_PORTALS = re.compile(r"((portal|ai|oai|ml)\.azure\.(com|us|cn)|.*\.(ai|ml|portal)\.azure\.(com|us))")
_VERSION = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(-preview)?", re.ASCII)
_V1 = ("v1", "preview", "latest")
"""Versions of the v1 API (Azure guide, "API lifecycle"): the latest is the one without any."""
_PLACEHOLDER = re.compile(
    r"((your|my)-?((azure-?)?(openai|aoai|ai|foundry)-?)?)?(resource|endpoint|service|account)(-?name)?|name|"
    r"(your|my)-?(azure-?)?(openai|aoai|ai|foundry)(-?name)?|your-?name|x{3,}"
)
"""Names that stand for a resource's in documentation."""
_EXAMPLE = re.compile(r"(.+\.)?example\.(com|net|org)")
_CALL = re.compile(r"/(chat/completions|completions|responses|embeddings|files|batches|models)(/.*)?$")
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)(/.*)?$")
_PROJECT = re.compile(r"/api/projects(/[^/]*)?")


@dataclass(frozen=True)
class Endpoint:
    """An endpoint understood: where `/files` and `/batches` hang, how it is spoken to, and what else was in it.

    `regional` is true for an address of a whole region, where a resource has no name of its own. `remarks` are what
    the user should know of how it was read.
    """

    base_url: str
    dialect: Dialect
    api_version: str | None = None
    deployment: str | None = None
    regional: bool = False
    remarks: tuple[str, ...] = ()


def is_azure(text: str) -> bool:
    """Whether an address is an Azure resource's."""
    host = _split(text).hostname or ""
    return bool(_AZURE.fullmatch(host) or _REGIONAL.fullmatch(host))


def read(
    text: str, *, dialect: Dialect | None = None, api_version: str | None = None, plain_http: bool = False
) -> Endpoint:
    """An endpoint as people write or paste it: with or without `/openai`, `/openai/v1`, the path and query of a call, a
    scheme or quotes. Without a `dialect` it is dated where there is an `api_version`, else v1. `plain_http` takes
    http:// beyond this machine.

    Raises ConfigError with the right form.
    """
    parts = _checked(text, plain_http)
    _check_version(api_version)
    host, path = parts.hostname or "", parts.path.rstrip("/")
    base = f"{parts.scheme}://{parts.netloc.lower()}".removesuffix({"https": ":443", "http": ":80"}[parts.scheme])
    if dialect == "openai":
        path = _CALL.sub("", path)
        unused = (f"api-version {api_version} is not used: this dialect has none",) if api_version else ()
        return Endpoint(base + (path or ("/v1" if host == "api.openai.com" else "")), "openai", remarks=unused)
    if host == "api.openai.com":
        raise ConfigError(
            f"{host} is OpenAI, not Azure",
            hint='dialect = "openai" (--dialect openai), or export OPENAI_API_KEY=… alone',
        )
    version = parse_qs(parts.query).get("api-version", [""])[0] or None
    prefix, path, deployment, version = _path(host, path, version)
    if path not in ("", "/openai", "/openai/v1"):
        raise ConfigError(
            f"{_shown(text)!r} has a path that does not belong to an Azure endpoint",
            hint=f"use {base} alone: files and batches belong to the resource, not to a deployment",
        )
    remarks: list[str] = []
    if version is not None and version < FIRST_VERSION:
        remarks.append(f"the address names api-version {version}, which has no batches: the v1 API is used")
        version = None
    read_as, api_version, why = _dialect(dialect, api_version, version, path)
    remarks += why
    if deployment is not None:
        words = "it must be a Global-Batch or Data-Zone-Batch one"
        remarks.append(f"the address names the deployment {deployment!r}: {words}")
    base += prefix + ("/openai/v1" if read_as == "v1" else "/openai")
    return Endpoint(base, read_as, api_version, deployment, bool(_REGIONAL.fullmatch(host)), tuple(remarks))


def _path(host: str, path: str, version: str | None) -> tuple[str, str, str | None, str | None]:
    """A path taken apart: a gateway's prefix, what is left without that of a call, the deployment and the api-version
    that it names."""
    prefix, deployment = "", None
    azure = bool(_AZURE.fullmatch(host) or _REGIONAL.fullmatch(host))
    if not azure and (found := re.fullmatch(r"(/.+?)(/openai(?:/.*)?)", path)):
        prefix, path = found.groups()
    if found := _DEPLOYMENT.fullmatch(path):
        path, deployment = "/openai", unquote(found[1])
    elif azure and _PROJECT.match(path):
        path, version = _PROJECT.sub("", path, count=1), None
    elif path == "/models" or path.startswith("/models/"):
        path, version = "", None  # another API with api-versions of its own
    return prefix, _CALL.sub("", path) if path.startswith("/openai/") else path, deployment, version


def _dialect(
    dialect: Dialect | None, given: str | None, pasted: str | None, path: str
) -> tuple[Dialect, str | None, list[str]]:
    """How the service is spoken to, with which api-version, and what must be said about it."""
    version = given or (pasted if path != "/openai/v1" else None)
    dated = version not in (None, *_V1)
    if dialect is None:
        dialect = "dated" if dated and path != "/openai/v1" else "v1"
    if dialect == "v1":
        words = f"api-version {version} is not used: the endpoint is the v1 API's; leave /v1 away for the dated API"
        return "v1", "preview" if version == "preview" else None, [words] if dated and path == "/openai/v1" else []
    if not version or not dated:
        raise ConfigError(
            "the dated API needs an api-version",
            hint="--api-version 2025-04-01-preview, or export OPENAI_API_VERSION=…; or use v1",
        )
    _check_version(version)
    return "dated", version, []


def _check_version(version: str | None) -> None:
    if version and version not in _V1 and not _VERSION.fullmatch(version):
        hint = "it looks like 2025-04-01-preview; the v1 API needs none, and takes latest or preview"
        raise ConfigError(f"{version!r} is no api-version", hint=hint)


def _checked(text: str, plain_http: bool) -> SplitResult:
    """The parts of an address that may be talked to."""
    parts, shown = _split(text), _shown(text)
    host = parts.hostname or ""
    known = _AZURE.fullmatch(host)
    if _PORTALS.fullmatch(host) and not known and "@" not in parts.netloc:  # its fragments may begin with @
        hint = f"use the resource's own, from its page “Keys and Endpoint”: {_FORM}"
        raise ConfigError(f"{host} is the portal's address, not an endpoint", hint=hint)
    if "@" in text:
        raise ConfigError("the endpoint must not hold a user name or password", hint="give the address alone")
    if (
        re.search(r"[<>{}$…]|%7b", _bare(text), re.IGNORECASE)
        or _EXAMPLE.fullmatch(host)
        or (known and _PLACEHOLDER.fullmatch(known[1]))
    ):
        raise ConfigError(f"{shown!r} is a placeholder of some documentation, not an endpoint", hint=_OWN)
    if parts.scheme not in ("https", "http") or not host or not _bare(text).isascii() or re.search(r"\s", _bare(text)):
        name = re.fullmatch(r"[A-Za-z0-9-]+", _bare(text))
        hint = f"if that is the resource's name: https://{name[0]}.openai.azure.com" if name else _FORM
        raise ConfigError(f"{shown!r} is not an endpoint", hint=hint)
    if parts.scheme == "http" and host not in LOOPBACK and (known or not plain_http):
        own = f"batchkit targets add NAME --endpoint {shown} --plain-http --dialect openai --key-env OPENAI_API_KEY"
        hint = f"https://{host}" if known else f"use https://; or, for a server in your own network: {own}"
        raise UnsafeEndpoint(f"{shown!r} would send the key unencrypted", hint=hint)
    return parts


def _shown(text: str) -> str:
    """What may be repeated of it: a query may hold a key."""
    return _bare(text).partition("?")[0]


def _bare(text: str) -> str:
    return text.strip().strip("\"'`<>“”‘’ ,;")


def _split(text: str) -> SplitResult:
    """The parts of an address, with the scheme that it must have where it has none; no host for what is none."""
    bare = _bare(text)
    if "://" not in bare:
        name = re.split(r"[/:?]", bare, maxsplit=1)[0].lower()
        if name in LOOPBACK:
            bare = f"http://{bare}"
        elif any(kind.fullmatch(name) for kind in (_AZURE, _REGIONAL, _PORTALS)):
            bare = f"https://{bare}"
    try:
        parts = urlsplit(bare)
        return parts if parts.port != 0 else SplitResult("", "", "", "", "")
    except ValueError:
        return SplitResult("", "", "", "", "")
