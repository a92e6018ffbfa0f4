"""The emulator as strangers see it: by plain HTTP, and by the official SDK in both dialects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchkit.builder.lines import encode
from batchkit.emulator import Emulator, Limits
from batchkit.emulator.serve import InUse

from .conftest import KEY, VERSION, World, request_line, request_lines

DATED = {"api-version": VERSION}


def upload(http: httpx.Client, data: bytes, *, base: str = "/openai/v1", **fields: str) -> httpx.Response:
    return http.post(
        f"{base}/files",
        params=DATED if base == "/openai" else None,
        data={"purpose": "batch", **fields},
        files={"file": ("in.jsonl", data, "application/json")},
    )


def lines(count: int = 5) -> bytes:
    return b"".join(encode(request_lines(count)))


def create(http: httpx.Client, file_id: str, **changes: Any) -> httpx.Response:
    body = {"input_file_id": file_id, "endpoint": "/chat/completions", "completion_window": "24h"}
    return http.post("/openai/v1/batches", json=body | changes)


def run(world: World, count: int = 100) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One batch of `count` rows to its end, and the lines of both its files."""
    with world.http() as http:
        made = create(http, upload(http, lines(count)).json()["id"], metadata={"a": "b"}).json()
    return finish(world, made["id"])


def finish(world: World, batch_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A batch at its end, and the lines of both its files."""
    with world.http() as http:
        for _ in range(100):
            batch: dict[str, Any] = http.get(f"/openai/v1/batches/{batch_id}").json()
            if batch["status"].lower() in ("completed", "failed", "expired"):
                break
            world.clock.advance(1800)
        files = [batch[name] for name in ("output_file_id", "error_file_id") if batch.get(name)]
        found = [http.get(f"/openai/v1/files/{file_id}/content").content.splitlines() for file_id in files]
    return batch, [orjson.loads(line) for part in found for line in part]


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/openai/v1/batches", {}, 401, "unauthorized"),
        ("/openai/v1/batches", {"api-key": "wrong"}, 401, "unauthorized"),
        ("/openai/v1/batches", {"authorization": "Bearer wrong"}, 401, "unauthorized"),
        ("/openai/batches", {"api-key": KEY}, 404, "404"),
        ("/openai/batches?api-version=soon", {"api-key": KEY}, 404, "404"),
        ("/openai/v1/batches/none", {"api-key": KEY}, 404, "notFound"),
        ("/openai/v1/files/none/content", {"api-key": KEY}, 404, "notFound"),
        ("/openai/deployments/x/files?api-version=2025-04-01-preview", {"api-key": KEY}, 404, "404"),
        ("/openai/v1/batches?limit=101", {"api-key": KEY}, 400, "invalidPayload"),
        ("/openai/v1/batches?after=none", {"api-key": KEY}, 400, "invalidPayload"),
        ("/openai/v1/batches", {"api-key": KEY, "host": "evil.example"}, 403, "forbidden"),
    ],
)
def test_refusals(world: World, path: str, headers: dict[str, str], status: int, code: str) -> None:
    answer = httpx.get(world.service.url + path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_the_envelope_is_that_of_the_dialect(world: World) -> None:
    with world.http() as http:
        dated = http.get("/openai/batches/none", params=DATED).json()["error"]
        v1 = http.get("/openai/v1/batches/none").json()["error"]
    assert set(dated) == {"code", "message"}
    assert set(v1) == {"code", "message", "param", "type"}


def test_uploads(world: World) -> None:
    with world.http() as http:
        dated = upload(
            http, lines(), base="/openai", **{"expires_after.anchor": "created_at", "expires_after.seconds": "1209600"}
        )
        assert dated.status_code == 201
        file = dated.json()
        assert file["expires_at"] == file["created_at"] + 1209600
        assert (file["status"], file["bytes"], file["purpose"]) == ("processed", len(lines()), "batch")
        brackets = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "259200"}
        v1 = upload(http, lines(), **brackets)
        assert (v1.status_code, v1.json()["expires_at"] - v1.json()["created_at"]) == (200, 259200)
        old = http.post(
            "/openai/files",
            params={"api-version": "2024-10-21"},
            data={"purpose": "batch", **brackets},
            files={"file": ("in.jsonl", lines(), "application/json")},
        )
        assert old.json()["expires_at"] is None
        short = upload(http, lines(), **brackets | {"expires_after[seconds]": "10"})
        assert "between 259200 and 2592000" in short.json()["error"]["message"]
        assert "Invalid value for purpose." in upload(http, lines(), purpose="party").json()["error"]["message"]
        content = http.get(f"/openai/v1/files/{file['id']}/content")
        assert content.content == lines()
        part = http.get(f"/openai/v1/files/{file['id']}/content", headers={"range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, lines()[5:10])
        assert http.delete(f"/openai/v1/files/{file['id']}").json()["deleted"] is True
        assert http.get(f"/openai/v1/files/{file['id']}").status_code == 404


def test_a_file_part_without_content_type_is_refused(world: World) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\r\n--x--\r\n'
    )
    with world.http() as http:
        answer = http.post(
            "/openai/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
        )
    assert answer.json()["error"]["message"] == "The file has no or an empty content type specified."


def test_a_large_file_takes_its_time_and_a_batch_has_to_wait(world: World) -> None:
    with world.http() as http:
        data = b"".join(encode([request_line(0, text="x" * 1_100_000)]))
        file = upload(http, data).json()
        assert file["status"] == "pending"
        assert create(http, file["id"]).status_code == 400
        world.clock.advance(11)
        assert http.get(f"/openai/v1/files/{file['id']}").json()["status"] == "processed"
        assert create(http, file["id"]).status_code == 201


def test_the_life_of_a_batch(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.3)
    with world.http() as http:
        file_id = upload(http, lines(200)).json()["id"]
        made = create(http, file_id, metadata={"a": "b"}).json()
        assert (made["status"], made["endpoint"], made["output_file_id"]) == ("validating", "", "")
        seen: list[str] = []
        for _ in range(400):
            batch = http.get(f"/openai/v1/batches/{made['id']}").json()
            if not seen or batch["status"] != seen[-1]:
                seen.append(batch["status"])
            if batch["status"] == "completed":
                break
            world.clock.advance(5)
        assert seen == ["validating", "in_progress", "finalizing", "completed"]
        assert batch["metadata"] == {"a": "b"}
        counts = batch["request_counts"]
        assert counts["completed"] + counts["failed"] == counts["total"] == 200
        output, errors = (
            [orjson.loads(line) for line in http.get(f"/openai/v1/files/{batch[key]}/content").content.splitlines()]
            for key in ("output_file_id", "error_file_id")
        )
    assert (len(output), len(errors)) == (counts["completed"], counts["failed"])
    ids = [line["custom_id"] for line in output]
    assert ids != sorted(ids, key=lambda name: int(name[4:]))
    assert {line["response"]["status_code"] for line in errors} == {400, 429, 500}
    assert all("id" not in line and line["error"] is None for line in output)
    assert output[0]["response"]["body"]["choices"][0]["message"]["content"].startswith("The emulator read: “hello")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\xef\xbb\xbf" + lines(1), "invalid_request"),
        (lines(1) + b"oops\n", "invalid_json_line"),
        (lines(1) + lines(1), "duplicate_custom_id"),
        (lines(1) + b"".join(encode([request_line(5, model="other")])), "model_mismatch"),
        (lines(1) + orjson.dumps(request_line(5) | {"url": "/v1/responses"}), "url_mismatch"),
        (lines(1) + orjson.dumps(request_line(5) | {"method": "GET"}), "invalid_request"),
        (lines(1) + orjson.dumps(request_line(5) | {"body": {}}), "model_not_found"),
        (lines(8), "too_many_tasks"),
    ],
)
def test_validation_codes(make_world: Callable[..., World], data: bytes, code: str) -> None:
    world = make_world(limits=Limits(max_lines=5))
    with world.http() as http:
        made = create(http, upload(http, data).json()["id"]).json()
        world.clock.advance(60)
        batch = http.get(f"/openai/v1/batches/{made['id']}").json()
    assert batch["status"] == "failed"
    assert code in [error["code"] for error in batch["errors"]["data"]]


def test_lists_page_filter_and_order(world: World) -> None:
    with world.http() as http:
        file_id = upload(http, lines()).json()["id"]
        made = []
        for _ in range(7):
            made.append(create(http, file_id).json())
            world.clock.advance(100)
        newest = [batch["id"] for batch in reversed(made)]
        for limit in (1, 3, 7, 20):
            found: list[str] = []
            after: str | None = None
            while True:
                query = {"limit": limit} | ({"after": after} if after else {})
                page = http.get("/openai/v1/batches", params=query).json()
                found += [batch["id"] for batch in page["data"]]
                after = page["last_id"]
                if not page["has_more"]:
                    break
            assert found == newest

        def listed(**query: str) -> list[str]:
            params = DATED | {f"${key}": value for key, value in query.items()}
            return [batch["id"] for batch in http.get("/openai/batches", params=params).json()["data"]]

        since = made[4]["created_at"]
        assert listed(filter=f"created_at gt {since}") == newest[:2]
        assert listed(filter=f"created_at gt {since}", orderby="created_at asc") == newest[:2][::-1]
        assert listed(filter="status eq 'Completed'") == newest[-4:]
        before = made[6]["created_at"]
        assert listed(filter=f"created_at lt {before} and status eq 'in_progress'") == newest[1:2]
        bad = http.get("/openai/batches", params=DATED | {"$filter": "colour eq 'red'"})
        assert bad.status_code == 400
        ignored = http.get("/openai/v1/batches", params={"$filter": "status eq 'Completed'"}).json()["data"]
        assert len(ignored) == 7


def test_cancel(world: World) -> None:
    with world.http() as http:
        made = create(http, upload(http, lines(50)).json()["id"]).json()
        world.clock.advance(150)
        assert http.post(f"/openai/v1/batches/{made['id']}/cancel").json()["status"] == "cancelling"
        world.clock.advance(121)
        batch = http.get(f"/openai/v1/batches/{made['id']}").json()
        again = http.post(f"/openai/v1/batches/{made['id']}/cancel")
    assert batch["status"] == "cancelled"
    assert 0 < batch["request_counts"]["completed"] < 50
    assert again.status_code == 409


@pytest.mark.parametrize(
    "changes",
    [{"completion_window": "1h"}, {"input_file_id": None}, {"metadata": {"a": ["b"]}}, {"metadata": {"a": "b" * 513}}],
)
def test_bad_creates(world: World, changes: dict[str, Any]) -> None:
    with world.http() as http:
        assert create(http, upload(http, lines()).json()["id"], **changes).status_code == 400
    assert world.batches() == []


def test_an_emulator_started_again_goes_on(world: World, tmp_path: Path) -> None:
    with world.http() as http:
        made = create(http, upload(http, lines()).json()["id"]).json()
    directory = tmp_path / "copy"
    shutil.copytree(tmp_path / "service-0", directory)
    with Emulator(directory, key=KEY, clock=world.clock, fail_rate=0.0) as again:
        world.clock.advance(400)
        with httpx.Client(base_url=again.url, headers={"api-key": KEY}) as http:
            batch = http.get(f"/openai/v1/batches/{made['id']}").json()
            assert batch["status"] == "completed"
            assert len(http.get(f"/openai/v1/files/{batch['output_file_id']}/content").content.splitlines()) == 5
        with pytest.raises(InUse):
            Emulator(directory)


def sdk(world: World, dialect: str) -> openai.OpenAI:
    if dialect == "dated":
        return openai.AzureOpenAI(azure_endpoint=world.service.url, api_key=KEY, api_version=VERSION)
    return openai.OpenAI(base_url=f"{world.service.url}/openai/v1/", api_key=KEY)


@pytest.mark.parametrize("dialect", ["dated", "v1"])
def test_the_official_sdk(world: World, dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines(30))
    with sdk(world, dialect) as client, path.open("rb") as file:
        expiry: Any = {"anchor": "created_at", "seconds": 1209600}
        uploaded = client.files.create(file=file, purpose="batch", expires_after=expiry)
        assert uploaded.status == "processed"
        assert uploaded.expires_at == uploaded.created_at + 1209600
        made = [
            client.batches.create(
                input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"n": "1"}
            )
            for _ in range(3)
        ]
        assert {batch.id for batch in client.batches.list(limit=2)} == {batch.id for batch in made}
        world.clock.advance(400)
        batch = client.batches.retrieve(made[0].id)
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert batch.request_counts.completed == 30
        assert batch.output_file_id is not None
        results = client.files.content(batch.output_file_id).content
        assert len(results.splitlines()) == 30
        assert uploaded.id in [item.id for item in client.files.list()]
        assert client.files.delete(uploaded.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(uploaded.id)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("m") | JSON},
    optional=dict.fromkeys(("messages", "input", "response_format", "text", "dimensions", "stream"), JSON),
)
ODD_LINES = st.one_of(
    st.binary(max_size=60),
    JSON.map(orjson.dumps),
    st.fixed_dictionaries(
        {
            "custom_id": st.text(max_size=4) | JSON,
            "method": st.just("POST") | JSON,
            "url": st.sampled_from(["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]) | JSON,
            "body": BODIES | JSON,
        }
    ).map(orjson.dumps),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ODD_LINES, max_size=4), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_any_file_is_judged_and_any_batch_ends(world: World, odd: list[bytes], start: bytes) -> None:
    with world.http() as http:
        uploaded = upload(http, start + b"\n".join(odd)).json()
        made = create(http, uploaded["id"]).json()
        http.delete(f"/openai/v1/files/{uploaded['id']}")
    batch, results = finish(world, made["id"])
    assert batch["status"] in ("failed", "completed")
    assert (batch["status"] == "failed") == bool(batch["errors"])
    assert len(results) == (batch["request_counts"]["total"] if batch["status"] == "completed" else 0)
