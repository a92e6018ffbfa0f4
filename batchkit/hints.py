"""What to do next, as the command line says it → the same for one who calls the library. Pure."""

from __future__ import annotations

import re
import shlex
from functools import cache

_WORD = r"""(?:'[^']*'|"[^"]*"|[^\s;,#'"])+"""
_OF_A_JOB = ("track", "fetch", "retry", "cancel", "show", "report")
_OF_ALL = ("list", "doctor", "files")
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
_STAND_INS = ("JOB", "NAME", "ROWS", "CODE")
"""What stands for the reader's own."""


@cache
def _command() -> re.Pattern[str]:
    """Compiled when it is first needed: most commands end without an error."""
    return re.compile(
        rf"batchkit (?:(?P<verb>{'|'.join(_OF_A_JOB)})\b(?: (?P<job>(?!-)(?!#){_WORD}))?|(?P<all>{'|'.join(_OF_ALL)})\b"
        rf"|check\b(?: (?P<path>(?!-)(?:(?=\S*[./']){_WORD}|{_WORD}(?=$| -|  |[,;]))))?)"
        rf"(?P<flags>(?: (?:{'|'.join([*_FLAGS, *_PARTS])})(?![\w-])| (?:{'|'.join(_VALUES)}) {_WORD})*)"
        rf"(?P<rest> (?=[-'\"]|[^\s,;]*[./]\w)(?:{_WORD}|\S+)(?: {_WORD})*)?"
    )


def in_python(hint: str) -> str:
    """A hint whose commands are the calls of a Client, and whose flags are parameters. A command that says more than a
    call can stays as it is."""
    made, end = [], 0
    for command in _command().finditer(hint):
        made += [_prose(hint[end : command.start()]), _call(command)]
        end = command.end()
    return "".join([*made, _prose(hint[end:])])


def _prose(text: str) -> str:
    """What stands between the commands."""
    text = text.replace("run the same command", "make the same call").replace("the same command", "the same call")
    text = text.replace("batchkit build ROWS -o LINES makes", "batchkit.lines(rows, deployment=…, body=…) makes")
    if "batchkit " in text:  # a command that is no call
        return text
    text = re.sub(r"(?<![\w-])-t ([\w.-]+|'[^']*')", _target, text)
    text = re.sub(r"(?<![\w-])-o\b", "out", text)
    return re.sub(rf"(?<![\w-])(--[a-z][a-z-]+)(?: ({'|'.join(_STAND_INS)})\b)?", _parameter, text)


def _target(flag: re.Match[str]) -> str:
    return "target=" + repr(flag[1].strip("'"))


def _parameter(flag: re.Match[str]) -> str:
    name = flag[1].removeprefix("--").replace("-", "_")
    return f"{name}={flag[2].lower()}" if flag[2] else _FLAGS.get(flag[1]) or name


def _call(command: re.Match[str]) -> str:
    method = command["verb"] or command["all"]
    if command["rest"] or (command["flags"] and not method):
        return command[0]
    try:
        named, flags = (shlex.split(command[group] or "") for group in ("job" if method else "path", "flags"))
    except ValueError:  # what only looks like a command
        return command[0]
    if not method:
        return f"batchkit.check({(named or ['lines.jsonl'])[0]!r})"
    given, ending, left = [_value((named or ["JOB"])[0])] if command["verb"] else [], "", iter(flags)
    for flag in left:
        if flag in _PARTS:
            ending = _PARTS[flag]
        elif flag in _VALUES:
            given.append(_VALUES[flag].format(_value(next(left))))
        elif _FLAGS[flag]:
            given.append(_FLAGS[flag])
    return f"client.{method}({', '.join(given)}){ending}"


def _value(text: str) -> str:
    """A name as a string of Python's; one that stands for another is a variable."""
    return text.lower() if text in _STAND_INS else repr(text)
