"""A flag that a command does not have: how it is spelt there, or which command has it."""

from __future__ import annotations

from typing import Any

import typer

from batchkit.cli.commands import COMMANDS, load

SPELT = {
    "--output": "--out",
    "--output-file": "--out",
    "--force": "--overwrite",
    "--model": "--deployment",
    "--engine": "--deployment",
    "--job": "--name",
    "--job-name": "--name",
    "--retry": "--retries",
    "--interval": "--every",
    "--dryrun": "--dry-run",
    "--id": "--custom-id",
    "-n": "--name",
    "-m": "--deployment",
    "-f": "--format",
    "-j": "--json",
}
"""What other tools call it: what it is called here."""
_LINES = "request lines hold it: batchkit build ROWS -o LINES {flag} …, or batchkit run, which does it all"
_JOB = "a job is named without a flag: batchkit {command} JOB"
_RESULTS = "results are written by batchkit fetch JOB -o results.csv"
_NO_KEY = "no flag takes a key: export AZURE_OPENAI_API_KEY, or name a key_file in the targets file"
INSTEAD: dict[str, dict[str, str]] = {
    "--deployment": dict.fromkeys(("submit", "check"), _LINES)
    | dict.fromkeys(("track", "fetch", "retry", "cancel"), "a job keeps the deployment it was made for: leave it away"),
    "--prompt": dict.fromkeys(("submit", "check"), _LINES),
    "--template": dict.fromkeys(("submit", "check"), _LINES),
    "--system": dict.fromkeys(("submit", "check"), _LINES),
    "--custom-id": dict.fromkeys(("submit", "check"), _LINES),
    "--param": dict.fromkeys(("submit", "check"), _LINES),
    "--name": dict.fromkeys(("track", "fetch", "retry", "cancel", "show", "report"), _JOB)
    | dict.fromkeys(("build", "check"), "a job is named when it is made: batchkit submit LINES --name JOB"),
    "--out": dict.fromkeys(("submit", "track", "retry", "cancel"), _RESULTS)
    | {"check": "--fix NEW writes a mended file; > FILE keeps what is printed"}
    | dict.fromkeys(("list", "show", "doctor", "limits", "files"), "> FILE keeps what is printed"),
    "--join": dict.fromkeys(("submit", "track", "retry"), _RESULTS + " --join ROWS"),
    "--format": dict.fromkeys(("submit", "track", "retry"), _RESULTS),
    "--emulator": {"emulate": "batchkit emulate is the emulator; --emulator uses one without a port"},
    "--target": {"build": "rows become request lines without a service: leave it away, and name it to submit"},
    "--api-key": dict.fromkeys(COMMANDS, _NO_KEY),
    "--key": dict.fromkeys(COMMANDS, _NO_KEY),
}
"""By flag and command: what is typed instead."""


def meant(flag: str, context: typer.Context) -> tuple[str, str] | None:
    """What `flag` may have been meant for, in words, and what to type; None where nobody has it."""
    command = context.command_path.removeprefix("batchkit ")
    here = _flags(context.command)
    wanted = SPELT.get(flag, flag)
    if wanted in here:
        return f"here it is {here[wanted]}", f"is {here[wanted]} meant? batchkit {command} --help"
    have = {name: flags for name in COMMANDS if wanted in (flags := _flags(load(name)))}
    names = {spelling for flags in have.values() for spelling in [flags[wanted]]}
    long = max((name for spelling in names for name in spelling.split("/")), key=len, default=wanted)
    hint = INSTEAD.get(long, {}).get(command)
    if not have:
        return ("", hint) if hint else None
    few = list(have)[:4]
    words = f"{'/'.join(sorted(names))} is a flag of {', '.join(few)}"
    return words, (hint or f"batchkit {few[0]} --help, or batchkit {command} --help").format(flag=flag, command=command)


def _flags(command: Any) -> dict[str, str]:
    """Each spelling of a command's flags: all its spellings, short ones first."""
    found = [sorted(option.opts, key=len) for option in command.params if option.param_type_name == "option"]
    return {name: "/".join(spellings) for spellings in found for name in spellings}
