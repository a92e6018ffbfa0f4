"""A value that satisfies a JSON Schema, drawn from a seed: what the emulated model says under structured outputs.

Covers what the service's structured outputs allow: types, enum, const, anyOf, $ref (recursive ones too), objects with
all their properties, bounded arrays, numbers and strings, and the common formats.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "a@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}
DEPTH = 6
"""How deep a recursive schema is followed before its optional and empty branches are taken."""


def sample(schema: Any, seed: str, text: str) -> Any:
    """A value of `schema`; free strings quote `text`. A schema that makes no sense gives null."""
    return _Sampler(schema, random.Random(seed), text).value(schema, 0)


class _Sampler:
    def __init__(self, root: Any, draw: random.Random, text: str) -> None:
        self._root, self._draw, self._text = root, draw, text

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > 64:
            return None
        if "$ref" in schema:
            return self.value(self._resolved(str(schema["$ref"])), depth + 1)
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            return self._draw.choice(list(choices))
        for word in ("anyOf", "oneOf", "allOf"):
            if branches := schema.get(word):
                return self.value(self._branch(branches, depth), depth + 1)
        kinds = schema.get("type") or ("object" if "properties" in schema else "string")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        kind = "null" if "null" in kinds and depth >= DEPTH else next((k for k in kinds if k != "null"), "null")
        if kind in ("object", "array"):
            return self._object(schema, depth) if kind == "object" else self._array(schema, depth)
        flat = {"string": self._string, "integer": self._integer, "number": self._number, "boolean": self._boolean}
        return flat[kind](schema) if kind in flat else None

    def _branch(self, branches: list[Any], depth: int) -> Any:
        """Any branch; once it is deep, one that ends: null, or else one without a reference."""
        if depth < DEPTH:
            return self._draw.choice(branches)
        ends = [branch for branch in branches if isinstance(branch, Mapping) and branch.get("type") == "null"]
        flat = [branch for branch in branches if isinstance(branch, Mapping) and "$ref" not in branch]
        return (ends or flat or branches)[0]

    def _resolved(self, reference: str) -> Any:
        found = self._root
        for step in reference.lstrip("#/").split("/") if reference != "#" else []:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, Mapping) else None
        return found

    def _object(self, schema: Mapping[str, Any], depth: int) -> Any:
        properties = schema.get("properties") or {}
        needed = set(schema.get("required", ()))
        wanted = [name for name in properties if name in needed or depth < DEPTH]
        return {name: self.value(properties[name], depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], depth: int) -> Any:
        least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
        count = least if depth >= DEPTH else min(max(least, self._draw.randint(1, 3)), max(least, most))
        return [self.value(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]

    def _string(self, schema: Mapping[str, Any]) -> Any:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = schema.get("minLength", 0), schema.get("maxLength", 80)
        return self._text[:most].ljust(least, "-")

    def _integer(self, schema: Mapping[str, Any]) -> Any:
        step = int(schema.get("multipleOf", 1)) or 1
        low, high = _bounds(schema, 1)
        first, last = -(-low // step), high // step
        return step * self._draw.randint(int(first), max(int(first), int(last)))

    def _number(self, schema: Mapping[str, Any]) -> Any:
        if "multipleOf" in schema:
            return self._integer({**schema, "multipleOf": max(1, schema["multipleOf"])})
        low, high = _bounds(schema, 1e-6)
        return min(high, max(low, round(self._draw.uniform(low, high), 3)))

    def _boolean(self, _: Mapping[str, Any]) -> Any:
        return self._draw.random() < 0.5


def _bounds(schema: Mapping[str, Any], least: float) -> tuple[Any, Any]:
    """The smallest and the largest number allowed; an interval open at both ends is 0 to 100."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = above + least
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = below - least
    if low is None:
        low = 0 if high is None else min(0, high - 100)
    return low, low + 100 if high is None else high
