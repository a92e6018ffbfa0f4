"""The command line. What goes wrong becomes a message, a hint and an exit code, here and in `options.command`."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer

from batchkit import __version__
from batchkit.cli import doctor, emulate, follow, jobs, limits, look, report, rows, stored, targets
from batchkit.cli.options import command

app = typer.Typer(
    name="batchkit",
    help="Rows in, answers out, through Azure OpenAI Global Batch: half the price, no row lost, none paid twice.",
    epilog="Every flag can also be set as BATCHKIT_<FLAG>. Exit codes: 0 done · 2 usage · 3 input refused · "
    "4 configuration · 5 the service refused · 6 try later · 7 not finished · 8 some rows failed · 9 busy · "
    "10 results do not add up · 11 uncertain · 12 this machine · 130/143 interrupted, state saved.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _function, _name in (
    (rows.build, "build"),
    (rows.check, "check"),
    (jobs.submit, "submit"),
    (follow.track, "track"),
    (jobs.fetch, "fetch"),
    (jobs.run, "run"),
    (jobs.retry, "retry"),
    (follow.cancel, "cancel"),
    (report.report, "report"),
    (look.list_jobs, "list"),
    (look.show, "show"),
    (stored.files, "files"),
    (limits.limits, "limits"),
    (doctor.doctor, "doctor"),
    (emulate.emulate, "emulate"),
):
    command(app, _name)(_function)


app.add_typer(targets.app, name="targets")


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


def _name_variables(group: Any) -> None:
    """Let every flag of every command also be set as BATCHKIT_<FLAG>."""
    for child in getattr(group, "commands", {}).values():
        _name_variables(child)
        for option in child.params:
            if option.param_type_name == "option" and not option.envvar:
                flag = max(option.opts, key=len)
                option.envvar = "BATCHKIT_" + flag.strip("-").replace("-", "_").upper()


def main() -> None:
    """The console command."""
    try:
        group = typer.main.get_command(app)
        _name_variables(group)
        group(prog_name="batchkit")
    except Exception as error:  # noqa: BLE001  (the last door: whatever it is, a user gets a sentence)
        if "-v" in sys.argv or "--verbose" in sys.argv:
            traceback.print_exc()
        print(f"error: a bug in batchkit: {type(error).__name__}: {error}", file=sys.stderr)
        print("next:  the same command with -v shows where; please report it", file=sys.stderr)
        sys.exit(1)
