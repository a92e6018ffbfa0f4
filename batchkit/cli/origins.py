"""What may be told of a target: its values, each with where it came from, and no secret."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

from batchkit.config import Target, entra, tables
from batchkit.config.credentials import Credential, from_environment, from_file
from batchkit.config.plan import Plan, Value, service
from batchkit.errors import BatchkitError

_OPENED = Credential(None, bearer=False)
"""Stands for the real one where nothing is opened."""
_PLAIN = ("deployment", "poll_interval_s", "expires_s", "create_endpoint")
_LIMITS = ("max_lines", "max_bytes", "enqueued_tokens", "files")


class Shown(TypedDict):
    """A target, as the services that it has: one, or those of a pool."""

    name: str
    targets: list[dict[str, Any]]


def shown(plan: Plan, env: Mapping[str, str] | None = None) -> Shown:
    """All that may be seen of a plan. Raises ConfigError for one that makes no target."""
    env = os.environ if env is None else env
    return {"name": plan.name, "targets": [_one(member, env) for member in plan.members or (plan,)]}


def listed(name: str, read: Callable[[], Plan], used: bool, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A target in a line; one that cannot be read, with what is wrong."""
    env = os.environ if env is None else env
    entry: dict[str, Any] = dict.fromkeys(("endpoint", "dialect", "deployment", "key", "problem"))
    try:
        plan = read()
        if plan.members:
            entry["endpoint"] = f"pool of {', '.join(member.name for member in plan.members)}"
        else:
            target = service(plan, _opened(plan))
            entry |= {"endpoint": target.base_url, "dialect": target.dialect, "deployment": target.deployment}
            entry["key"] = _key(plan, target, env)
    except BatchkitError as error:
        entry["problem"] = str(error)
    return {"name": name, "used": used, **entry}


def _one(plan: Plan, env: Mapping[str, str]) -> dict[str, Any]:
    target = service(plan, _opened(plan))
    values = [
        _value(plan, "endpoint", plan.get("endpoint").partition("?")[0]),
        _entry("base_url", target.base_url, "made of the endpoint"),
        _value(plan, "dialect", target.dialect, other="made of endpoint and api_version"),
        _value(plan, "api_version", target.api_version),
        _value(plan, "plain_http", "true" if plan.get("plain_http") else None),
        _entry("credential", _key(plan, target, env), _opener(plan)),
    ]
    if plan.get("entra"):
        host = urlsplit(target.base_url).hostname or ""
        values.append(_value(plan, "scope", plan.get("scope") or entra.scope_for(host)))
        values.append(_value(plan, "client_id", plan.get("client_id")))
    else:
        values.append(_value(plan, "auth", plan.get("auth") or ("api-key" if target.azure else "bearer")))
    values += [_value(plan, key, getattr(target, key)) for key in _PLAIN]
    values += [_value(plan, f"limits.{key}", getattr(target.limits, key)) for key in _LIMITS]
    for key in ("headers", "headers_env"):
        if given := plan.get(key):
            values.append(_value(plan, key, ", ".join(given)))
    if hooks := plan.get("notify"):
        count = len(hooks) if isinstance(hooks, list) else 1
        values.append(_value(plan, "notify", f"{count} address{'es' if count > 1 else ''}, not shown"))
    return {"name": plan.name, "values": values, "remarks": list(target.remarks)}


def _opened(plan: Plan) -> Credential:
    return Credential(None, bearer=True, entra=True) if plan.get("entra") else _OPENED


def _value(plan: Plan, key: str, value: Any, other: str = "default") -> dict[str, Any]:
    written: Value | None = plan.values.get(key)
    origin = other if written is None else _line(written.origin, plan.name, key)
    return _entry(key, value, origin if value is not None else "")


def _entry(key: str, value: Any, origin: str) -> dict[str, Any]:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return {"name": key, "value": "" if value is None else str(value), "from": origin}


def _line(origin: str, name: str, key: str) -> str:
    """`FILE:LINE`, where the origin is a file and the line is plain to see."""
    path = Path(origin)
    line = tables.line_of(path.read_text("utf-8"), ("targets", name), key) if path.is_file() else None
    return f"{origin}:{line}" if line else origin


def _opener(plan: Plan) -> str:
    key = next((key for key in ("entra", "key_file", "key_command", "keyring", "key_env") if plan.get(key)), None)
    return _line(plan.values[key].origin, plan.name, key) if key else "default"


def _key(plan: Plan, target: Target, env: Mapping[str, str]) -> str:
    """Where the key or token comes from, and whether it is there, as far as that is seen without asking for it."""
    if plan.get("entra"):
        return "Microsoft Entra ID" + ("" if entra.installed() else " (the extra is not installed)")
    if argv := plan.get("key_command"):
        return f"command {argv[0]}"
    if entry := plan.get("keyring"):
        return f"keyring {entry}"
    file = plan.get("key_file")
    variable = plan.get("key_env") or ("AZURE_OPENAI_API_KEY" if target.azure else "OPENAI_API_KEY")
    try:
        if file:
            from_file(Path(file).expanduser())
        else:
            from_environment(variable, env)
    except BatchkitError as error:
        return f"none: {error}"
    return f"file {file}" if file else f"environment variable {variable}"
