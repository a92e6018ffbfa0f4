"""The emulator's scripted misbehaviour: which faults there are, which calls they strike, and when. Pure.

A fault is a line such as `lose_answer,call=create_batch,nth=1`, or a `[[fault]]` table with the same words in a TOML
file. Without `nth`, `rate` or `times` it strikes every call of its kind.
"""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

ANY = "any"
CALLS = frozenset(
    "upload import_file list_files get_file content delete_file create_batch list_batches get_batch cancel".split()
)
Value = int | float | str | None


@dataclass(frozen=True)
class Kind:
    """What one word of the vocabulary does, the call it strikes unless told, and its value and manner unless told."""

    does: str
    call: str
    value: Value = None
    hows: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    # the connection and the HTTP answer
    "lose_answer": Kind("does the call, then cuts the connection, or answers 500", "create_batch", hows=("cut", "500")),
    "reset_at": Kind("cuts the connection at this byte of the body", ANY, 0, ("response", "request")),
    "slow": Kind("sends this many bytes a second", "content", 100_000),
    "truncate": Kind("ends the body at this byte as if it were whole", "content", 100),
    "html": Kind("answers a gateway's HTML page with this status, undone", ANY, 502),
    "error": Kind("answers this status, undone", ANY, 503),
    "throttle": Kind(
        "answers 429, to be tried again after so many seconds", ANY, 30, ("seconds", "date", "ms", "none")
    ),
    # lists
    "hide_for": Kind("keeps a new batch out of lists for so many seconds", "create_batch", 300),
    "bare_list": Kind("leaves first_id and last_id away", "list_batches"),
    "endless_list": Kind("says has_more and gives the first page for ever", "list_batches"),
    # files
    "pending_for": Kind("keeps a new file pending for so many seconds", "upload", 60),
    "spoil_file": Kind("a new file ends in error", "upload"),
    # batches
    "forget_metadata": Kind("the batch has no metadata", "create_batch"),
    "quota": Kind(
        "refuses a batch for the token quota, at once or after validation", "create_batch", hows=("now", "late")
    ),
    "expire": Kind("the batch expires with this share of its rows done", "create_batch", 0.5),
    "fail_all": Kind("every row fails with this status", "create_batch", 400),
    "status": Kind("shows this status while the batch runs; `recased` capitalises all", "create_batch", "paused"),
    "iso_times": Kind("times are ISO 8601 text", "create_batch"),
    "null_counts": Kind("request_counts has nulls", "create_batch"),
    "late_output": Kind("names the result files so many seconds after completion", "create_batch", 120),
    "no_errors": Kind("how a batch without failed rows shows its error file", "create_batch", "zero", ()),
    # rows
    "drop_rows": Kind("this share of the rows comes back nowhere", "create_batch", 0.01),
    "double_rows": Kind("this share of the rows comes back twice", "create_batch", 0.01),
    "invent_rows": Kind("rows come back that nobody asked for, this share of them", "create_batch", 0.01),
}
_WORDS = {"no_errors": ("null", "empty", "zero", "absent")}


@dataclass(frozen=True)
class Fault:
    """One scripted fault. `nth` (from 1) means only that call, `rate` a share of the calls drawn by `seed`, `times`
    how often at most; `value` and `how` are the kind's own."""

    kind: str
    value: Value = None
    call: str = ""
    nth: int | None = None
    rate: float = 1.0
    times: int | None = None
    seed: int = 0
    how: str = ""

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"there is no fault {self.kind!r}; there are {', '.join(KINDS)}")
        if self.call and self.call != ANY and self.call not in CALLS:
            raise ValueError(f"{self.kind}: there is no call {self.call!r}; there are {', '.join(sorted(CALLS))}, any")
        if self.how and self.how not in kind.hows:
            raise ValueError(f"{self.kind}: how is one of {', '.join(kind.hows) or '(nothing)'}, not {self.how!r}")
        if self.nth is not None and self.nth < 1:
            raise ValueError(f"{self.kind}: nth counts from 1")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"{self.kind}: rate is between 0 and 1")
        value = kind.value if self.value is None else self.value
        if isinstance(kind.value, int | float) != isinstance(value, int | float) or (value is None) != (
            kind.value is None
        ):
            raise ValueError(f"{self.kind}: its value is {_described(kind.value)}, not {self.value!r}")
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise ValueError(f"{self.kind}: its value is a number from 0 on, not {value!r}")
        if self.kind in _WORDS and value not in _WORDS[self.kind]:
            raise ValueError(f"{self.kind}: its value is one of {', '.join(_WORDS[self.kind])}, not {value!r}")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "call", self.call or kind.call)
        object.__setattr__(self, "how", self.how or (kind.hows or ("",))[0])

    @property
    def number(self) -> float:
        """The value of a kind whose value is a number."""
        assert isinstance(self.value, int | float)
        return self.value


