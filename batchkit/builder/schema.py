"""Structured outputs: a JSON Schema from a file or a pydantic model, as the service wants it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from batchkit.disk import reading
from batchkit.errors import InputError

_STRICT = "Azure guide, structured outputs: every object lists all its properties in required and allows no others"


def load_schema(source: str | Mapping[str, Any] | type) -> dict[str, Any]:
    """`{"name", "schema", "strict": True}` from a JSON Schema, a pydantic model, a path, or `module:Model`.

    A model is made strict (all properties required, no others allowed); a schema that somebody wrote is held to it.
    Raises InputError that names the place in the schema.
    """
    if isinstance(source, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source):
        source = _imported(source)
    if isinstance(source, str):
        return _named(_read(Path(source)), Path(source).name.split(".")[0])
    if isinstance(source, Mapping):
        return _named(dict(source), "answer")
    make = getattr(source, "model_json_schema", None)
    if make is None:
        raise InputError(
            f"{source!r} is no pydantic model", hint="give a class with model_json_schema, or a JSON Schema"
        )
    schema = make()
    if "$ref" in schema:  # a model that holds itself stands among the definitions, and the root must be an object
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]] | {"$defs": schema["$defs"]}
    for _, node in _objects(schema, "schema"):
        node["additionalProperties"] = False
        node["required"] = list(node["properties"])
    return _named(_without_defaults(schema), source.__name__)


def _imported(source: str) -> Any:
    module, _, name = source.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a script's own directory is not the user's when a command runs
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--schema {source}: {error}", hint="it is module:Model, importable from here") from None


def _read(path: Path) -> dict[str, Any]:
    with reading(path):
        data = path.read_bytes()
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is not a JSON Schema: it is no object")
    return document


def _named(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema with its name, whether it came bare, with a name, or as a whole response format."""
    if isinstance(document.get("json_schema"), dict):
        document = document["json_schema"]
    if not isinstance(document.get("schema"), dict):
        document = {"name": re.sub(r"[^A-Za-z0-9_-]", "_", str(document.get("title") or name))[:64], "schema": document}
    schema = document["schema"]
    if schema.get("type") != "object":
        raise InputError("the schema's root is not of type object", hint="wrap it: an object with one property")
    strict = document.get("strict", True)
    for where, node in _objects(schema, "schema") if strict else ():
        if node.get("additionalProperties") is not False:
            raise InputError(f"{where} allows additional properties", hint=f'"additionalProperties": false. {_STRICT}')
        if missing := set(node["properties"]) - set(node.get("required", ())):
            names = ", ".join(sorted(missing))
            raise InputError(f"{where} does not require {names}", hint=f"add them to required. {_STRICT}")
    return {"name": document.get("name") or name, "schema": schema, "strict": strict}


def _objects(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object schema with properties, with its place."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _objects(item, f"{where}[{index}]")
    elif isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield where, node
        for key, item in node.items():
            yield from _objects(item, f"{where}.{key}")


def _without_defaults(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_defaults(item) for item in node]
    if isinstance(node, dict):
        return {key: _without_defaults(item) for key, item in node.items() if key != "default"}
    return node
