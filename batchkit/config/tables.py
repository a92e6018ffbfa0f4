"""One table of a TOML file, found, written and taken out as text, so that all else stays as its author wrote it. Pure.

The parser is the judge: what a change makes is read again, and must say what was meant and nothing else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from batchkit.errors import ConfigError

Path = tuple[str, ...]
_Block = tuple[Path | None, list[str]]
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def line_of(text: str, table: Path, key: str) -> int | None:
    """The number of the line, from 1, on which a table's key stands (`limits.files` is one of `limits`, too)."""
    number, *names = 0, *key.split(".")
    pattern = re.compile(rf"""\s*["']?{re.escape(names[0])}["']?\s*(\.|=)""")
    for path, lines in _blocks(text):
        nested = len(names) > 1 and path == (*table, names[0])
        deeper = re.compile(rf"""\s*["']?{re.escape(names[-1])}["']?\s*=""")
        for line in lines:
            number += 1
            if (path == table and pattern.match(line)) or (nested and deeper.match(line)):
                return number
    return None


def replaced(text: str, table: Path, values: Mapping[str, Any]) -> str:
    """`text` with this table, where it stood, or at the end. Its own comments are kept above its values."""
    blocks = _blocks(text)
    mine = [index for index, (path, _) in enumerate(blocks) if _within(path, table)]
    comments = [line for index in mine for line in _split_off(blocks[index][1])[0] if line.lstrip().startswith("#")]
    end = _end(text)
    new = ["[" + ".".join(map(_key, table)) + f"]{end}", *comments]
    new += [f"{_key(key)} = {_value(value)}{end}" for key, value in values.items()]
    if mine:
        new += _split_off(blocks[mine[0]][1])[1]
    elif text.strip():
        new.insert(0, end if text.endswith("\n") else 2 * end)
    result = "".join(
        "".join(new if index == mine[0] else _split_off(lines)[1]) if index in mine else "".join(lines)
        for index, (_, lines) in enumerate(blocks)
    )
    return _judged(text, result if mine else result + "".join(new), table, dict(values))


def with_default(text: str, name: str | None) -> str:
    """`text` with this target as its `default`, or with none."""
    (_, head), *rest = _blocks(text)
    kept = [line for line in head if not re.match(r"""\s*["']?default["']?\s*=""", line)]
    if name is None and not rest and not any(line.strip() for line in kept[-1:]):
        kept = kept[:-1]  # the blank line that stood between it and the tables
    end = _end(text)
    new = [] if name is None else [f"default = {_value(name)}{end}", *([] if kept else [end])]
    result = "".join([*new, *kept, *(line for _, lines in rest for line in lines)]).lstrip("\r\n")
    wanted = {key: value for key, value in tomllib.loads(text).items() if key != "default"}
    try:
        found = tomllib.loads(result)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != wanted | ({} if name is None else {"default": name}):
        raise ConfigError("default is written in a way that only its author can change", hint="edit the file by hand")
    return result


def removed(text: str, table: Path) -> str:
    """`text` without this table, and without the comment directly above it."""
    blocks = _blocks(text)
    kept = []
    for (path, lines), (after, _) in zip(blocks, [*blocks[1:], (None, [])], strict=True):
        mine = _tail(lines) if _within(path, table) else lines
        kept += _without_comment(mine) if _within(after, table) else mine
    return _judged(text, "".join(kept), table, None)


def _judged(before: str, after: str, table: Path, values: dict[str, Any] | None) -> str:
    """`after`, if it is `before` but for this table."""
    wanted = tomllib.loads(before)
    inner = wanted
    for name in table[:-1]:
        inner = inner.setdefault(name, {})
    inner.pop(table[-1], None)
    if values is not None:
        inner[table[-1]] = values
    try:
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        found = {}
    for document in (wanted, found):
        if not document.get(table[0]):
            document.pop(table[0], None)
    if found != wanted:
        name = ".".join(map(_key, table))
        raise ConfigError(f"{name} is written in a way that only its author can change", hint="edit the file by hand")
    return after


def _blocks(text: str) -> list[_Block]:
    """The lines of a file, cut before each header of a table; what stands before the first has no path."""
    blocks: list[_Block] = [(None, [])]
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        path = _header(line) if line.lstrip().startswith("[") else None
        if path is not None:
            blocks.append((path, []))
        blocks[-1][1].append(line)
    return blocks


def _header(line: str) -> Path | None:
    try:
        found: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        name, found = next(iter(found.items()))
        path.append(name)
    return tuple(path)


def _within(path: Path | None, table: Path) -> bool:
    return path is not None and path[: len(table)] == table


def _split_off(lines: list[str]) -> tuple[list[str], list[str]]:
    """A block, and the blank lines and comments at its end, which rather belong to what follows."""
    end = len(lines)
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return lines[:end], lines[end:]


def _tail(lines: list[str]) -> list[str]:
    """The comments at the end of a block, with the blank lines around them."""
    tail = _split_off(lines)[1]
    return tail if any(line.strip() for line in tail) else []


def _without_comment(lines: list[str]) -> list[str]:
    """A block without the comment at its very end, which is about what follows."""
    end = len(lines)
    while end and lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return lines[:end]


def _end(text: str) -> str:
    """How the lines of a file end."""
    return "\r\n" if "\r\n" in text else "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
