"""Rows → request lines: the envelope, the body, and the rules that hold over all lines of a job."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from batchkit.builder.bodies import Content, Frame, content_of, frame_of
from batchkit.builder.findings import RULES, shown, told
from batchkit.builder.ids import Name, columns_of, namer
from batchkit.builder.images import Images
from batchkit.builder.kinds import CONTENT, PLACES, path_of
from batchkit.builder.rows import ROW, SUCH_ROWS, Row, is_frame, rows_of
from batchkit.builder.rules import Rules
from batchkit.builder.schema import load_schema
from batchkit.builder.template import OnMissing, SkipRow, Template
from batchkit.builder.template import jinja as filled_by_jinja
from batchkit.errors import BatchkitError, InputError
from batchkit.given import expect, warn
from batchkit.model import CHAT, URLS, Line
from batchkit.text import nearest, plural, shortened

_log = logging.getLogger(__name__)
Body = Callable[[Row], Mapping[str, Any]]
_HOLE = "\0batchkit\0"
_MOST_SHOWN = 20
"""How many columns an error names."""
_BODY = "such as 'Classify: {text}', or lambda row: {'messages': [{'role': 'user', 'content': row['text']}]}"
_FUNCTION = "mend the function, or leave such rows out before they are given: nothing was sent"
REQUESTS = "batchkit.lines(rows, deployment=…, body=…) makes request lines of rows"
_DEPLOYMENT = "the name that the deployment has in the portal, such as 'gpt-4o-batch'"


@dataclass(repr=False)
class Lines:
    """Request lines, one for each row, made as they are asked for: as `Line`s, or by `encoded` as JSONL."""

    rows: Iterable[Row]
    name: Name
    content: Content
    frame: Frame
    url: str
    alike: bool
    """Whether lines differ in nothing but custom_id and content, so that the first stands for all."""
    wanted: frozenset[str] = frozenset()
    """Columns of which a row may be without one, but not all rows."""
    uniform: bool = False
    """Whether the first row has the columns of all, as in a table."""
    constant: bool = False
    """Whether the prompt has no column at all."""
    skipped: int = field(default=0, init=False)
    """Rows left out so far because a column was missing."""
    _begun: bool = field(default=False, init=False)

    def __repr__(self) -> str:
        rows = plural(len(self.rows), "row") if isinstance(self.rows, Sized) else "rows"
        return f"<Lines of {rows} for {self.url}; Client.run takes them, iterating makes them>"

    def __iter__(self) -> Iterator[Line]:
        for _, name, content in self._contents():
            yield Line(name, self.frame(content), self.url)

    def encoded(self, *, strict: bool = False) -> Iterator[bytes]:
        """The lines as JSONL bytes, by the rules that `check` holds a file to. Raises InputError with the row."""
        if not self.alike:
            documents = ((f"row {n}", self._document(name, body)) for n, name, body in self._contents())
            yield from _encoded(documents, strict)
            return
        if self.constant:
            warn(_log, "the prompt has no {column}: every row asks the same", "is {NAME} missing in it?", strict=strict)
        rules, dumps, join = Rules(), orjson.dumps, b"".join
        try:
            opening, between, ending = dumps(self._document(_HOLE, _HOLE)).split(dumps(_HOLE))
        except TypeError as error:
            raise InputError(f"the body cannot be written as JSON: {error}", hint="check the parameters") from None
        ending += b"\n"
        seen, first = set[int](), True
        for number, name, content in self._contents():
            try:
                encoded = dumps(name)
                line = join((opening, encoded, between, dumps(content), ending))
            except TypeError as error:
                raise InputError(f"row {number} cannot be written as JSON: {error}") from None
            if first or not content:  # what is the same in all is judged once
                rules.judge(orjson.loads(line), _blamer(f"row {number}", strict))
                first = False
            key = hash(encoded)
            if key in seen:
                _blamer(f"row {number}", strict)("custom_id_twice", value=shown(name))
            seen.add(key)
            yield line

    def _document(self, name: str, content: Any) -> dict[str, Any]:
        return {"custom_id": name, "method": "POST", "url": self.url, "body": self.frame(content)}

    def _contents(self) -> Iterator[tuple[int, str, Any]]:
        """Number, name and content of every row that is not left out."""
        if self._begun and isinstance(self.rows, Iterator):
            hint = "make them anew with batchkit.lines(…), or from rows that can be read again, such as a list"
            raise InputError("these lines were used before, and their rows can be read only once", hint=hint)
        self._begun = True
        name, content, number = self.name, self.content, 0
        wanted, seen = set(self.wanted), set[str]()
        for number, row in enumerate(self.rows, 1):
            if wanted and isinstance(row, Mapping):
                wanted.difference_update(row)
                seen.update(map(str, row))
                if self.uniform:
                    _check_columns(wanted, seen)
            called = ""
            try:
                called = name(row, number)
                yield number, called, content(row)
            except SkipRow:
                self.skipped += 1
            except InputError as error:
                raise InputError(f"row {number}: {error}", hint=error.hint) from None
            except BatchkitError:
                raise
            except Exception as error:
                expect(f"row {number}", row, Mapping, ROW, hint=SUCH_ROWS)
                raise _of_the_user(error, row, number, called) from error
        if number:
            _check_columns(wanted, seen)


def _of_the_user(error: Exception, row: Row, number: int, called: str) -> InputError:
    """What a function of the user's own raised, with the row it was given, and its custom_id where that is made."""
    where = f"row {number}" if called in ("", f"row-{number}") else f"row {number} ({shown(called)})"
    there = f" (the row has: {', '.join([*map(str, row)][:_MOST_SHOWN])})" if isinstance(error, KeyError) else ""
    said = f"{type(error).__name__}: {shortened(str(error), 200)}{there}"
    return InputError(f"{where}: the function of {'body' if called else 'custom_id'} failed: {said}", hint=_FUNCTION)


