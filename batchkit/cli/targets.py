"""The commands about targets: add, list, show, test, remove. They write the targets file and nothing else."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from batchkit import disk
from batchkit.cli import documents
from batchkit.cli.light import LightGroup
from batchkit.cli.options import command, told
from batchkit.cli.printer import Face, table
from batchkit.config import Target
from batchkit.config import endpoint as endpoints
from batchkit.config import targets as plans
from batchkit.config.credentials import split_command
from batchkit.config.endpoint import Dialect
from batchkit.errors import BatchkitError, ConfigError, UsageError
from batchkit.model import Finding

app = typer.Typer(
    cls=LightGroup, help="The targets file: services under a name.", no_args_is_help=True, add_completion=False
)
Config = Annotated[
    Path | None, typer.Option("--config", help="The targets file. [default: ~/.config/batchkit/targets.toml]")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The target's name.")]
Some = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A target (default: the one in use).")]
_NAME = re.compile(r"[\w.-]+")


@command(app)
def add(
    face: Face,
    name: Name,
    endpoint: Annotated[str, typer.Option("--endpoint", help="The resource's address, as the portal shows it.")],
    dialect: Annotated[
        str | None, typer.Option("--dialect", help="v1, dated or openai. [default: dated with --api-version, else v1]")
    ] = None,
    api_version: Annotated[str | None, typer.Option("--api-version", help="For the dated API.")] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Take http:// beyond this machine: the key goes unencrypted.")
    ] = False,
    deployment: Annotated[str | None, typer.Option("--deployment", "-d", help="Used where no other is named.")] = None,
    key_env: Annotated[str | None, typer.Option("--key-env", help="A variable that holds the key.")] = None,
    key_file: Annotated[Path | None, typer.Option("--key-file", help="A file that holds it, mode 0600.")] = None,
    key_command: Annotated[
        str | None, typer.Option("--key-command", help="A command that prints it; no shell is run.")
    ] = None,
    keyring: Annotated[
        str | None, typer.Option("--keyring", help="SERVICE/USER of the OS keyring (extra keyring).")
    ] = None,
    entra: Annotated[bool, typer.Option("--entra", help="Tokens of Microsoft Entra ID (extra entra).")] = False,
    scope: Annotated[str | None, typer.Option("--scope", help="What tokens are asked for. [default: Azure's]")] = None,
    client_id: Annotated[str | None, typer.Option("--client-id", help="A user-assigned managed identity.")] = None,
    auth: Annotated[str | None, typer.Option("--auth", help="How a key is sent: api-key or bearer.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", help="NAME=VALUE, for a gateway; no secret.")] = None,
    header_env: Annotated[
        list[str] | None, typer.Option("--header-env", help="NAME=VARIABLE: a header whose value is secret.")
    ] = None,
    poll: Annotated[float | None, typer.Option("--poll", help="Seconds between looks; 60 or more on Azure.")] = None,
    expires: Annotated[int | None, typer.Option("--expires", help="Seconds until files expire; 0: never.")] = None,
    enqueued_tokens: Annotated[
        int | None, typer.Option("--enqueued-tokens", help="The deployment's quota. [default: learned]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target of this name.")] = False,
    config: Config = None,
) -> None:
    """Write a target down. A key itself is never written: only where it is.

    Example: batchkit targets add prod --endpoint https://NAME.openai.azure.com
    """
    from batchkit.cli.origins import shown
    from batchkit.config import tables

    plans.check_name(name)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name", hint="letters, digits, dot, dash and underscore")
    if dialect is not None and dialect not in endpoints.DIALECTS:
        raise UsageError(f"--dialect is {', '.join(endpoints.DIALECTS)}, not {dialect!r}")
    path = plans.file_of(config)
    document = plans.read(path) if path.exists() else {}
    known = document.get("targets", {})
    text = _text(path) if path.exists() else ""
    if name in known and not overwrite:
        raise ConfigError(f"target {name!r} is in {path} already", hint="add --overwrite to replace it")
    found = endpoints.read(endpoint, dialect=_dialect(dialect), api_version=api_version, plain_http=plain_http)
    root = found.base_url.removesuffix("/v1").removesuffix("/openai") if found.dialect != "openai" else found.base_url
    given = {
        "endpoint": root if root.count("/") == 2 else found.base_url,
        "dialect": found.dialect if found.dialect == "openai" or dialect else None,
        "api_version": found.api_version,
        "plain_http": plain_http or None,
        "deployment": deployment or found.deployment,
        "key_env": key_env,
        "key_file": str(key_file) if key_file else None,
        "key_command": split_command(key_command) if key_command else None,
        "keyring": keyring,
        "entra": entra or None,
        "scope": scope,
        "client_id": client_id,
        "auth": auth,
        "headers": _pairs("--header", header),
        "headers_env": _pairs("--header-env", header_env),
        "poll_interval_s": poll,
        "expires_s": expires,
    }
    values = _kept(known.get(name)) | {key: value for key, value in given.items() if value is not None}
    if enqueued_tokens is not None:
        values["limits"] = {**values.get("limits", {}), "enqueued_tokens": enqueued_tokens}
    shown(plans.from_file(name, {name: values}, path, {}))
    disk.private_directory(path.parent)
    text = tables.replaced(text, ("targets", name), values)
    if "default" not in document and len(known) < 2:  # the first stays the one that is used
        text = tables.with_default(text, next(iter(known), name))
    _write(path, text)
    _show(face, name, path)
    face.say(*(f"warning: {remark}" for remark in found.remarks), _use(name, config))
    face.next(f"batchkit targets test {name}{_flag(config)}")


@command(app, "list")
def list_targets(face: Face, config: Config = None) -> None:
    """The targets there are, and which is in use where none is named.

    Example: batchkit targets list
    """
    path = plans.file_of(config)
    document = _list(path, config)
    entries = document["targets"]
    header = ("", "NAME", "ENDPOINT", "DIALECT", "DEPLOYMENT", "KEY OR TOKEN")
    words = [("*" if entry["used"] else "", entry["name"], *_columns(entry)) for entry in entries]
    face.data(document, table(header, words))
    if not entries:
        face.next(_first(config))


@command(app)
def show(face: Face, name: Some = None, config: Config = None) -> None:
    """A target's values, and where each comes from. Keys, tokens and headers are not shown.

    Example: batchkit targets show prod
    """
    _show(face, name, config)


@command(app)
def test(face: Face, name: Some = None, config: Config = None) -> None:
    """Ask the service for one page of its batches, and say what happened.

    Example: batchkit targets test prod
    """
    import asyncio

    found = asyncio.run(_tried(name, config))
    words = [
        f"{finding.verdict:<8} {finding.what}: {finding.message}"
        + (f"\n         {finding.hint}" if finding.hint else "")
        for finding in found
    ]
    face.data(documents.findings(found), (line for item in words for line in item.splitlines()))
    if code := next((finding.exit for finding in found if finding.verdict == "problem"), 0):
        raise SystemExit(code)


@command(app)
def remove(
    face: Face,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Take a target out of the file. Jobs and keys are not touched.

    Example: batchkit targets remove staging
    """
    from batchkit.config import tables

    path, flag = plans.file_of(config), _flag(config)
    known = plans.read(path).get("targets", {}) if path.exists() else {}
    if name not in known:
        plans.check_name(name)
        raise ConfigError(f"target {name!r} is not in {path}", hint=f"batchkit targets list{flag}")
    listed = {pool: item.get("pool") for pool, item in known.items() if isinstance(item, dict)}
    pools = [pool for pool, members in listed.items() if isinstance(members, list) and name in members]
    if pools:
        hint = f"batchkit targets remove {quote(pools[0])}{flag}"
        raise ConfigError(f"target {name!r} is one of the pool {pools[0]!r}", hint=hint)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("removing needs your word", hint=f"batchkit targets remove {quote(name)} --yes{flag}")
        if not typer.confirm(f"Remove {name} from {path}?", err=True):
            return
    text = tables.removed(_text(path), ("targets", name))
    if was_default := plans.read(path).get("default") == name:
        text = tables.with_default(text, None)
    _write(path, text)
    document = _list(path, config)
    face.data(document, [f"{name} is removed from {path}"])
    if was_default:
        _without_default(face, [entry["name"] for entry in document["targets"]], path, config)


