"""What rows become: bodies of each kind, custom_ids, structured outputs, images; and what a missing column does."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import batchkit
from batchkit import InputError, Limits, check
from batchkit.builder.ids import hashed
from batchkit.builder.lines import encode
from batchkit.builder.split import stage
from batchkit.builder.tokens import tokens_of

from .conftest import request_lines
from .test_build import build
from .tools.shell import Command


class Place(BaseModel):
    """A pydantic model of a user."""

    name: str
    near: list[Place] = []


class Free(BaseModel):
    """A model with a free dictionary."""

    tags: dict[str, int]


class Pair(BaseModel):
    key: str
    value: Any


class Paired(BaseModel):
    pairs: list[Pair]


class Cat(BaseModel):
    is_a: Literal["cat"]


class Dog(BaseModel):
    is_a: Literal["dog"]


class Plain(BaseModel):
    """What pydantic says in words that strict structured outputs do not know."""

    default: int
    near: Place = Field(description="next to it")
    kind: str | None = None
    pet: Cat | Dog = Field(discriminator="is_a")


def strict(**properties: Any) -> dict[str, Any]:
    """A schema of one object, all whose properties are required."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def png(width: int, height: int) -> bytes:
    """The smallest file that says it is this large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IEND", b"")


def test_custom_ids_from_a_template_a_hash_and_a_function() -> None:
    rows: list[dict[str, Any]] = [{"c": "de", "n": 7}, {"n": 8, "c": "fr"}]
    body = "{c}"
    assert [line["custom_id"] for line in build(rows, body, custom_id="{c}-{n}")] == ["de-7", "fr-8"]
    hashes = [line["custom_id"] for line in build(rows, body, custom_id="@hash")]
    assert hashes == [hashed({"n": 7, "c": "de"}), hashed(rows[1])]
    assert all(len(name) == 32 for name in hashes)
    assert [line["custom_id"] for line in build(rows, body, custom_id=lambda row: f"x{row['n']}")] == ["x7", "x8"]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{"a": "x"}, {"a": "x"}], {"custom_id": "@hash"}, "row 2: duplicate_custom_id"),
        ([{"a": "x"}] * 3, {"custom_id": "{a}"}, "row 2: duplicate_custom_id"),
        ([{"a": "x"}, {"a": "y"}, {"a": "y"}], {"custom_id": "a"}, "row 3: duplicate_custom_id"),
        ([{"a": "x"}], {"custom_id": lambda row: 7}, "row 1: the custom_id that was made is 7"),
        ([{"a": "x"}], {"params": {"n": "two"}}, "row 1: invalid_parameter: body.n is 'two'"),
        ([{"a": "x"}], {"params": {"stream": True}}, "row 1: invalid_request: body.stream"),
        ([{"a": "x"}], {"deployment": "<deployment>"}, "placeholder"),
        ([{"a": "x"}], {"url": "/v1/embeddings", "system": "be brief"}, "takes no prompt"),
        ([{"a": "x"}], {"url": "/v1/embeddings", "images": "a"}, "takes no images"),
        ([{"a": "x"}, {"a": ""}], {"url": "/v1/embeddings"}, "row 2: .*body.input"),
        ([{"a": "x"}, {"a": ""}], {"url": "/v1/responses"}, "row 2: .*body.input"),
        ([{"a": b"x"}], {}, "row 1: column 'a' holds bytes"),
        ([{"a": "\ud800"}], {}, "row 1 cannot be written as JSON"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_row(
    rows: list[dict[str, Any]], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        list(encode(batchkit.lines(rows, **{"deployment": "d", "body": "{a}", **options})))


class NAType:
    """As pandas' NA: nothing can be asked of it."""

    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("null", [None, float("nan"), NAType()], ids=["None", "NaN", "NA"])
def test_a_missing_column_is_an_error_or_skipped_or_empty(null: Any) -> None:
    rows: list[dict[str, Any]] = [{"a": "1"}, {"b": "2"}, {"a": None}, {"a": null}, {"a": "5"}]
    with pytest.raises(InputError, match=r"row 2: column 'a' is missing \(there are: b\)"):
        build(rows)
    assert [line["custom_id"] for line in build(rows, on_missing="skip")] == ["row-1", "row-5"]
    texts = [line["body"]["messages"][0]["content"] for line in build(rows, "<{a}>", on_missing="empty")]
    assert texts == ["<1>", "<>", "<>", "<>", "<5>"]


