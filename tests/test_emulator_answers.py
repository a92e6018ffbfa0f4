"""What the emulated model says: echoes, schema-shaped echoes, the user's own function, another server's answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.emulator import Emulator, Forward, Reply
from batchkit.emulator.sample import sample

from .conftest import KEY, World, request_line
from .test_emulator import create, finish, lines, run, upload

LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null", ["string", "null"], ["null", "integer"]]).map(
        lambda kind: {"type": kind}
    ),
    st.lists(st.none() | st.booleans() | st.integers() | st.text(max_size=5), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    st.integers().map(lambda value: {"const": value}),
    st.tuples(st.integers(-1000, 1000), st.integers(0, 1000)).map(
        lambda bounds: {"type": "integer", "minimum": bounds[0], "maximum": bounds[0] + bounds[1]}
    ),
    st.tuples(st.integers(-1000, 1000), st.integers(1, 1000)).map(
        lambda bounds: {"type": "number", "exclusiveMinimum": bounds[0], "exclusiveMaximum": bounds[0] + bounds[1]}
    ),
    st.integers(2, 50).map(lambda step: {"type": "integer", "multipleOf": step}),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
        lambda sizes: {"type": "string", "minLength": sizes[0], "maxLength": sum(sizes)}
    ),
    st.sampled_from(["date", "date-time", "email", "uuid", "ipv4"]).map(
        lambda name: {"type": "string", "format": name}
    ),
)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object as structured outputs want it: all properties required, no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.text(max_size=5), inner, max_size=4).map(_closed),
        st.tuples(inner, st.integers(0, 3), st.integers(0, 3)).map(
            lambda parts: {"type": "array", "items": parts[0], "minItems": parts[1], "maxItems": parts[1] + parts[2]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=8,
)
TREE = _closed({"value": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}})
LIST = {"$defs": {"n": _closed({"next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}})}, "$ref": "#/$defs/n"}


@given(SCHEMAS, st.text(max_size=10))
def test_a_sample_satisfies_its_schema(schema: dict[str, Any], seed: str) -> None:
    jsonschema.validate(sample(schema, seed, "the prompt"), schema)


@pytest.mark.parametrize("schema", [TREE, LIST])
@pytest.mark.parametrize("seed", ["a", "b", "c", "d"])
def test_recursive_schemas_end(schema: dict[str, Any], seed: str) -> None:
    jsonschema.validate(sample(schema, seed, "the prompt"), schema)


@pytest.mark.parametrize(
    "schema", [None, 3, [], {"type": "party"}, {"$ref": "#/nowhere"}, {"$ref": "#"}, {"anyOf": [3]}]
)
def test_a_senseless_schema_is_survived(schema: Any) -> None:
    assert sample(schema, "seed", "text") is None


@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_structured_outputs_come_in_their_shape(make_world: Callable[..., World], kind: str) -> None:
    world = make_world(fail_rate=0.0)
    schema = _closed({"label": {"enum": ["good", "bad"]}, "why": {"type": "string"}, "score": {"type": "integer"}})
    line = request_line(0)
    if kind == "chat":
        line["body"]["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    else:
        text = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
        line |= {"url": "/v1/responses", "body": {"model": "m", "input": "hello", "text": text}}
    with world.http() as http:
        made = create(http, upload(http, orjson.dumps(line)).json()["id"]).json()
        world.clock.advance(400)
        batch = http.get(f"/openai/v1/batches/{made['id']}").json()
        result = orjson.loads(http.get(f"/openai/v1/files/{batch['output_file_id']}/content").content)
    body = result["response"]["body"]
    said = body["choices"][0]["message"]["content"] if kind == "chat" else body["output"][0]["content"][0]["text"]
    jsonschema.validate(orjson.loads(said), schema)


def test_the_users_own_function_answers(make_world: Callable[..., World]) -> None:
    def answer(line: dict[str, Any]) -> Any:
        number = int(line["custom_id"][4:])
        return [
            f"row {number}",
            {"whole": "body"},
            Reply(422, {"error": {"code": "mine"}}),
            {"bad": {1, 2}},
            1 / number,
        ][number % 5 if number else 4]

    world = make_world(answer=answer, fail_rate=0.0)
    batch, results = run(world, 5)
    assert batch["request_counts"] == {"total": 5, "completed": 2, "failed": 3}
    found = {line["custom_id"]: line["response"] for line in results}
    assert found["row-1"]["body"] == {"whole": "body"}
    assert found["row-2"] == {"status_code": 422, "body": {"error": {"code": "mine"}}} | {
        "request_id": found["row-2"]["request_id"]
    }
    assert found["row-3"]["status_code"] == 500
    assert found["row-0"]["body"]["error"]["message"].startswith("ZeroDivisionError")
    assert found["row-4"]["body"]["choices"][0]["message"]["content"] == "0.25"


class Local(BaseHTTPRequestHandler):
    """A model server on this machine, like Ollama or vLLM."""

    protocol_version = "HTTP/1.1"
    asked: list[dict[str, Any]]
    busy = 0

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append({"path": self.path, "auth": self.headers["authorization"], "body": body})
        said = body["messages"][-1]["content"].upper()
        if said.endswith(" 5") and self.busy:
            type(self).busy -= 1
            self.send_response(429)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        answer = (
            b"out of memory" if said.endswith(" 3") else orjson.dumps({"choices": [{"message": {"content": said}}]})
        )
        self.send_response(500 if said.endswith(" 3") else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def local_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    Local.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Local) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", Local.asked
        server.shutdown()


def test_another_server_answers(make_world: Callable[..., World]) -> None:
    with local_server() as (url, asked):
        world = make_world(forward=Forward(url, key="secret"), deployments=["gpt-4o-batch:llama3"], fail_rate=0.0)
        batch, results = run(world, 20)
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 20, "completed": 19, "failed": 1})
    assert {(call["path"], call["auth"], call["body"]["model"]) for call in asked} == {
        ("/v1/chat/completions", "Bearer secret", "llama3")
    }
    found = {line["custom_id"]: line["response"] for line in results}
    assert found["row-7"]["body"]["choices"][0]["message"]["content"] == "HELLO 7"
    assert (found["row-3"]["status_code"], found["row-3"]["body"]["error"]["message"]) == (
        500,
        "no JSON but: out of memory",
    )


@pytest.mark.parametrize(("busy", "status"), [(2, 200), (3, 429)])
def test_a_server_that_is_busy_is_asked_again(make_world: Callable[..., World], busy: int, status: int) -> None:
    Local.busy = busy
    with local_server() as (url, asked):
        _, results = run(make_world(forward=Forward(url, patience_s=(0.0, 0.0)), fail_rate=0.0), 6)
    found = {line["custom_id"]: line["response"] for line in results}
    assert found["row-5"]["status_code"] == status
    assert sum(call["body"]["messages"][-1]["content"] == "hello 5" for call in asked) == 3


def test_a_server_that_is_away_fails_its_rows(make_world: Callable[..., World]) -> None:
    batch, results = run(make_world(forward="http://127.0.0.1:9", fail_rate=0.0), 3)
    assert batch["request_counts"]["failed"] == 3
    assert {line["response"]["status_code"] for line in results} == {503}


def test_an_emulator_started_again_asks_only_for_what_it_has_not(world: World, tmp_path: Path) -> None:
    with (
        local_server() as (url, asked),
        Emulator(tmp_path / "local", key=KEY, clock=world.clock, forward=url) as service,
        World(service, world.clock, tmp_path).http() as http,
    ):
        made = create(http, upload(http, lines(6)).json()["id"]).json()
    kept = tmp_path / "local" / "files" / f"{made['id']}-answers.data"
    known = {"custom_id": "row-1", "status": 200, "body": {"kept": True}}
    kept.write_bytes(orjson.dumps(known) + b'\n{"custom_id":"row-2","sta')
    with (
        local_server() as (url, asked),
        Emulator(tmp_path / "local", key=KEY, clock=world.clock, forward=url) as service,
    ):
        _, results = finish(World(service, world.clock, tmp_path), made["id"])
        assert sorted(call["body"]["messages"][-1]["content"] for call in asked) == [
            f"hello {n}" for n in (0, 2, 3, 4, 5)
        ]
    bodies = {line["custom_id"]: line["response"]["body"] for line in results}
    assert len(bodies) == 6
    assert bodies["row-1"] == {"kept": True}
    assert not kept.exists()