def _check_columns(wanted: Collection[str], seen: Collection[str]) -> None:
    """Refuse columns that no row has: --on-missing is for rows that lack one, not for a slip in its name."""
    for name in sorted(wanted):
        meant = nearest(name, seen)
        there = ", ".join(sorted(seen)[:_MOST_SHOWN]) + (", …" if len(seen) > _MOST_SHOWN else "")
        hint = f"is {meant!r} meant?" if meant else "check the template, --custom-id and --image"
        raise InputError(f"no row has a column {name!r} (there are: {there})", hint=hint)


def lines(
    rows: Any,
    *,
    deployment: str,
    body: Body | str,
    custom_id: str | Callable[[Row], str] | None = None,
    url: str = CHAT,
    system: str | None = None,
    params: Mapping[str, Any] | None = None,
    schema: Any = None,
    images: str | None = None,
    image_detail: str | None = None,
    base: str | Path = Path(),
    on_missing: str = "error",
    jinja: bool = False,
) -> Lines:
    """One request line for each row, lazily.

    `rows` are mappings from column to value, or a dataframe (of any pandas, or of whatever has the Arrow PyCapsule
    interface). `body` is a prompt with `{column}` fields, or a function from a row to the request's body. `custom_id`
    is the column that names a row, a template such as `{country}-{sku}`, `@hash` for a hash of the row, or a function;
    without it rows are called `row-1`, `row-2`, … Rows that can be read only once (a generator, a reader) make lines
    that can be used only once. `deployment` goes into `body["model"]` of every line and `params` into every body.

    With a prompt: `system` is a system prompt (instructions, for responses); `schema` asks for structured outputs (a
    JSON Schema, a pydantic model, a path, or `module:Model`); `images` is a column of addresses or of files, looked for
    from `base`; `on_missing` says whether a row without a column of the prompt is an `error`, is left out (`skip`), or
    filled with nothing (`empty`); `jinja` makes the prompt a Jinja2 template.

    Raises InputError for what it is given, at once, and MissingExtra for Jinja2 without its extra; InputError that
    names the row when lines are made of it.
    """
    expect("deployment", deployment, str, "the name of a deployment", hint=_DEPLOYMENT)
    expect("body", body, (str, Callable), "a prompt, or a function from a row to the request's body", hint=_BODY)
    expect("custom_id", custom_id, (str, Callable, type(None)), "a column, a template, @hash or a function")
    expect("params", params, (Mapping, type(None)), "a mapping")
    for word, text in (("url", url), ("system", system or ""), ("images", images or "")):
        expect(word, text, str, "text")
    if not deployment.strip():
        raise InputError("the deployment has no name", hint=_DEPLOYMENT)
    url = PLACES.get(url, url)
    if url.removeprefix("/v1") not in URLS:
        known = ", ".join(f"/v1{known}" for known in URLS)
        raise InputError(f"batches do not take the url {url!r}", hint=f"one of {known}")
    if on_missing not in OnMissing.__members__.values():
        words = " or ".join(map(repr, map(str, OnMissing)))
        raise InputError(f"on_missing must be {words}, not {on_missing!r}", hint="leave it away for 'error'")
    missing = OnMissing(on_missing)
    extra = {**(params or {}), "model": deployment}
    frame: Frame = dict
    content: Content
    wanted, constant = columns_of(custom_id), False
    if isinstance(body, str):
        if jinja:
            fill = filled_by_jinja(body, missing)
        else:
            template = Template.parse(body)
            constant = not template.columns
            fill, wanted = template.filler(missing), wanted | template.columns
        wanted |= {images} if images else set()
        _leave_content(url, extra)
        frame = frame_of(url, system, load_schema(schema) if schema is not None else None)
        content = content_of(url, fill, Images(images, Path(base), image_detail, missing) if images else None)
        if not body.strip():
            raise InputError("the prompt is empty", hint="a prompt has text, and fields such as {column}")
    else:
        prompts = {"system": system, "schema": schema, "images": images, "image_detail": image_detail, "jinja": jinja}
        if given := [word for word, value in prompts.items() if value]:
            raise InputError(f"{', '.join(given)} belongs to a prompt", hint="a function makes the whole body itself")
        content = partial(_made, body)
    return Lines(
        rows=rows_of(rows),
        name=namer(custom_id, missing),
        content=content,
        frame=lambda content: {**frame(content), **extra},
        url=url,
        alike=isinstance(body, str),
        wanted=wanted,
        uniform=is_frame(rows),
        constant=constant,
    )


