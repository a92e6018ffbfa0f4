"""The command that serves the emulator on a port of this machine."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchkit.cli.printer import Face
from batchkit.config import data_home
from batchkit.config.credentials import from_file
from batchkit.disk import reading, replacing
from batchkit.errors import ConfigError, LedgerBusy, LocalError, MissingExtra

if TYPE_CHECKING:
    from batchkit.emulator import Emulator, Fault

PORT = 8765
_FAULTS = "Misbehave, such as lose_answer,nth=1 or throttle,5,call=upload; --fault help lists the kinds."


def emulate(
    face: Face,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = PORT,
    data: Annotated[
        Path | None, typer.Option("--data", help="Where files and batches are kept. [default: per user]")
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.001, max=1e6, help="How many times faster than real time.")
    ] = 60.0,
    deployment: Annotated[
        list[str] | None,
        typer.Option(
            "--deployment",
            "-d",
            metavar="NAME[:MODEL…]",
            help="A deployment there is, such as d1:gpt-4o:GlobalBatch:50M: its model, type and quota; again for more. "
            "[default: every name is one]",
        ),
    ] = None,
    fail_rate: Annotated[
        float | None, typer.Option("--fail-rate", min=0.0, max=1.0, help="The share of rows that fail. [default: 0.03]")
    ] = None,
    fault: Annotated[list[str] | None, typer.Option("--fault", help=f"{_FAULTS} Again for more.")] = None,
    faults: Annotated[Path | None, typer.Option("--faults", help="A TOML file of fault tables.")] = None,
    answers: Annotated[
        str | None,
        typer.Option("--answers", metavar="MODULE:FUNCTION", help="Your function from a request line to its answer."),
    ] = None,
    forward: Annotated[
        str | None,
        typer.Option(
            "--forward",
            metavar="URL",
            help="A server that answers every line, such as http://localhost:11434/v1; BATCHKIT_FORWARD_KEY opens it.",
        ),
    ] = None,
    late_quota: Annotated[
        bool, typer.Option("--late-quota", help="Refuse batches over quota after validation, not at once.")
    ] = False,
) -> None:
    """An offline Azure OpenAI batch service on this machine, for rehearsals, tests, and local models.

    The key is BATCHKIT_EMULATOR_KEY, or made at random and written to a file that only you can read.

    Example: batchkit emulate --speed 600 --fault lose_answer,nth=1
    """
    try:
        from batchkit.emulator import Emulator, Forward
        from batchkit.emulator.serve import InUse
    except ImportError:
        raise MissingExtra("the emulator is not installed", hint="pip install '.[emulator]' in the checkout") from None
    if fault == ["help"]:
        _explain(face)
        return
    home = data or data_home() / "emulate"
    key_file = home / "key"
    key = os.environ.get("BATCHKIT_EMULATOR_KEY")
    if key is None and key_file.exists():
        key = from_file(key_file).reveal()  # terminals that know the key go on knowing it
    if answers and forward:
        raise ConfigError("--answers and --forward both say what rows are answered", hint="give one of them")
    if fail_rate is None:
        fail_rate = 0.0 if answers or forward else 0.03
    try:
        service = Emulator(
            home,
            port=port,
            key=key,
            speed=speed,
            deployments=deployment or (),
            faults=_script(fault or [], faults),
            fail_rate=fail_rate,
            answer=_function(answers) if answers else None,
            forward=Forward(forward, key=os.environ.get("BATCHKIT_FORWARD_KEY")) if forward else None,
            late_quota=late_quota,
        )
    except ValueError as error:
        raise ConfigError(str(error), hint="batchkit emulate --help") from None
    except InUse:
        raise LedgerBusy(f"another emulator works in {home}", hint="use another --data, and another --port") from None
    except OSError as error:
        if error.filename:
            words = f"{error.filename}: {(error.strerror or str(error)).lower()}"
            raise LocalError(words, hint="use --data to keep it elsewhere") from None
        words = f"port {port} cannot be opened: {(error.strerror or str(error)).lower()}"
        raise LocalError(words, hint="use another --port, or --port 0") from None
    with replacing(key_file) as file:
        file.write(service.key.encode() + b"\n")
    _serve(face, service, home, key_file, speed)


def _serve(face: Face, service: Emulator, home: Path, key_file: Path, speed: float) -> None:
    key = quote(str(key_file.absolute()))
    with service:
        document = {"schema": "batchkit/emulator@1", "url": service.url, "key_file": str(key_file), "data": str(home)}
        face.data(
            document,
            [
                f"serving on {service.url}, {speed:g} times faster than real time; Ctrl-C stops",
                f'export AZURE_OPENAI_ENDPOINT={service.url} AZURE_OPENAI_API_KEY="$(cat {key})"',
            ],
        )
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
    face.say("stopped; files and batches are kept, and go on when it is started again")


def _script(lines: list[str], file: Path | None) -> list[Fault]:
    """The faults of the flags, and then those of the file."""
    from batchkit.emulator import faults

    script: list[Fault] = []
    where = ""
    try:
        script += faults.made(lines)
        if file is not None:
            with reading(file):
                where, text = f"{file}: ", file.read_text("utf-8")
            script += faults.load(text)
    except ValueError as error:
        raise ConfigError(f"{where}{error}", hint="batchkit emulate --fault help") from None
    return script


def _explain(face: Face) -> None:
    """The vocabulary of faults."""
    from batchkit.emulator.faults import CALLS, KINDS

    kinds = {
        name: {"does": kind.does, "call": kind.call, "value": kind.value, "how": kind.hows}
        for name, kind in KINDS.items()
    }
    lines = ["--fault KIND[,VALUE][,call=NAME][,nth=N][,rate=SHARE][,times=N][,seed=N][,how=MANNER]", ""]
    for name, kind in KINDS.items():
        value = "" if kind.value is None else f",{kind.value}"
        hows = f"; how={'|'.join(kind.hows)}" if kind.hows else ""
        lines.append(f"{name + value:<18}  {kind.does} ({kind.call}{hows})")
    lines += ["", f"calls: any, {', '.join(sorted(CALLS))}"]
    face.data({"schema": "batchkit/faults@1", "kinds": kinds, "calls": sorted(CALLS)}, lines)


def _function(path: str) -> Callable[..., Any]:
    """`MODULE:FUNCTION`, looked for in the working directory too."""
    module, colon, name = path.partition(":")
    sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--answers {path}: {error}", hint="--answers MODULE:FUNCTION, a function in MODULE.py"
        ) from None
    if not callable(function):
        raise ConfigError(f"--answers {path} names no function", hint="--answers MODULE:FUNCTION")
    return function  # type: ignore[no-any-return]