@dataclass
class Faults:
    """The faults of one emulator and how often each met its call. Counting starts anew when the emulator does."""

    script: list[Fault] = field(default_factory=list)
    _met: dict[int, int] = field(default_factory=dict)
    _struck: dict[int, int] = field(default_factory=dict)

    def strike(self, call: str) -> dict[str, Fault]:
        """The faults that strike this call, by kind; where two of a kind do, the first."""
        struck: dict[str, Fault] = {}
        for index, fault in enumerate(self.script):
            if fault.call not in (call, ANY):
                continue
            met = self._met[index] = self._met.get(index, 0) + 1
            if self._strikes(fault, index, met):
                self._struck[index] = self._struck.get(index, 0) + 1
                struck.setdefault(fault.kind, fault)
        return struck

    def _strikes(self, fault: Fault, index: int, met: int) -> bool:
        if fault.nth is not None and met != fault.nth:
            return False
        if fault.times is not None and self._struck.get(index, 0) >= fault.times:
            return False
        return fault.rate >= 1 or random.Random(f"{fault.seed}/{index}/{met}").random() < fault.rate


def parse(text: str) -> Fault:
    """`KIND[,VALUE][,call=…][,nth=…][,rate=…][,times=…][,seed=…][,how=…]`, or with spaces. Raises ValueError."""
    kind, *words = text.replace(",", " ").split() or [""]
    table: dict[str, Any] = {"kind": kind}
    for word in words:
        name, equals, value = word.partition("=")
        name, value = (name, value) if equals else ("value", word)
        table[name] = value if name in ("how", "call") else _typed(value)
    return _fault(table)


def load(text: str) -> list[Fault]:
    """The `[[fault]]` tables of a TOML file. Raises ValueError."""
    document = tomllib.loads(text)
    if unknown := sorted(document.keys() - {"fault"}):
        raise ValueError(f"unknown table {unknown[0]!r}; a fault is a table [[fault]]")
    tables = document.get("fault", [])
    if not isinstance(tables, list):
        raise ValueError("a fault is a table [[fault]], with two brackets")
    return [_fault(table) for table in tables]


def made(faults: Iterable[Fault | str]) -> list[Fault]:
    """Faults from faults and from lines."""
    return [parse(fault) if isinstance(fault, str) else fault for fault in faults]


def _fault(table: Mapping[str, Any]) -> Fault:
    types: dict[str, tuple[type, ...]] = {
        "kind": (str,),
        "value": (int, float, str),
        "call": (str,),
        "nth": (int,),
        "rate": (int, float),
        "times": (int,),
        "seed": (int,),
        "how": (str,),
    }
    assert types.keys() == {entry.name for entry in fields(Fault)}
    for name, value in table.items():
        if name not in types:
            raise ValueError(f"{table.get('kind', 'fault')}: there is no {name!r}; there are {', '.join(types)}")
        if isinstance(value, bool) or not isinstance(value, types[name]):
            raise ValueError(f"{table.get('kind', 'fault')}: {name} cannot be {value!r}")
    if not table.get("kind"):
        raise ValueError("a fault needs a kind")
    return Fault(**table)


def _typed(word: str) -> Value:
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _described(value: Value) -> str:
    return {type(None): "nothing", str: "a word"}.get(type(value), "a number")
