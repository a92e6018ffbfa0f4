"""The targets file and the environment → a Target, each value with where it came from.

Flags beat variables beat the file beats defaults, value by value; but an endpoint and what opens it are one thing, and
come from one place: a target named by `--target` (or `BATCHKIT_TARGET`) has those of the file. Without a name the
variables that people already have set are a target of their own, and the file's `default` comes last.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from shlex import quote
from typing import Any

from batchkit.config import endpoint, entra
from batchkit.config.endpoint import DIALECTS
from batchkit.config.plan import Plan, Value, build, is_amount, typed
from batchkit.config.target import Limits, Target, config_file
from batchkit.errors import ConfigError
from batchkit.given import expect

KEYS: dict[str, Any] = {
    "endpoint": str,
    "dialect": str,
    "api_version": str,
    "plain_http": bool,
    "deployment": str,
    "key_env": str,
    "key_file": str,
    "key_command": list,
    "keyring": str,
    "entra": bool,
    "scope": str,
    "client_id": str,
    "auth": str,
    "headers": dict,
    "headers_env": dict,
    "poll_interval_s": (int, float),
    "expires_s": int,
    "create_endpoint": str,
    "limits": dict,
    "notify": (dict, list),
    "pool": list,
}
"""What a target may say, and the type it has in TOML."""
OPENERS = ("key_env", "key_file", "key_command", "keyring", "entra")
"""Where the key or token comes from: one of them."""
VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "BATCHKIT_API_VERSION": ("api_version", str),
    "BATCHKIT_DEPLOYMENT": ("deployment", str),
    "BATCHKIT_SCOPE": ("scope", str),
    "BATCHKIT_POLL": ("poll_interval_s", float),
    "BATCHKIT_EXPIRES": ("expires_s", int),
    "BATCHKIT_ENQUEUED_TOKENS": ("limits.enqueued_tokens", int),
}
"""The variables that beat the values of any target but a pool's."""


def load_target(
    name: str | None = None, *, config: str | Path | None = None, env: Mapping[str, str] | None = None
) -> Target:
    """The target to work with, by the precedence this module states.

    Raises ConfigError or CredentialError with what to set.
    """
    env = os.environ if env is None else env
    return build(plan(name, config=config, env=env), env)


def plan(name: str | None = None, *, config: str | Path | None = None, env: Mapping[str, str] | None = None) -> Plan:
    """What is written of the target to work with. Raises ConfigError."""
    env = os.environ if env is None else env
    expect("a target", name, (str, type(None)), "the name of one in the targets file, or a Target", error=ConfigError)
    expect("config", config, (str, os.PathLike, type(None)), "the path of a targets file", error=ConfigError)
    expect("env", env, Mapping, "a mapping", error=ConfigError)
    config = None if config is None else Path(config)
    name = name or env.get("BATCHKIT_TARGET") or None
    if name is None and config is None and not env.get("BATCHKIT_CONFIG"):
        found = _from_environment(env)
        if found is not None:
            return found
    path = file_of(config, env)
    document = read(path) if config or path.exists() or env.get("BATCHKIT_CONFIG") else {}
    tables = document.get("targets", {})
    if name is None:
        name = document.get("default") or (next(iter(tables)) if len(tables) == 1 else None)
    if name is None and tables:
        first = next(iter(tables))
        hint = f"-t {quote(first)}, or default = {first!r} at the top of {path}"
        raise ConfigError(f"no target is named, and none is the default (there are: {', '.join(tables)})", hint=hint)
    if name is None:
        raise ConfigError(
            "no service to talk to: no target is named and no endpoint is set",
            hint="export AZURE_OPENAI_ENDPOINT=https://NAME.openai.azure.com AZURE_OPENAI_API_KEY=…, "
            "or batchkit targets add NAME --endpoint URL, or try without an account: --emulator, or for a program "
            "batchkit emulate",
        )
    if name not in tables:
        check_name(name)
        if not tables and not path.exists():
            hint = f"batchkit targets add {quote(name)} --endpoint URL; or check --config"
            raise ConfigError(f"target {name!r} is not there, nor is the targets file {path}", hint=hint)
        known = f"known: {', '.join(sorted(tables)) or 'none'}"
        raise ConfigError(
            f"target {name!r} is not in {path} ({known})", hint="batchkit targets list; or check --config"
        )
    return from_file(name, tables, path, env)


_ADDRESS = re.compile(r"://|[?@=&]|\w\.[\w.-]+[:/]")


def is_address(name: str | None) -> bool:
    """Whether an address stands in a name's place, with its scheme or without: it may hold a key, and is not shown."""
    return name is not None and _ADDRESS.search(name) is not None


def check_name(name: str) -> None:
    """Refuse an address in a name's place, without repeating it. Raises ConfigError."""
    if is_address(name):
        hint = "export AZURE_OPENAI_ENDPOINT=URL, or batchkit targets add NAME --endpoint URL"
        raise ConfigError("an address is not a target's name", hint=hint)


def file_of(config: Path | None, env: Mapping[str, str] | None = None) -> Path:
    """The targets file that is meant: `--config`, BATCHKIT_CONFIG, or the user's own."""
    env = os.environ if env is None else env
    return config or (Path(env["BATCHKIT_CONFIG"]) if env.get("BATCHKIT_CONFIG") else config_file(env))


