"""What takes long and cannot be cut short, in a thread that nobody has to wait for, not even when the program ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def begin(work: Callable[[], T]) -> Future[T]:
    """What `work` returns or raises, once it does."""
    coming: Future[T] = Future()
    coming.set_running_or_notify_cancel()

    def run() -> None:
        try:
            coming.set_result(work())
        except Exception as error:  # noqa: BLE001  (it is raised where it is waited for)
            coming.set_exception(error)

    threading.Thread(target=run, name="batchkit-aside", daemon=True).start()
    return coming
