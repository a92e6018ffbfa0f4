"""Answers of your own for the emulator: batchkit emulate --answers answers:answer (run beside this file)."""

from typing import Any


def answer(line: dict[str, Any]) -> str:
    """The text of the model's answer to one request line. A dict would be the whole response body."""
    words = line["body"]["messages"][-1]["content"].split()
    return f"{len(words)} words"
