"""Prompts with `{column}` fields, filled from a row; or Jinja2, where a prompt needs loops and conditions."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import Any

import orjson

from batchkit.builder.rows import Row
from batchkit.errors import InputError, MissingExtra
from batchkit.text import nearest, plain

Fill = Callable[[Row], str]
_parse = string.Formatter().parse
_BRACES = "a field is {column}; write {{ and }} for braces themselves"


class OnMissing(StrEnum):
    """What to do about a column that a row does not have, or has as null (NaN too): refuse, leave the row out, or take
    it for empty text."""

    ERROR = "error"
    SKIP = "skip"
    EMPTY = "empty"


class SkipRow(Exception):
    """This row is left out, as the user asked for."""


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

    def filler(self, on_missing: OnMissing = OnMissing.ERROR) -> Fill:
        """A function from a row to its text. It raises InputError for a column that is missing or null, or SkipRow."""
        names = [name for _, name in self.pieces if name is not None]
        pattern = "".join(literal.replace("%", "%%") + ("" if name is None else "%s") for literal, name in self.pieces)
        if not names:
            constant = pattern % ()
            return lambda _: constant

        def slowly(row: Row) -> str:
            return pattern % tuple(text(row, name, on_missing) for name in names)

        get = itemgetter(*names)
        if len(names) == 1:

            def fill_one(row: Row) -> str:
                try:
                    value = get(row)
                except LookupError:
                    return slowly(row)
                return pattern % (value,) if type(value) is str else slowly(row)

            return fill_one

        def fill(row: Row) -> str:
            try:
                values = get(row)
            except LookupError:
                return slowly(row)
            for value in values:
                if type(value) is not str:
                    return slowly(row)
            filled: str = pattern % values
            return filled

        return fill


def jinja(source: str, on_missing: OnMissing = OnMissing.ERROR) -> Fill:
    """As `Template.filler`, for a Jinja2 template, in a sandbox. Raises MissingExtra without the extra `jinja`."""
    try:
        from jinja2 import ChainableUndefined, StrictUndefined, TemplateError, UndefinedError
        from jinja2.sandbox import SandboxedEnvironment
    except ImportError:
        raise MissingExtra("Jinja2 templates need an extra", hint="pip install '.[jinja]' in the checkout") from None
    undefined = ChainableUndefined if on_missing is OnMissing.EMPTY else StrictUndefined
    try:
        template = SandboxedEnvironment(undefined=undefined, autoescape=False).from_string(source)
    except TemplateError as error:
        raise InputError(f"the template is broken: {error}") from None

    def fill(row: Row) -> str:
        try:
            return str(template.render(row))
        except UndefinedError as error:
            if on_missing is OnMissing.SKIP:
                raise SkipRow from None
            raise InputError(f"the template wants what the row has not: {error}", hint=_ROW) from None
        except Exception as error:  # noqa: BLE001  (an expression fails as Python's do, in any way)
            raise InputError(f"the template fails: {error}") from None

    return fill


_ROW = "check the template and --custom-id, or say --on-missing skip or empty"


def text(row: Row, name: str, on_missing: OnMissing = OnMissing.ERROR) -> str:
    """A row's value as text: strings as they are, dates as ISO 8601, lists and objects as JSON."""
    value = row.get(name)
    if _is_null(value):
        if on_missing is OnMissing.SKIP:
            raise SkipRow
        if on_missing is OnMissing.EMPTY:
            return ""
        if name in row:
            raise InputError(f"column {name!r} is null", hint=_ROW)
        meant = nearest(name, map(str, row))
        hint = f"is {meant!r} meant? Or say --on-missing skip or empty" if meant else _ROW
        raise InputError(f"column {name!r} is missing (there are: {', '.join(map(str, row))})", hint=hint)
    return as_text(name, value)


def _is_null(value: Any) -> bool:
    """Whether a value is what tables call null: None, NaN, or pandas' NA, of which nothing can be asked."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def as_text(name: str, value: Any) -> str:
    """A value that is there, as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        raise InputError(f"column {name!r} holds bytes, not text", hint="decode it, or leave it out of the template")
    try:
        written = orjson.dumps(value, default=plain).decode()
    except TypeError as error:
        raise InputError(f"column {name!r} cannot be written as JSON: {error}") from None
    # What JSON has no type for (dates, decimals, UUIDs) is written as a JSON string; in a prompt it needs no quotes.
    return written if isinstance(value, (bool, int, float, list, dict, tuple)) else written.strip('"')
