"""What Ctrl-C does while a command is being loaded: it ends at once, since nothing is begun yet.

An exception in the middle of an import may leave Python's import lock behind, at which other threads wait for ever.
"""

from __future__ import annotations

import os
import signal
from typing import Any


def leave() -> None:
    """From here on an interrupt ends the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def stop() -> None:
    """From here on it is an exception again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: Any) -> None:
    os._exit(130)