def _flag(config: Path | None) -> str:
    """What a further command needs to work with the same file."""
    return f" --config {quote(str(config))}" if config and not told("--config", str(config)) else ""


def _text(path: Path) -> str:
    """The targets file as it is, with the line ends it has."""
    return path.read_bytes().decode()


def _write(path: Path, text: str) -> None:
    """Replace the targets file, which whoever could read it still can; a new one is its owner's alone."""
    with disk.replacing(path) as file:
        if path.exists():
            os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode) & 0o755)
        file.write(text.encode())


def _kept(before: Any) -> dict[str, Any]:
    """What stays of a target that is replaced: that which no flag can give."""
    if not isinstance(before, dict) or "pool" in before:
        return {}
    kept = {key: before[key] for key in ("create_endpoint", "notify") if key in before}
    limits = before.get("limits")
    others = {key: limits[key] for key in limits if key != "enqueued_tokens"} if isinstance(limits, dict) else {}
    return kept | ({"limits": others} if others else {})


def _use(name: str, config: Path | None) -> str:
    """How a target is asked for."""
    used = None
    with suppress(BatchkitError):
        used = plans.plan(config=config).name
    if used == name:
        return f"{name} is used where no target is named"
    other = {"env": "that of the environment", None: "none"}.get(used, used)
    return f"{name} is used with -t {name}; where no target is named, {other} is"