def test_skipped_rows_are_counted(tmp_path: Path, command: Command) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": "1"}\n{"a": null}\n{"b": "3"}\n')
    flags = ["-d", "d", "-p", "{a}", "--on-missing", "skip", "--json", "-o", "lines.jsonl"]
    code, out, _ = command(tmp_path, "build", "rows.jsonl", *flags)
    assert (code, orjson.loads(out)["lines"], orjson.loads(out)["skipped"]) == (0, 1, 2)


def test_what_to_type_after_build_can_be_typed(tmp_path: Path, command: Command) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    code, _, err = command(tmp_path, "build", "rows.csv", "-d", "d", "-p", "{a}", "-o", "my lines.jsonl")
    assert (code, err) == (0, "next:  batchkit check 'my lines.jsonl'\n")


def test_jinja_templates() -> None:
    rows: list[dict[str, Any]] = [{"tags": ["x", "y"], "a": "1"}, {"tags": [], "a": "2"}]
    source = "{% for tag in tags %}{{ tag }};{% endfor %}{{ a }}"
    texts = [line["body"]["messages"][0]["content"] for line in build(rows, source, jinja=True)]
    assert texts == ["x;y;1", "2"]
    with pytest.raises(InputError, match="row 1: the template wants what the row has not: 'b' is undefined"):
        build(rows, "{{ b }}", jinja=True)
    assert build(rows, "{{ b }}", jinja=True, on_missing="skip") == []
    with pytest.raises(InputError, match="template is broken"):
        build(rows, "{% for %}", jinja=True)
    for expression, words in (
        ("a + 1", "concatenate"),
        ("1 // 0", "by zero"),
        ("tags['x']", "has not"),
        ("a[::0]", "zero"),
    ):
        with pytest.raises(InputError, match=f"row 1: the template .*{words}"):
            build(rows, "{{ " + expression + " }}", jinja=True)


def test_structured_outputs_from_a_model_and_from_a_file(tmp_path: Path) -> None:
    rows = [{"a": "x"}]
    (chat,) = build(rows, schema=Place)
    schema = chat["body"]["response_format"]["json_schema"]
    assert (chat["body"]["response_format"]["type"], schema["name"], schema["strict"]) == ("json_schema", "Place", True)
    place = schema["schema"]["$defs"]["Place"] if "$defs" in schema["schema"] else schema["schema"]
    assert (place["additionalProperties"], place["required"]) == (False, ["name", "near"])
    path = tmp_path / "city.schema.json"
    properties = {"name": {"type": "string"}}
    path.write_bytes(orjson.dumps(strict(**properties)))
    (response,) = build(rows, url="/v1/responses", schema=path)
    assert response["body"]["text"]["format"] == {
        "type": "json_schema",
        "name": "city",
        "schema": strict(**properties),
        "strict": True,
    }


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, "schema allows additional properties"),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, "schema does not require a"),
        ({"type": "array"}, "not of type object"),
        ("nowhere:Model", "No module named"),
        ("tests.test_making:Nothing", "Nothing"),
        ("nowhere.json", "no such file"),
        (Path, "no pydantic model"),
        (
            strict(tags={"type": "object", "additionalProperties": {"type": "string"}}),
            "properties.tags is an object of",
        ),
        (strict(tags={"type": ["object", "null"]}), "properties.tags is an object of any keys"),
        (strict(a={"type": "array", "items": {"type": "object"}}), "properties.a.items is an object of any keys"),
        (strict(a={"oneOf": [{"type": "string"}]}), "properties.a has oneOf"),
        (strict(a={"type": "array", "prefixItems": [{"type": "string"}]}), "properties.a has prefixItems"),
        (strict(a={}), "properties.a does not say of which type it is"),
        (strict(a={"type": "array"}), "properties.a is a list of anything"),
        (strict(a={"$ref": "#/$defs/A", "description": "x"}), r"properties.a says more beside its \$ref"),
        (strict(a={"$ref": "#/$defs/A"}), "which is not there"),
        ({"name": "two words", "schema": strict()}, "the schema's name is 'two words'"),
        (Free, r"schema\.properties\.tags is an object of any keys"),
        (Paired, r"schema\.\$defs\.Pair\.properties\.value does not say of which type"),
    ],
)
def test_a_schema_that_the_service_would_refuse_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        build([{"a": "x"}], schema=schema)
    assert refused.value.hint


