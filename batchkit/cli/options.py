"""The flags that commands share, and how a function becomes a command."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, TypeGuard
from urllib.parse import unquote, urlsplit

import typer

from batchkit import interrupts
from batchkit.cli import complete
from batchkit.cli.light import LightCommand
from batchkit.cli.making import DEFAULTS, MAKE, Making
from batchkit.cli.printer import Face, LogFormat
from batchkit.cli.telling import NOBODY, TELL, Telling
from batchkit.config.targets import is_address
from batchkit.errors import BatchkitError, Interrupted, LocalError, UsageError

TALK: dict[str, Any] = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="No talk on stderr but of trouble.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Say more: requests, and a traceback for bugs.")],
    "log_format": Annotated[
        LogFormat, typer.Option("--log-format", help="How stderr talks: in words, or one JSON object a line.")
    ],
}
WHERE: dict[str, Any] = {
    "target": Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            help="A target of the targets file. [default: the environment]",
            autocompletion=complete.targets,
        ),
    ],
    "ledger": Annotated[
        str | None,
        typer.Option(
            "--ledger",
            help="Where jobs are remembered: a file, or postgresql://HOST/DATABASE. [default: one file per user]",
        ),
    ],
    "config": Annotated[
        Path | None, typer.Option("--config", help="The targets file. [default: ~/.config/batchkit/targets.toml]")
    ],
    "emulator": Annotated[
        bool, typer.Option("--emulator", help="Use the built-in offline service, with a ledger of its own.")
    ],
    "speed": Annotated[
        float,
        typer.Option("--speed", min=0.001, max=1e6, help="With --emulator: how much faster than real time."),
    ],
}
_DEFAULTS: dict[str, Any] = DEFAULTS | {
    "as_json": False,
    "quiet": False,
    "verbose": False,
    "log_format": LogFormat.WORDS,
    "emulator": False,
    "speed": 60.0,
}


@dataclass(frozen=True)
class Where:
    """Which service and which ledger a command works with."""

    target: str | None = None
    ledger: str | None = None
    config: Path | None = None
    emulator: bool = False
    speed: float = 60.0

    @property
    def flags(self) -> str:
        """What a further command needs to find the same job, but for what the environment tells it as well."""
        target = None if is_address(self.target) else self.target
        ledger = None if _password(self.ledger) else self.ledger  # it came from the environment, and is there again
        named = (("--target", target), ("--ledger", ledger), ("--config", self.config))
        flags = "".join(f" {flag} {quote(str(value))}" for flag, value in named if value and not told(flag, str(value)))
        return flags + (" --emulator" if self.emulator and not told("--emulator", *TRUE) else "")


TRUE = ("1", "true", "yes", "on", "t", "y")
"""What switches a flag on in the environment."""


def told(flag: str, *values: str) -> bool:
    """Whether the environment has one of these values for a flag."""
    said = os.environ.get("BATCHKIT_" + flag.strip("-").upper(), "")
    return said in values or said.lower() in values


GROUPS: dict[str, tuple[dict[str, Any], type]] = {
    "making": (MAKE, Making),
    "where": (WHERE, Where),
    "telling": (TELL, Telling),
}
"""By the name of a command's parameter: the flags it stands for, and what they become; in the order of the help."""
for _flags, _panel in (
    (MAKE, "From rows to request lines"),
    (WHERE, "Which service, which ledger"),
    (TELL, "Who is told"),
    (TALK, "How it talks"),
):
    for _kind in _flags.values():
        _kind.__metadata__[0].rich_help_panel = _panel


def _password(ledger: str | None) -> TypeGuard[str]:
    """Whether a ledger's address holds a password, or what may be one."""
    if ledger is None or "://" not in ledger or ledger.startswith("sqlite:"):
        return False
    try:
        parts = urlsplit(ledger)
        _ = parts.port  # what is no number there may be a password, its host left away
    except ValueError:
        return True
    unclear = "@" in parts.path + parts.query or parts.fragment  # a password may hold what ends a host
    return bool(unclear or ":" in parts.netloc.rpartition("@")[0] or "password" in unquote(parts.query))


def _check_password(ledger: str | None) -> None:
    if _password(ledger) and any(ledger in argument for argument in sys.argv):
        raise UsageError(
            "the ledger's address holds a password, or what may be one: everybody on this machine can read arguments",
            hint="put it into ~/.pgpass, PGPASSWORD or BATCHKIT_LEDGER",
        )


class _Once(LightCommand):
    """A command that takes no flag twice: the last one would win unseen."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in order:
            once = option.param_type_name == "option" and not (option.multiple or getattr(option, "is_flag", False))
            if once and order.count(option) > 1:
                ctx.fail(f"{max(option.opts, key=len)} is given twice")
        return super().parse_args(ctx, args)


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command: its first parameter is the Face, a parameter named in GROUPS takes the flags of that
    group, and what it raises becomes a sentence, a hint and an exit code."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = dict(inspect.signature(function, eval_str=True).parameters)
        own.pop("face")
        groups = [name for name in GROUPS if own.pop(name, None)]
        shared = {flag: kind for name in groups for flag, kind in GROUPS[name][0].items()} | TALK
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [parameter.replace(kind=keyword) for parameter in own.values()] + [
            inspect.Parameter(flag, keyword, default=_DEFAULTS.get(flag), annotation=kind)
            for flag, kind in shared.items()
        ]

        def entry(**values: Any) -> None:
            face = Face(**{flag: values.pop(flag) for flag in TALK})
            for name in groups:
                flags, kind = GROUPS[name]
                values[name] = kind(**{flag: values.pop(flag) for flag in flags})
            if "where" not in values:  # who works with a session begins later
                interrupts.stop()
            try:
                if "where" in values:
                    face.flags, face.emulated = values["where"].flags, values["where"].emulator
                    _check_password(values["where"].ledger)
                with values.get("telling", NOBODY).kept(face) as telling:
                    function(face, **values | ({"telling": telling} if "telling" in values else {}))
            except BatchkitError as error:
                raise SystemExit(face.fail(error)) from None
            except BrokenPipeError:
                # Whoever read our output has left; there is nothing to tell them.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(141) from None
            except OSError as error:
                trouble = LocalError(f"{error.filename or 'the output'}: {(error.strerror or str(error)).lower()}")
                raise SystemExit(face.fail(trouble)) from None
            except KeyboardInterrupt:
                raise SystemExit(face.fail(Interrupted("stopped; everything is saved"))) from None

        about, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample: ")
        setattr(entry, "__signature__", inspect.Signature(parameters))  # noqa: B010  (mypy knows no such attribute)
        entry.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        entry.__doc__, entry.__name__ = about, function.__name__
        app.command(name, cls=_Once, epilog=f"Example: {example}")(entry)
        return function

    return register