def _leave_content(url: str, params: Mapping[str, Any]) -> None:
    """Refuse parameters that would replace what the prompt makes."""
    if (made := CONTENT[path_of(url)]) in params:
        raise InputError(f"the prompt makes {made!r}, and params would replace it", hint=f"leave {made!r} out of them")


def _made(body: Body, row: Row) -> Mapping[str, Any]:
    made = body(row)
    if type(made) is not dict:
        expect("what the function of body returns", made, Mapping, "the body of a request", hint=_BODY)
    return made


def encode(lines: Iterable[Line | Mapping[str, Any]], *, strict: bool = False) -> Iterator[bytes]:
    """The lines as JSONL bytes, by the rules that `check` holds a file to, where one is `strict` its warnings too.

    A mapping is a request line as it stands in a file. Raises InputError that names the row or line.
    """
    if isinstance(lines, Lines):
        return lines.encoded(strict=strict)
    return _encoded(map(_document, enumerate(lines, 1)), strict)


def judged(lines: Iterable[bytes], *, strict: bool = False) -> Iterator[bytes]:
    """The same request lines, held to the same rules. Raises InputError that names the row."""
    rules = Rules()
    for line in lines:
        document = json.loads(line)
        rules.judge(document, _blamer(f"row {document['custom_id']!r}", strict))
        yield line


def _document(numbered: tuple[int, Line | Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    number, item = numbered
    if isinstance(item, Line):
        line = {"custom_id": item.custom_id, "method": item.method, "url": item.url, "body": item.body}
        return f"row {number}", line
    expect(f"line {number}", item, Mapping, "a request line or a Line", hint=REQUESTS)
    return f"line {number}", item


def _encoded(documents: Iterable[tuple[str, Mapping[str, Any]]], strict: bool) -> Iterator[bytes]:
    rules = Rules()
    for where, document in documents:
        rules.judge(document, _blamer(where, strict))
        try:
            yield orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError as error:
            raise InputError(f"{where} cannot be written as JSON: {error}") from None


def _blamer(where: str, strict: bool) -> Callable[..., None]:
    """What raises the first error as an InputError about `where`, or the first warning where one is `strict`. Else
    warnings are for `check`, but for slips."""

    def blame(rule: str, **facts: Any) -> None:
        message, fix = told(rule, facts)
        if RULES[rule].severity == "error":
            raise InputError(f"{where}: {RULES[rule].code}: {message}", hint=fix)
        if strict or rule == "param_misspelt":
            warn(_log, f"{where}: {message}", fix, strict=strict)

    return blame
