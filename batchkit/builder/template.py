"""Prompts with `{column}` fields, filled from a row."""

from __future__ import annotations

import string
from dataclasses import dataclass

import orjson

from batchkit.builder.rows import Row
from batchkit.errors import InputError


@dataclass(frozen=True)
class Template:
    """A text with `{column}` fields; `{{` and `}}` are braces. `pieces` alternates literal text and column name."""

    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises InputError for anything but plain column names between braces."""
        try:
            parsed = [(literal, name, spec, conversion) for literal, name, spec, conversion in _parse(text)]
        except ValueError as error:
            raise InputError(f"the template is broken: {error}", hint=_BRACES) from None
        for _, name, spec, conversion in parsed:
            if name == "":
                raise InputError("the template has an empty field {}", hint="name a column: {column}")
            if spec or conversion:
                raise InputError(f"the template's field {{{name}…}} is not a plain column name", hint=_BRACES)
        return cls(tuple((literal, name) for literal, name, _, _ in parsed))

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(name for _, name in self.pieces if name is not None)

    def fill(self, row: Row) -> str:
        """The text for one row. Raises InputError for a column the row does not have, or has as null."""
        return "".join(literal + ("" if name is None else text(row, name)) for literal, name in self.pieces)


_parse = string.Formatter().parse
_BRACES = "a field is {column}; write {{ and }} for braces themselves"


def text(row: Row, name: str) -> str:
    """A row's value, which must be there, as text: strings as they are, anything else as JSON."""
    value = row.get(name)
    if value is None:
        why = "is null" if name in row else f"is missing (there are: {', '.join(map(str, row))})"
        raise InputError(f"column {name!r} {why}", hint="check the template and --custom-id")
    try:
        return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    except TypeError as error:
        raise InputError(f"column {name!r} cannot be written as JSON: {error}") from None
