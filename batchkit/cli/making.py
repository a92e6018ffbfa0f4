"""The flags that say how rows become request lines, shared by build and run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from batchkit.builder.kinds import PLACES
from batchkit.builder.rows import STDIN, TABLES, Row, read_rows
from batchkit.builder.template import OnMissing
from batchkit.disk import reading
from batchkit.errors import InputError, UsageError
from batchkit.model import CHAT

if TYPE_CHECKING:
    from batchkit.builder.lines import Lines

JINJA = frozenset({".j2", ".jinja", ".jinja2"})


def _option(kind: Any, flag: str, help: str, *more: str, **options: Any) -> Any:
    return Annotated[kind, typer.Option(flag, *more, help=help, **options)]


MAKE: dict[str, Any] = {
    "deployment": _option(
        str | None,
        "--deployment",
        "The Global-Batch deployment. Needed for rows; run takes the target's, where that names one.",
        "-d",
    ),
    "prompt": _option(str | None, "--prompt", "The prompt, with {column} fields. Needed for rows.", "-p"),
    "template": _option(
        Path | None, "--template", "A file with the prompt, instead of --prompt; .j2 is taken for Jinja2."
    ),
    "system": _option(str | None, "--system", "A system prompt."),
    "custom_id": _option(
        str | None,
        "--custom-id",
        "What names a row: a column, a template such as {country}-{sku}, or @hash for a hash of the row. "
        "[default: row-N]",
    ),
    "url": _option(str, "--url", "What rows are sent to: chat, responses, embeddings, or a url."),
    "param": _option(list[str] | None, "--param", "key=value for every body, such as max_tokens=200; repeatable."),
    "schema": _option(
        str | None, "--schema", "Structured outputs: a JSON Schema file, or module:Model for a pydantic model."
    ),
    "image": _option(str | None, "--image", "The column with images: addresses, or files beside the rows."),
    "image_detail": _option(str | None, "--image-detail", "How closely images are looked at: low, high or auto."),
    "sql": _option(str | None, "--sql", "A query: ROWS is a database URL, or a file that the query calls rows."),
    "on_missing": _option(
        OnMissing,
        "--on-missing",
        "A row without a column, or null there: error, skip (leave it out), empty (no text). "
        "An empty cell of a CSV is empty text, and not missing.",
    ),
}
DEFAULTS: dict[str, Any] = {"url": CHAT, "on_missing": OnMissing.ERROR}


@dataclass(frozen=True)
class Making:
    """How rows become request lines."""

    deployment: str | None = None
    prompt: str | None = None
    template: Path | None = None
    system: str | None = None
    custom_id: str | None = None
    url: str = CHAT
    param: list[str] | None = None
    schema: str | None = None
    image: str | None = None
    image_detail: str | None = None
    sql: str | None = None
    on_missing: OnMissing = OnMissing.ERROR

    def asked(self, source: str) -> bool:
        """Whether `source` has rows to make lines of; a file of request lines needs nothing. Raises UsageError."""
        if self.prompt is not None or self.template is not None:
            return True
        if self.sql is not None or Path(source).suffix.lower() in TABLES or source == STDIN:
            raise UsageError(f"{source} has rows: what to ask about each?", hint="add --prompt 'Classify: {column}'")
        return False

    def rows(self, source: str) -> Iterable[Row]:
        """The rows themselves, which can be read more than once."""
        return _Rows(source, self.sql)

    def lines(self, rows: str, deployment: str | None = None) -> Lines:
        """The request lines that the flags ask for. Raises UsageError for flags that do not go together."""
        from batchkit.builder.lines import lines

        deployment = self.deployment or deployment
        if deployment is None:
            raise UsageError("no deployment is named", hint="add --deployment NAME")
        made = lines(
            read_rows(rows, sql=self.sql),
            deployment=deployment,
            body=self._prompt(),
            custom_id=self.custom_id,
            url=self.url if self.url in PLACES or self.url.startswith("/") else f"/v1/{self.url}",
            system=self.system,
            params=dict(map(parameter, self.param or [])),
            schema=self.schema,
            images=self.image,
            image_detail=self.image_detail,
            base=Path(rows).parent,
            on_missing=self.on_missing,
            jinja=self.template is not None and self.template.suffix in JINJA,
        )
        made.uniform = self.sql is not None or Path(rows).suffix.lower() in TABLES
        return made

    def _prompt(self) -> str:
        if (self.prompt is None) == (self.template is None):
            raise UsageError("give either --prompt or --template", hint="--prompt 'Classify: {description}'")
        if self.template is None:
            prompt = self.prompt or ""
            if "{" not in prompt and os.path.isfile(prompt):  # a long prompt is no error to this one
                words = f"the prompt is the name of a file, and every row would ask for {prompt!r}"
                raise UsageError(words, hint=f"is --template {quote(prompt)} meant?")
            return prompt
        with reading(self.template):
            try:
                return self.template.read_text("utf-8-sig").rstrip("\n")
            except UnicodeDecodeError as error:
                words = f"{self.template}, byte {error.start}: not UTF-8"
                raise InputError(words, hint="save it as UTF-8") from None


@dataclass(frozen=True)
class _Rows:
    source: str
    sql: str | None

    def __iter__(self) -> Iterator[Row]:
        return iter(read_rows(self.source, sql=self.sql))


def parameter(text: str) -> tuple[str, Any]:
    """`key=value`, with the value as JSON where it is JSON and as text otherwise."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--param {text!r} is not key=value", hint="--param max_tokens=200")
    try:
        return key, orjson.loads(value)
    except orjson.JSONDecodeError:
        return key, value
