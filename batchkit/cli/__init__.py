"""The command line. What goes wrong becomes a message, a hint and an exit code, here and in `options.command`."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from batchkit import __version__
from batchkit.cli.commands import Commands

app = typer.Typer(
    name="batchkit",
    cls=Commands,
    help="Rows in, answers out, through Azure OpenAI Global Batch: half the price, no row lost, none paid twice.",
    epilog="Every flag can also be set as BATCHKIT_<FLAG>. Exit codes: 0 done · 2 usage · 3 input refused · "
    "4 configuration · 5 the service refused · 6 try later · 7 not finished · 8 some rows failed · 9 busy · "
    "10 results do not add up · 11 uncertain · 12 this machine · 129/130/143 interrupted, state saved.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
WRONG: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What the parser raises; it has no public name that all versions of Typer share."""


def _version(asked: bool) -> None:
    if asked:
        print(f"batchkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console command."""
    try:
        sys.exit(typer.main.get_command(app).main(prog_name="batchkit", standalone_mode=False) or 0)
    except WRONG as error:
        sys.exit(_wrong_usage(error))
    except typer.Abort:
        print(file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  (the last door: whatever it is, a user gets a sentence)
        if "-v" in sys.argv or "--verbose" in sys.argv:
            traceback.print_exc()
        print(f"error: a bug in batchkit: {type(error).__name__}: {error}", file=sys.stderr)
        print("next:  the same command with -v shows where; please report it", file=sys.stderr)
        sys.exit(1)


def _wrong_usage(error: Any) -> int:
    """What the parser refused, told as every other error is."""
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), end="")  # what is formatted richly has been printed already
        return 2
    from batchkit.cli.printer import Face
    from batchkit.errors import UsageError

    text = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    text = text.replace("Input should be ", "it must be ").partition(", unable to parse")[0]
    hint = f"{context.command_path} --help" if context is not None else "batchkit --help"
    if context is not None and type(error).__name__ == "NoSuchOption":
        from batchkit.cli.slips import meant

        if found := meant(error.option_name, context):
            text, hint = f"no such option: {error.option_name}{found[0] and '; '}{found[0]}", found[1]
    as_json = "--json" in sys.argv or os.environ.get("BATCHKIT_JSON", "").lower() in (
        "1",
        "true",
        "yes",
        "on",
        "t",
        "y",
    )
    return Face(as_json=as_json).fail(UsageError(text[:1].lower() + text[1:], hint=hint))
