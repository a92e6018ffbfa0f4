"""Real output held against the published schemas, and the schemas held against themselves."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError

from batchkit import InputError, check
from batchkit.builder.lines import encode
from batchkit.cli import documents
from batchkit.collector import export
from batchkit.config.targets import KEYS
from batchkit.tracker.query import Query

from .conftest import World, request_lines

SCHEMAS = Path(__file__).parent.parent / "schemas"


def validate(name: str, document: Any) -> None:
    """Raise ValidationError when the document is not what the schema says; bytes and enums as a reader gets them."""
    Draft202012Validator(schema(name)).validate(orjson.loads(orjson.dumps(document)))


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    return found


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: str(path.stem))
def test_every_schema_is_valid_and_describes_every_field(path: Path) -> None:
    document = orjson.loads(path.read_bytes())
    Draft202012Validator.check_schema(document)

    def fields(node: Any) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in fields(item)]
        if not isinstance(node, dict):
            return []
        own = [name for name, field in node.get("properties", {}).items() if not field.get("description")]
        return own + [name for item in node.values() for name in fields(item)]

    assert fields(document) == []
    name, version = path.name.removesuffix(".schema.json"), document["$id"].rpartition(":")[2]
    assert document["$id"] == f"urn:batchkit:schema:{name}:{version}"
    said = document.get("properties", {}).get("schema", {}).get("const")
    assert said in (None, f"batchkit/{name.removesuffix('-line')}@{version}"), "documents say the version they have"


def test_every_document_has_its_schema() -> None:
    """What the sources say that they write; tests of each command hold what it really writes against the schema."""
    sources = "".join(path.read_text("utf-8") for path in (SCHEMAS.parent / "batchkit").rglob("*.py"))
    written = set(re.findall(r"batchkit/[a-z-]+@\d+", sources))
    documents = [orjson.loads(path.read_bytes()).get("properties", {}) for path in SCHEMAS.glob("*.json")]
    assert written == {found["schema"]["const"] for found in documents if "const" in found.get("schema", {})}


def test_request_lines(world: World) -> None:
    for line in encode(request_lines(3)):
        validate("request-line", orjson.loads(line))
    with pytest.raises(ValidationError):
        validate("request-line", {"custom_id": "a", "method": "GET", "url": "/v1/chat/completions", "body": {}})


def test_results_report_and_job(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.5)
    with world.client() as client:
        results = client.run(request_lines(20), name="nightly")
        for result in results:
            validate("result-line", export.document(result))
        validate("report", documents.report(results.report, None))
        validate("report", documents.report(replace(results.report, missing=1, missing_ids=("a",)), "out.csv"))
        validate("job", documents.job(client.show("nightly")))
        page = client.list(Query())
        validate("jobs", documents.jobs(page.jobs, page.after))
        validate("doctor", documents.findings(client.doctor()))


def test_check_and_errors(tmp_path: Path, world: World) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"custom_id": 1}\nnot json\n')
    validate("check", documents.check([check(path, tokens=True)]))
    with world.client() as client, pytest.raises(InputError) as caught:
        client.submit(path)
    document = documents.error(caught.value)
    assert document["problems"]
    validate("error", document)


def test_targets_file() -> None:
    document = tomllib.loads("""
        default = "prod"
        [targets.prod]
        endpoint = "https://contoso.openai.azure.com"
        api_version = "2025-04-01-preview"
        deployment = "gpt-4o-batch"
        key_file = "~/.keys/prod"
        [targets.prod.limits]
        max_lines = 50000
    """)
    validate("targets", document)
    described = schema("targets")["properties"]["targets"]["additionalProperties"]["properties"]
    assert set(described) == set(KEYS)
    with pytest.raises(ValidationError):
        validate("targets", {"targets": {"prod": {"endpiont": "https://contoso.openai.azure.com"}}})
