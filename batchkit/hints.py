"""What to do next, as the command line says it → the same for one who calls the library. Pure."""

from __future__ import annotations

import re
import shlex
from functools import cache

_WORD = r"""(?:'[^']*'|"[^"]*"|[^\s;,#'"]+)+"""
_OF_A_JOB = ("track", "fetch", "retry", "cancel", "show", "report")
_OF_ALL = ("list", "doctor", "files", "check")
_FLAGS = {
    "--partial": "partial=True",
    "--overwrite": "overwrite=True",
    "--give-up": "give_up=True",
    "--probe": "probe=True",
    "--fix": "fix=True",
    "--sweep": "sweep=True",
    "--yes": "",
}
_VALUES = {"-o": "{}", "-d": "deployment={}", "--only": "only=[{}]", "--join": "join={}"}
"""The flags that take a value, and what it becomes."""
_PARTS = {"--events": ".events", "--parts": ".parts"}


@cache
def _command() -> re.Pattern[str]:
    """Compiled when it is first needed: most commands end without an error."""
    return re.compile(
        rf"batchkit (?:(?P<verb>{'|'.join(_OF_A_JOB)})(?: (?P<job>(?!-)(?!#){_WORD}))?|(?P<all>{'|'.join(_OF_ALL)})\b"
        rf"(?P<path> (?=[^\s]*[./'])(?!-){_WORD})?)"
        rf"(?P<flags>(?: (?:{'|'.join([*_FLAGS, *_PARTS])})(?![\w-])| (?:{'|'.join(_VALUES)}) {_WORD})*)"
    )


def in_python(hint: str) -> str:
    """A hint whose commands are the calls of a Client, and whose flags are parameters."""
    try:
        hint = _command().sub(_call, hint)
    except ValueError:  # what only looks like a command
        return hint
    hint = hint.replace("run the same command", "make the same call")
    hint = re.sub(r"(?<![\w-])-t ([\w.-]+)", r"target='\1'", hint.replace("the same command", "the same call"))
    return re.sub(r"(?<![\w-])--([a-z][a-z-]+)", _parameter, hint) if "batchkit " not in hint else hint


def _parameter(flag: re.Match[str]) -> str:
    return flag[1].replace("-", "_")


def _call(command: re.Match[str]) -> str:
    if command["all"] == "check":
        path = shlex.split(command["path"] or " 'lines.jsonl'")[0]
        return f"batchkit.check({path!r})"
    given = []
    if command["verb"]:
        given.append(_value(command["job"] or "JOB"))
    flags, ending = iter(shlex.split(command["flags"])), ""
    for flag in flags:
        if flag in _PARTS:
            ending = _PARTS[flag]
        elif flag in _VALUES:
            given.append(_VALUES[flag].format(_value(next(flags))))
        elif _FLAGS[flag]:
            given.append(_FLAGS[flag])
    return f"client.{command['verb'] or command['all']}({', '.join(given)}){ending}"


def _value(text: str) -> str:
    """A name as a string of Python's; one that stands for another is a variable."""
    return text.lower() if text.isupper() and text.isalpha() and len(text) > 2 else repr("".join(shlex.split(text)))
