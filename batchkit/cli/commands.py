"""All commands, a line each. A command's own module is loaded when it is called, so that help and completion of the
others cost nothing."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from batchkit.cli.light import LightGroup

WORK, LOOK, KEEP = "From rows to answers", "Look", "Keep house, rehearse"
COMMANDS = {
    "run": ("jobs", WORK, "All of it: build, submit, track, fetch. Safe to repeat, safe to kill."),
    "build": ("rows", WORK, "Turn rows into request lines."),
    "check": ("rows", WORK, "Judge request lines before the service does."),
    "submit": ("jobs", WORK, "Upload request lines and start their batches."),
    "track": ("follow", WORK, "Follow jobs until nothing moves any more."),
    "fetch": ("jobs", WORK, "Download a job's results and merge them in input order."),
    "retry": ("jobs", WORK, "Ask again for the rows that failed for a passing reason."),
    "cancel": ("follow", WORK, "Stop a job. Rows that are finished are kept, and billed."),
    "list": ("look", LOOK, "The jobs of the ledger, or the batches at the service."),
    "show": ("look", LOOK, "One job: where it stands and what happened to it."),
    "report": ("report", LOOK, "A job as one HTML page: outcome, timeline, failures, tokens, cost."),
    "targets": ("targets", KEEP, "The targets file: services under a name."),
    "doctor": (
        "doctor",
        KEEP,
        "Look whether endpoint, credential, deployment, ledger and this machine are fit for work.",
    ),
    "limits": ("limits", KEEP, "What is published of limits, quotas, models, regions and api-versions, with dates."),
    "files": ("stored", KEEP, "The input files at the service, and sweep those nobody needs."),
    "emulate": ("emulate", KEEP, "An offline Azure OpenAI batch service on this machine."),
}
"""By name: the module whose function of that name it is, its panel, and what it does. A module's `app` is a group of
commands."""


class Commands(LightGroup):
    """The commands by name; each is loaded when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """What `batchkit --help` and completion need to know of a command."""
        if cmd_name not in COMMANDS:
            return None
        _, panel, does = COMMANDS[cmd_name]
        return TyperCommand(cmd_name, help=does, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command that is called, itself."""
        self.commands: dict[str, Any] = dict.fromkeys(COMMANDS)  # what a typo is likened to
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(args[0]), rest


def load(name: str) -> Any:
    """A command with its flags. Every flag has a form in the environment."""
    from batchkit.cli.options import command

    module = import_module(f"batchkit.cli.{COMMANDS[name][0]}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        function = getattr(module, name, None) or getattr(module, f"{name}_jobs")  # `list` is Python's own
        command(app, name)(function)
    loaded = typer.main.get_command(app)
    _finish(loaded)
    return loaded


def _finish(command: Any) -> None:
    for child in getattr(command, "commands", {}).values():
        _finish(child)
    command.context_settings = {"help_option_names": ["-h", "--help"]}
    for option in command.params:
        if option.param_type_name != "option":
            continue
        if not option.envvar:
            option.envvar, option.show_envvar = environment_form(option), False  # `batchkit --help` has the rule
        if told := re.fullmatch(r"(.*?) \[default: (.+)\]", option.help or ""):
            option.help, option.show_default = told.groups()


def environment_form(option: Any) -> str:
    """BATCHKIT_<FLAG>."""
    flag: str = max(option.opts, key=len)
    return "BATCHKIT_" + flag.strip("-").replace("-", "_").upper()
