"""Which columns a flat table of results has, and how a row fills them. Pure."""

from __future__ import annotations

from array import array
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from batchkit.errors import ResultError, UsageError
from batchkit.model import Job, Result
from batchkit.text import as_text

RESULT = "custom_id ok text".split()
DETAIL = (
    "finish_reason status_code error_code error_message input_tokens output_tokens model request_id round batch_id"
).split()
OURS, ANSWERS = "result_", "answer_"
"""What is put in front of a column of ours whose name the input has, and of one of the answers' whose name the input or
we have: the input's columns keep their names, whatever answers are asked to be, and so do ours without the input's."""


class Kind(Enum):
    """What a column holds. A VECTOR is a list of floats of one length."""

    TEXT = auto()
    INTEGER = auto()
    NUMBER = auto()
    BOOLEAN = auto()
    VECTOR = auto()


_KINDS = {"ok": Kind.BOOLEAN} | dict.fromkeys(("status_code", "input_tokens", "output_tokens", "round"), Kind.INTEGER)
_JSON = {"string": Kind.TEXT, "integer": Kind.INTEGER, "number": Kind.NUMBER, "boolean": Kind.BOOLEAN}
_NOTHING: Mapping[str, Any] = {}
_EACH = "--each gives every embedding a row of its own; .jsonl takes them as they come"

