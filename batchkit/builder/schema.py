"""Structured outputs: a JSON Schema from a file or a pydantic model, as the service wants it."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from batchkit.disk import reading
from batchkit.errors import InputError
from batchkit.given import expect

_log = logging.getLogger(__name__)
_STRICT = "Azure guide, structured outputs: every object lists all its properties in required and allows no others"
_LOOSE = 'or give {"name": …, "schema": …, "strict": false}'
_PAIRS = f"name its properties, or make it a list of objects with a key and a value (no dict in pydantic); {_LOOSE}"
_REFUSED = {
    "oneOf": "write anyOf",
    "allOf": "write one schema with all that they say",
    "not": "leave it away",
    "if": "leave it away, with then and else",
    "dependentRequired": "leave it away",
    "dependentSchemas": "leave it away",
    "prefixItems": "make it an object with a property for each item (no tuple in pydantic)",
    "patternProperties": _PAIRS,
    "propertyNames": _PAIRS,
    "uniqueItems": "leave it away (in pydantic a list in place of a set)",
}
"""Keywords that strict structured outputs take nowhere (OpenAI guide, structured outputs; Azure's lists no more)."""
_DOUBTFUL = frozenset(
    "default minLength maxLength pattern format minimum maximum multipleOf minItems maxItems contains minContains "
    "maxContains minProperties maxProperties unevaluatedProperties unevaluatedItems".split()
)
"""Keywords that Azure's guide says it does not take, of which OpenAI's takes some: only spoken of."""
_TYPED = frozenset({"type", "$ref", "anyOf", "enum", "const", *_REFUSED})
"""What says which values a schema allows."""


def load_schema(source: Any) -> dict[str, Any]:
    """`{"name", "schema", "strict": True}` from a JSON Schema, a pydantic model, a path, or `module:Model`.

    A model is made strict (all properties required, no others allowed); a schema that somebody wrote is held to it,
    but for one that comes as `{"name", "schema", "strict": False}`. Raises InputError that names the place in the
    schema and what to write there.
    """
    if isinstance(source, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", source):
        source = _imported(source)
    if isinstance(source, (str, os.PathLike)):
        return _named(_read(Path(source)), Path(source).name.split(".")[0])
    if isinstance(source, Mapping):
        return _named(dict(source), "answer")
    make = getattr(source, "model_json_schema", None)
    if make is not None and not isinstance(source, type):
        hint = f"schema={type(source).__name__}"
        raise InputError("schema must be a pydantic model itself, not an instance of it", hint=hint)
    expect("schema", source, type, "a pydantic model, a JSON Schema or the path of one", hint=_MODEL)
    if make is None:
        raise InputError(f"{source!r} is no pydantic model", hint=_MODEL)
    schema = make()
    if "$ref" in schema:  # a model that holds itself stands among the definitions, and the root must be an object
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]] | {"$defs": schema["$defs"]}
    for _, node in _schemas(schema, "schema"):
        _make_strict(node)
    return _named(schema, source.__name__)


_MODEL = "give a class made from pydantic.BaseModel (version 2), or a JSON Schema"


def _make_strict(node: dict[str, Any]) -> None:
    """What pydantic says in other words than the service knows, in its words."""
    node.pop("default", None)
    if "properties" in node:
        node["additionalProperties"] = False
        node["required"] = list(node["properties"])
    if "oneOf" in node:  # of which a discriminator says the same as the models' own constants
        node["anyOf"] = node.pop("oneOf")
        node.pop("discriminator", None)
    if len(node.get("allOf", ())) == 1:
        node["anyOf"] = node.pop("allOf")
    if "$ref" in node and len(node) > 1:
        node["anyOf"] = [{"$ref": node.pop("$ref")}]


def _imported(source: str) -> Any:
    module, _, name = source.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a script's own directory is not the user's when a command runs
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"schema {source}: {error}", hint="it is module:Model, importable from here") from None


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
    schema, called = document["schema"], document.get("name") or name
    if not isinstance(called, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", called):
        raise InputError(f"the schema's name is {called!r}", hint="up to 64 letters, digits, dashes and underscores")
    if schema.get("type") != "object" or "anyOf" in schema:
        raise InputError("the schema's root is not of type object", hint="wrap it: an object with one property")
    strict = document.get("strict", True)
    for where, node in _schemas(schema, "schema") if strict else ():
        _check_strict(where, node, schema)
    return {"name": called, "schema": schema, "strict": strict}


def _check_strict(where: str, node: dict[str, Any], root: dict[str, Any]) -> None:
    """Refuse what strict structured outputs refuse, with what to write instead."""
    if "properties" in node or "object" in _types(node):
        _check_object(where, node)
    for keyword in sorted(node.keys() & _REFUSED.keys()):
        if node[keyword] is not False:
            words = f"{where} has {keyword}, which structured outputs do not take"
            raise InputError(words, hint=_REFUSED[keyword])
    if node.keys().isdisjoint(_TYPED):
        raise InputError(f"{where} does not say of which type it is", hint='give it a "type" (no Any in pydantic)')
    if "array" in _types(node) and not isinstance(node.get("items"), dict):
        raise InputError(f"{where} is a list of anything", hint='say of what, in "items"')
    if "$ref" in node and len(node) > 1:
        words = f"{where} says more beside its $ref"
        raise InputError(words, hint='put the $ref into a list of its own: "anyOf": [{"$ref": …}]')
    if "$ref" in node and not _leads_somewhere(node["$ref"], root):
        words = f"{where} refers to {node['$ref']!r}, which is not there"
        raise InputError(words, hint='a $ref names a place in the schema itself, as in "#/$defs/Name"')
    if doubtful := sorted(node.keys() & _DOUBTFUL):
        words = "%s has %s, which Azure's guide says that structured outputs do not take: rows may be refused for it"
        _log.warning(words, where, ", ".join(doubtful))


def _check_object(where: str, node: dict[str, Any]) -> None:
    """All properties of an object are named, and all are required."""
    if not isinstance(node.get("properties"), dict):
        raise InputError(f"{where} is an object of any keys", hint=_PAIRS)
    if node.get("additionalProperties") is not False:
        raise InputError(f"{where} allows additional properties", hint=f'"additionalProperties": false. {_STRICT}')
    if missing := set(node["properties"]) - set(node.get("required", ())):
        names, optional = ", ".join(sorted(missing)), 'what may be left out has the type ["string", "null"]'
        raise InputError(f"{where} does not require {names}", hint=f"add them to required; {optional}. {_STRICT}")


def _types(node: Mapping[str, Any]) -> tuple[Any, ...]:
    found = node.get("type")
    return tuple(found) if isinstance(found, list) else (found,)


def _leads_somewhere(reference: Any, root: Any) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    for step in reference.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(root, dict) or step not in root:
            return False
        root = root[step]
    return isinstance(root, dict)


def _schemas(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all within it, each with its place. What a property is called is no keyword."""
    if not isinstance(node, dict):
        return
    yield where, node
    for key, inner in list(node.items()):
        if key in ("properties", "$defs", "definitions") and isinstance(inner, dict):
            for name, schema in inner.items():
                yield from _schemas(schema, f"{where}.{key}.{name}")
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(inner, list):
            for index, schema in enumerate(inner):
                yield from _schemas(schema, f"{where}.{key}[{index}]")
        elif key in ("items", "additionalProperties"):
            yield from _schemas(inner, f"{where}.{key}")
