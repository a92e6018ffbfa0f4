"""A downloaded result file looked at before it is taken: one pass, every line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import orjson

from batchkit.collector.lines import loads, name_of
from batchkit.disk import PIECE


@dataclass(frozen=True)
class Look:
    """What one look at a result file found. `broken` lines are no JSON objects, `strange` ones name no row of the part;
    `exact` says that the strictest reader takes all, and `ended` that the last line has its newline."""

    bytes: int
    lines: int
    broken: int
    strange: int
    exact: bool
    ended: bool
    sha256: str

    def short(self, announced: int | None) -> str | None:
        """Why a file cannot be all of what the service has, which `announced` so many bytes."""
        if announced is not None and self.bytes != announced:
            return f"{self.bytes} of {announced} bytes"
        if announced is None and not self.ended:
            return "its last line is cut"
        return None

    def odd(self, rows: int) -> str | None:
        """What in a file, whole or not, is not what the service says of it: that it holds `rows` rows at least."""
        if self.broken:
            return f"{self.broken} of its {self.lines} lines are not JSON"
        if self.lines < rows:
            return f"it holds {self.lines} of the {rows} rows that the service counts as completed"
        return None


def look(path: Path, asked: Path) -> Look:
    """Read a result file once; `asked` has the request lines of its part."""
    with asked.open("rb", buffering=PIECE) as file:
        names = {name_of(line) for line in file}
    digest = hashlib.sha256()
    size = lines = broken = strange = 0
    last, exact = b"\n", True
    with path.open("rb", buffering=PIECE) as file:
        for last in file:
            digest.update(last)
            size += len(last)
            if last.isspace():
                continue
            lines += 1
            try:
                good = isinstance(orjson.loads(last), dict)
            except orjson.JSONDecodeError:
                exact, good = False, _readable(last)
            broken += not good
            strange += good and name_of(last) not in names
    return Look(size, lines, broken, strange, exact and not broken, last.endswith(b"\n"), digest.hexdigest())


def _readable(line: bytes) -> bool:
    try:
        return isinstance(loads(line), dict)
    except ValueError:
        return False