def _without_default(face: Face, left: list[str], path: Path, config: Path | None) -> None:
    """Say what is used where no target is named, after the default is gone."""
    if len(left) == 1:
        face.say(f"{left[0]} is used where no target is named")
        return
    face.say("no target is the default now")
    face.next(f"-t {quote(left[0])}, or default = {left[0]!r} at the top of {path}" if left else _first(config))


def _first(config: Path | None) -> str:
    """What to type where there is no target."""
    return f"batchkit targets add NAME --endpoint https://NAME.openai.azure.com{_flag(config)}"


def _list(path: Path, config: Path | None) -> dict[str, Any]:
    """The document of the targets there are."""
    from batchkit.cli.origins import listed

    names = list(plans.read(path).get("targets", {})) if path.exists() else []
    used = None
    with suppress(BatchkitError):
        used = plans.plan(config=config).name
    entries = [listed(name, partial(plans.plan, name, config=path), name == used) for name in names]
    if used is not None and used not in names:
        entries.insert(0, listed(used, partial(plans.plan, config=config), True))
    return {"schema": "batchkit/target-list@1", "file": str(path), "targets": entries}


def _show(face: Face, name: str | None, config: Path | None) -> None:
    from batchkit.cli.origins import shown

    found = shown(plans.plan(name, config=config))
    words: list[str] = []
    for member in found["targets"]:
        rows = [(value["name"], value["value"], value["from"]) for value in member["values"] if value["value"]]
        words += ["", f"{member['name']}:"] if len(found["targets"]) > 1 else []
        words += table(("", "", ""), rows)[1:]
    face.data({"schema": "batchkit/target@1", **found}, words)
    for remark in (remark for member in found["targets"] for remark in member["remarks"]):
        face.say(f"warning: {remark}")


async def _tried(name: str | None, config: Path | None) -> tuple[Finding, ...]:
    """What each of a target's services says to one authenticated call."""
    try:
        target = plans.load_target(name, config=config)
    except BatchkitError as error:
        return (Finding("settings", "problem", str(error), error.hint, error.exit),)
    return tuple([finding for member in target.members for finding in await _answer(member)])


async def _answer(target: Target) -> list[Finding]:
    from dataclasses import replace

    from batchkit.api.service import Service
    from batchkit.clock import SystemClock
    from batchkit.config import Settings

    found = [Finding(target.name, "warning", remark) for remark in target.remarks]
    api = Service(target, SystemClock(), replace(Settings(), max_attempts=1))
    try:
        async for _ in api.batches():
            break
    except BatchkitError as error:
        return [*found, Finding(target.name, "problem", str(error), error.hint, error.exit)]
    finally:
        await api.close()
    words = f"{target.base_url} answers, and takes {target.credential.origin}"
    return [*found, Finding(target.name, "ok", words)]


def _dialect(text: str | None) -> Dialect | None:
    return next((known for known in endpoints.DIALECTS if known == text), None)


def _pairs(flag: str, given: list[str] | None) -> dict[str, str] | None:
    pairs = dict(entry.partition("=")[::2] for entry in given or [])
    if any(not name or not value for name, value in pairs.items()):
        raise UsageError(f"{flag} takes NAME=VALUE")
    return pairs or None


def _columns(entry: dict[str, Any]) -> list[str]:
    first = entry["endpoint"] or entry["problem"] or ""
    return [first, *(entry[key] or "" for key in ("dialect", "deployment", "key"))]