Source = tuple[Mapping[str, Any], Result, Mapping[str, Any], Mapping[str, Any]]
"""What a row is filled from: the input row, the result, the parsed answer, one embedding."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, what it holds, and where a row has it."""

    name: str
    kind: Kind
    value: Callable[[Source], Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table. `answers` are the names to be parsed out of an answer's text; with `vectors` the answers
    are embeddings, and with `each` every one of them has a row of its own."""

    columns: tuple[Column, ...]
    answers: frozenset[str] = frozenset()
    vectors: bool = False
    each: bool = False

    @property
    def one_vector(self) -> bool:
        """Whether a row has room for one embedding, and no more."""
        return self.vectors and not self.each

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def rows(self, pairs: Iterable[tuple[Mapping[str, Any], Result]]) -> Iterator[list[Any]]:
        """The values of the columns, a list for each row of the table."""
        values = [column.value for column in self.columns]
        for row, result in pairs:
            parsed = _parsed(result.text) if self.answers and result.ok else _NOTHING
            for vector in self._vectors(result) if self.vectors else (_NOTHING,):
                source = row, result, parsed, vector
                yield [value(source) for value in values]

    def _vectors(self, result: Result) -> Sequence[Mapping[str, Any]]:
        items = result.response.get("data") if result.ok and isinstance(result.response, dict) else None
        found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        if len(found) > 1 and self.one_vector:
            raise ResultError(f"row {result.custom_id!r} has {len(found)} embeddings", hint=_EACH)
        return [{"index": item.get("index"), "embedding": _floats(item.get("embedding"))} for item in found] or [
            _NOTHING
        ]

    def only(self, names: Sequence[str], joined: Collection[str] = ()) -> Table:
        """The same table with these columns, in this order; those of the `joined` rows come first where none of them is
        named. Raises UsageError for one it does not have."""
        known = {column.name: column for column in self.columns}
        for name in names:
            if name not in known:
                raise UsageError(f"there is no column {name!r}", hint=f"known: {', '.join(known)}")
        first = () if set(names) & set(joined) else joined
        chosen = tuple(known[name] for name in (*first, *names))
        return Table(chosen, self.answers, self.vectors, self.each)


def table(job: Job, line: bytes, joined: Mapping[str, Kind], *, each: bool = False) -> Table:
    """The table of a job's results: first the columns of the joined rows, then ours, with one for each property of the
    schema that `line`, a request of the job, asks answers to follow. No two have the same name: see OURS."""
    vectors = job.url.endswith("/embeddings")
    if each and not vectors:
        raise UsageError("only embeddings have a row each", hint="leave --each away: each row has one answer")
    answers = {} if vectors else properties(line)
    theirs = [Column(name, kind, _get(0, name)) for name, kind in joined.items()]
    first, details = (
        [Column(name, _KINDS.get(name, Kind.TEXT), _of_result(name)) for name in names] for names in (RESULT, DETAIL)
    )
    if vectors:
        first += [Column("index", Kind.INTEGER, _get(3, "index"))] * each
        first.append(Column("embedding", Kind.VECTOR, _get(3, "embedding")))
    ours = _free(OURS, [*first, *details], theirs)
    said = [Column(name, kind, _fitting(name, kind)) for name, kind in answers.items()]
    middle = _free(ANSWERS, said, [*theirs, *ours])
    columns = (*theirs, *ours[: len(first)], *middle, *ours[len(first) :])
    return Table(columns, frozenset(answers), vectors, each)


def _free(prefix: str, columns: Sequence[Column], before: Sequence[Column]) -> list[Column]:
    """The same columns, with the prefix in front of names that others have already."""
    taken, own, made = {column.name for column in before}, {column.name for column in columns}, list[Column]()
    for column in columns:
        name = column.name
        while name in taken or (name != column.name and name in own):
            name = prefix + name
        taken.add(name)
        made.append(replace(column, name=name))
    return made


def schema_of(line: bytes) -> Any:
    """The JSON Schema that a request line holds its answer to; None for free text.

    Chat completions keep it in `response_format.json_schema.schema`, responses in `text.format.schema`.
    """
    node = orjson.loads(line).get("body") if line else None
    return _down(node, ("response_format", "json_schema", "schema")) or _down(node, ("text", "format", "schema"))


def properties(line: bytes) -> dict[str, Kind]:
    """The top-level properties of the JSON Schema that a request line holds its answer to; none for free text."""
    found = schema_of(line)
    fields = found.get("properties") if isinstance(found, dict) else None
    return {name: _kind(field) for name, field in fields.items()} if isinstance(fields, dict) else {}


def refuse_several(line: bytes) -> None:
    """Raise UsageError for a request line that asks for more than one embedding: several texts, or lists of tokens."""
    document = orjson.loads(line)
    asked = _down(document, ("body", "input"))
    if isinstance(asked, list) and len(asked) > 1 and not isinstance(asked[0], int):
        raise UsageError(f"row {document.get('custom_id')!r} asks for {len(asked)} embeddings", hint=_EACH)


def kind_of(value: Any) -> Kind | None:
    """What a column must hold to keep this value; None for one that fits in any."""
    if value is None:
        return None
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int):
        return Kind.INTEGER if -(1 << 63) <= value < 1 << 63 else Kind.TEXT
    return Kind.NUMBER if isinstance(value, float) else Kind.TEXT


def wider(before: Kind | None, after: Kind | None) -> Kind | None:
    """The kind that keeps the values of both."""
    if before is None or after is None or before is after:
        return before or after
    return Kind.NUMBER if {before, after} == {Kind.INTEGER, Kind.NUMBER} else Kind.TEXT


def _down(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _kind(field: Any) -> Kind:
    """The kind of a schema's property, null aside; anything nested or mixed is kept as JSON text."""
    ways = field.get("anyOf", [field]) if isinstance(field, dict) else []
    said = [way.get("type") for way in ways if isinstance(way, dict)] if isinstance(ways, list) else []
    names = [name for item in said for name in (item if isinstance(item, list) else [item]) if name != "null"]
    return _JSON.get(names[0], Kind.TEXT) if len(names) == 1 and isinstance(names[0], str) else Kind.TEXT


def _get(source: int, name: str) -> Callable[[Source], Any]:
    return lambda sources: sources[source].get(name)  # type: ignore[union-attr]  # sources[1] is not asked for here


def _of_result(name: str) -> Callable[[Source], Any]:
    second, attribute = itemgetter(1), attrgetter(name)
    return lambda sources: attribute(second(sources))


def _fitting(name: str, kind: Kind) -> Callable[[Source], Any]:
    """A property of the answer, as the column's kind; one that does not fit is left out: `text` has it all the same."""

    def value(sources: Source) -> Any:
        found = sources[2].get(name)
        if found is None or kind is Kind.TEXT:
            return found if found is None else as_text(found)
        return found if wider(kind, kind_of(found)) is kind else None

    return value


def _parsed(text: str | None) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text or "")
    except orjson.JSONDecodeError:
        return _NOTHING
    return found if isinstance(found, dict) else _NOTHING


def _floats(value: Any) -> list[float] | None:
    """An embedding as numbers; services send a list, or with `encoding_format: base64` little-endian 32-bit floats."""
    if isinstance(value, str):
        try:
            return array("f", b64decode(value, validate=True)).tolist()
        except ValueError:
            return None
    if not isinstance(value, list) or not all(isinstance(item, (int, float)) for item in value):
        return None
    return value