def schema_of(model: Any) -> dict[str, Any]:
    (line,) = build([{"a": "x"}], schema=model)
    found: dict[str, Any] = line["body"]["response_format"]["json_schema"]
    return found


def test_a_model_is_said_in_words_that_the_service_knows(caplog: pytest.LogCaptureFixture) -> None:
    made = schema_of(Plain)["schema"]
    assert made["required"] == ["default", "near", "kind", "pet"]
    assert made["properties"]["near"] == {"description": "next to it", "anyOf": [{"$ref": "#/$defs/Place"}]}
    assert made["properties"]["kind"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Kind"}
    assert [*made["properties"]["pet"]] == ["title", "anyOf"]
    assert not caplog.records
    schema_of(strict(n={"type": "integer", "minimum": 0}))
    assert "schema.properties.n has minimum, which Azure's guide says" in caplog.text


def test_a_loose_schema_is_left_as_it_is() -> None:
    loose = {"name": "Free", "schema": Free.model_json_schema(), "strict": False}
    assert schema_of(loose) == loose


def test_images_by_address_and_by_file(tmp_path: Path, command: Command) -> None:
    (tmp_path / "a.png").write_bytes(png(3, 2))
    (tmp_path / "rows.csv").write_text("see,a\na.png,x\nhttps://host/b.jpg,y\n")
    flags = ["-d", "gpt-4o", "-p", "What is {a}?", "--image", "see", "--image-detail", "low", "-o", "lines.jsonl"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, _, err = command(elsewhere, "build", "../rows.csv", *flags)
    assert code == 0, err
    lines = [orjson.loads(line) for line in (elsewhere / "lines.jsonl").read_bytes().splitlines()]
    pieces = [line["body"]["messages"][0]["content"] for line in lines]
    assert [piece[0]["text"] for piece in pieces] == ["What is x?", "What is y?"]
    url = pieces[0][1]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == png(3, 2)
    assert pieces[1][1] == {"type": "image_url", "image_url": {"url": "https://host/b.jpg", "detail": "low"}}
    assert check(elsewhere / "lines.jsonl").problems == ()


def test_images_for_responses_and_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    options: dict[str, Any] = {"images": "see", "url": "/v1/responses"}
    (line,) = build([{"a": "x", "see": ["https://host/b.jpg"]}], **options)
    (message,) = line["body"]["input"]
    assert [piece["type"] for piece in message["content"]] == ["input_text", "input_image"]
    for see, words in (("a.png", "is no PNG"), ("nowhere.png", "no such file"), ("", "names no image")):
        with pytest.raises(InputError, match=f"row 1: .*{words}"):
            build([{"a": "x", "see": see}], base=tmp_path, **options)


sizes = st.lists(st.integers(0, 60), min_size=1, max_size=60)


@settings(max_examples=50)
@given(sizes, st.integers(2, 9), st.integers(200, 400), st.none() | st.integers(15, 60))
def test_no_part_passes_a_limit_and_none_is_a_runt(
    texts: list[int], max_lines: int, max_bytes: int, max_tokens: int | None
) -> None:
    import tempfile

    documents = request_lines(len(texts))
    for document, size in zip(documents, texts, strict=True):
        document["body"]["messages"][0]["content"] = "x" * size
    lines = list(encode(documents))
    limits = Limits(max_lines=max_lines, max_bytes=max_bytes, enqueued_tokens=max_tokens)
    hashes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            try:
                staged = stage(lines, Path(name), limits)
            except InputError as error:
                assert "larger than a file may be" in str(error) or "more than the deployment takes" in str(error)
                return
            parts = [path.read_bytes().splitlines(keepends=True) for path in sorted(Path(name).iterdir())]
        hashes.append([part.sha256 for part in staged.slices])
        assert [line for part in parts for line in part] == lines
        for part in parts:
            assert len(part) <= max_lines
            assert sum(map(len, part)) <= max_bytes
            assert max_tokens is None or sum(map(tokens_of, part)) <= max_tokens
    assert hashes[0] == hashes[1]


def test_the_last_two_parts_share_what_would_be_a_runt(tmp_path: Path) -> None:
    lines = list(encode(request_lines(201)))
    staged = stage(lines, tmp_path, Limits(max_lines=100))
    assert [part.lines for part in staged.slices] == [100, 50, 51]
    assert b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir())) == b"".join(lines)