def read(path: Path) -> dict[str, Any]:
    """The targets file. Raises ConfigError for what is no such file."""
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or '').lower()}", hint="check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    if not isinstance(document.get("targets", {}), dict):
        raise ConfigError(f"{path}: targets is not a table", hint="write [targets.NAME]")
    if not isinstance(document.get("default", ""), str):
        raise ConfigError(f"{path}: default is no target's name", hint='write default = "NAME" at the top')
    return document


def _from_environment(env: Mapping[str, str]) -> Plan | None:
    def given(**names: str) -> dict[str, Value]:
        return {key: Value(env[name], f"environment variable {name}") for key, name in names.items() if env.get(name)}

    if env.get("AZURE_OPENAI_ENDPOINT"):
        values = given(
            endpoint="AZURE_OPENAI_ENDPOINT", api_version="OPENAI_API_VERSION", deployment="AZURE_OPENAI_DEPLOYMENT"
        )
        if env.get("AZURE_OPENAI_AD_TOKEN") and not env.get("AZURE_OPENAI_API_KEY"):
            values["key_env"] = Value("AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_API_KEY is not set")
            values["auth"] = Value("bearer", "it is a token")
        elif env.get("AZURE_OPENAI_API_KEY") or not (entra.installed() and endpoint.is_azure(values["endpoint"].value)):
            values["key_env"] = Value("AZURE_OPENAI_API_KEY", "default")
        else:
            values["entra"] = Value(True, "neither AZURE_OPENAI_API_KEY nor AZURE_OPENAI_AD_TOKEN is set")
        return Plan("env", "the environment", _overridden(values, env))
    if env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_KEY"):
        values = given(endpoint="OPENAI_BASE_URL")
        values.setdefault("endpoint", Value("https://api.openai.com/v1", "default"))
        azure = endpoint.is_azure(values["endpoint"].value)
        values |= {
            "dialect": Value("v1" if azure else "openai", "by the address"),
            "key_env": Value("OPENAI_API_KEY", "default"),
            "auth": Value("bearer", "default"),
        }
        return Plan("env", "the environment", _overridden(values, env))
    return None


def from_file(name: str, tables: Mapping[str, Any], path: Path, env: Mapping[str, str]) -> Plan:
    """A target of the file, or a pool of them: `pool = ["east", "west"]`."""
    table, where = tables[name], f"{path}, target {name!r}"
    if not isinstance(table, dict) or "pool" not in table:
        return _from_table(name, table, path, env)
    typed(table, KEYS, where)
    others = [key for key in table if key != "pool"]
    known = {item for item, other in tables.items() if isinstance(other, dict) and "pool" not in other}
    wrong = [str(item) for item in table["pool"] if not isinstance(item, str) or item not in known]
    if others or wrong or not table["pool"]:
        words = f"{where}: a pool lists other targets of this file, and has nothing else"
        raise ConfigError(f"{words}: {', '.join(others + wrong) or 'it is empty'}", hint='pool = ["east", "west"]')
    members = tuple(_from_table(item, tables[item], path, {}) for item in dict.fromkeys(table["pool"]))
    return Plan(name, where, {"pool": Value(table["pool"], str(path))}, members)


def _from_table(name: str, table: Any, path: Path, env: Mapping[str, str]) -> Plan:
    where = f"{path}, target {name!r}"
    typed(table, KEYS, where)
    if "endpoint" not in table:
        raise ConfigError(f"{where} has no endpoint")
    typed(table.get("limits", {}), {item.name: int for item in fields(Limits)}, f"{where}, limits")
    if "dialect" in table and table["dialect"] not in DIALECTS:
        raise ConfigError(f"{where}: dialect is one of {', '.join(DIALECTS)}, not {table['dialect']!r}")
    if table.get("auth", "bearer") not in ("api-key", "bearer"):
        raise ConfigError(f"{where}: auth is api-key or bearer, not {table['auth']!r}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table.get("key_env", "_")):
        raise ConfigError(
            f"{where}: key_env is no variable's name", hint='key_env = "NAME" (--key-env NAME), and export NAME=…'
        )
    if len(openers := [key for key in OPENERS if table.get(key)]) > 1:
        raise ConfigError(
            f"{where} has {' and '.join(openers)}", hint="one place the key or token comes from is enough"
        )
    given = {key: value for key, value in table.items() if key != "limits"}
    given |= {f"limits.{key}": value for key, value in table.get("limits", {}).items()}
    values = {key: Value(value, str(path)) for key, value in given.items()}
    return Plan(name, where, _overridden(values, env))


def _overridden(values: Mapping[str, Value], env: Mapping[str, str]) -> dict[str, Value]:
    found = dict(values)
    for variable, (key, kind) in VARIABLES.items():
        if env.get(variable):
            try:
                found[key] = Value(kind(env[variable]), f"environment variable {variable}")
            except ValueError:
                raise ConfigError(f"{variable}={env[variable]!r} is no number", hint=f"unset {variable}") from None
            number = found[key].value
            if not isinstance(number, str) and not is_amount(key, number):
                raise ConfigError(f"{variable} must be more than 0, and finite", hint=f"unset {variable}")
    return found
