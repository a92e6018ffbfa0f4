"""The command that serves the emulator on a port of this machine."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from batchkit.cli.printer import Face
from batchkit.config import data_home
from batchkit.credentials import from_file
from batchkit.disk import replacing
from batchkit.errors import LedgerBusy, LocalError, MissingExtra

PORT = 8765


def emulate(
    face: Face,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = PORT,
    data: Annotated[
        Path | None, typer.Option("--data", help="Where files and batches are kept. [default: per user]")
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0.001, max=1e6, help="How many times faster than real time.")
    ] = 60.0,
    fail_rate: Annotated[
        float, typer.Option("--fail-rate", min=0.0, max=1.0, help="The share of rows that fail.")
    ] = 0.03,
) -> None:
    """An offline Azure OpenAI batch service on this machine, for rehearsals and tests.

    The key is BATCHKIT_EMULATOR_KEY, or made at random and written to a file that only you can read.

    Example: batchkit emulate --speed 600
    """
    try:
        from batchkit.emulator.serve import Emulator, InUse
    except ImportError:
        raise MissingExtra("the emulator is not installed", hint="pip install '.[emulator]' in the checkout") from None
    home = data or data_home() / "emulate"
    key_file = home / "key"
    key = os.environ.get("BATCHKIT_EMULATOR_KEY")
    if key is None and key_file.exists():
        key = from_file(key_file).reveal()  # terminals that know the key go on knowing it
    try:
        service = Emulator(home, port=port, key=key, speed=speed, fail_rate=fail_rate)
    except InUse:
        raise LedgerBusy(f"another emulator works in {home}", hint="use another --data, and another --port") from None
    except OSError as error:
        words = f"port {port} cannot be opened: {(error.strerror or str(error)).lower()}"
        raise LocalError(words, hint="use another --port, or --port 0") from None
    with replacing(key_file) as file:
        file.write(service.key.encode() + b"\n")
    with service:
        document = {"schema": "batchkit/emulator@1", "url": service.url, "key_file": str(key_file), "data": str(home)}
        face.data(
            document,
            [
                f"serving on {service.url}, {speed:g} times faster than real time; Ctrl-C stops",
                f'export AZURE_OPENAI_ENDPOINT={service.url} AZURE_OPENAI_API_KEY="$(cat {key_file})"',
            ],
        )
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()
    face.say("stopped; files and batches are kept, and go on when it is started again")
