"""What the emulated resource allows: api-versions, deployments, quotas, files in number, blobs, time."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.emulator import Deployment, Emulator, Limits, Pace

from .conftest import KEY, World, request_line
from .test_emulator import DATED, create, lines, upload

EXPIRY = {"expires_after.anchor": "created_at", "expires_after.seconds": "1209600"}


@pytest.mark.parametrize(
    ("version", "status", "created", "headers", "filters", "expires", "pages"),
    [
        ("2024-06-01", 404, 0, False, False, False, False),
        ("2024-07-01-preview", 201, 201, False, False, False, False),
        ("2024-10-01-preview", 201, 201, True, True, False, False),
        ("2024-10-21", 201, 200, False, False, False, False),
        ("2025-01-01-preview", 201, 201, True, True, False, False),
        ("2025-03-01-preview", 201, 201, True, True, True, False),
        ("2025-04-01-preview", 201, 201, True, True, True, True),
    ],
)
def test_each_api_version_has_what_it_had(
    world: World, version: str, status: int, created: int, headers: bool, filters: bool, expires: bool, pages: bool
) -> None:
    query = {"api-version": version}
    with world.http() as http:
        answer = http.post(
            "/openai/files",
            params=query,
            data={"purpose": "batch", **EXPIRY},
            files={"file": ("in", lines(), "application/json")},
        )
        assert answer.status_code == status
        if status == 404:
            return
        file = answer.json()
        assert (file["expires_at"] is not None) == expires
        assert answer.headers["location"].endswith(f"/openai/files/{file['id']}?api-version={version}")
        body = {"input_file_id": file["id"], "endpoint": "/chat/completions", "completion_window": "24h"}
        made = http.post("/openai/batches", params=query, json=body)
        assert made.status_code == created
        assert ("deployment-enqueued-tokens" in made.headers) == headers
        listed = http.get("/openai/batches", params=query | {"$filter": "status eq 'completed'"}).json()
        assert (listed["data"] == []) == filters
        bad = http.get("/openai/files", params=query | {"limit": "0"})
        assert (bad.status_code == 400) == pages
        assert "has_more" not in http.get("/openai/files", params=query).json()
        wrong = http.put("/openai/batches", params=query)
        assert (wrong.status_code, set(wrong.json()["error"])) == (405, {"code", "message"})


def test_v1_takes_no_dated_version_and_openai_has_its_own_rules(world: World) -> None:
    with world.http() as http:
        assert http.get("/openai/v1/batches", params={"api-version": "preview"}).status_code == 200
        assert http.get("/openai/v1/batches", params=DATED).status_code == 400
        named = upload(http, lines(), base="/v1")
        assert named.json()["expires_at"] - named.json()["created_at"] == 2_592_000
        answer = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.txt", lines(), "text/plain")})
        assert answer.json()["error"]["message"] == "Invalid file format for Batch API. Must be .jsonl"
        files = http.get("/openai/v1/files", params={"order": "asc", "limit": "1"}).json()
        assert (files["has_more"], files["first_id"]) == (False, named.json()["id"])


def test_files_expire(world: World) -> None:
    with world.http() as http:
        file = upload(http, lines(), **EXPIRY).json()
        made = create(http, file["id"]).json()
        world.clock.advance(400)
        batch = http.get(f"/openai/v1/batches/{made['id']}").json()
        world.clock.advance(1_209_600)
        assert http.get(f"/openai/v1/files/{file['id']}").status_code == 404
        assert [entry["id"] for entry in http.get("/openai/v1/files").json()["data"]] == [batch["output_file_id"]]


def test_a_resource_holds_so_many_files(make_world: Callable[..., World]) -> None:
    world = make_world(limits=Limits(files=2, expiring_files=1))
    with world.http() as http:
        kept = [upload(http, lines()) for _ in range(2)]
        full = upload(http, lines())
        assert full.status_code == 400
        assert full.json()["error"]["code"] == "quotaExceeded"
        assert full.json()["error"]["message"].endswith("without expiry is reached. The maximum is 2.")
        assert upload(http, lines(), **EXPIRY).status_code == 200
        assert upload(http, lines(), **EXPIRY).json()["error"]["code"] == "quotaExceeded"
        http.delete(f"/openai/v1/files/{kept[0].json()['id']}")
        assert upload(http, lines()).status_code == 200


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("gpt-4o-batch", None, ""),
        ("standard", "invalid_request", "globalbatch SKU"),
        ("unheard-of", "model_not_found", "does not exist"),
    ],
)
def test_only_the_deployments_told_exist(
    make_world: Callable[..., World], name: str, code: str | None, words: str
) -> None:
    world = make_world(deployments=["gpt-4o-batch:gpt-4o", "standard:gpt-4o:Standard"], fail_rate=0.0)
    with world.http() as http:
        data = b"".join(orjson.dumps(request_line(n, model=name)) + b"\n" for n in range(3))
        made = create(http, upload(http, data).json()["id"]).json()
        world.clock.advance(400)
        batch = http.get(f"/openai/v1/batches/{made['id']}").json()
    assert batch["status"] == ("failed" if code else "completed")
    if code:
        (error,) = batch["errors"]["data"]
        assert error["code"] == code
        assert words in error["message"]


@given(st.text(max_size=40))
def test_a_deployment_is_read_or_refused(text: str) -> None:
    try:
        made = Deployment.parse(text)
    except ValueError:
        return
    assert made.name == text.split(":")[0] != ""
    assert made.enqueued_limit >= 0


@pytest.mark.parametrize("late", [False, True])
def test_enqueued_tokens_are_counted_and_given_back(make_world: Callable[..., World], late: bool) -> None:
    data = lines(30)
    tokens = len(data) // 4
    world = make_world(deployments=[f"gpt-4o-batch:gpt-4o::{2 * tokens + 10}"], late_quota=late, fail_rate=0.0)

    def make(http: httpx.Client) -> httpx.Response:
        body = {"input_file_id": file_id, "endpoint": "/chat/completions", "completion_window": "24h"}
        return http.post("/openai/batches", params=DATED, json=body)

    with world.http() as http:
        file_id = upload(http, data).json()["id"]
        first, second, third = (make(http) for _ in range(3))
        assert first.headers["deployment-enqueued-tokens"] == str(tokens)
        assert second.headers["deployment-enqueued-tokens"] == str(2 * tokens)
        assert second.headers["deployment-maximum-enqueued-tokens"] == str(2 * tokens + 10)
        if late:
            world.clock.advance(31)
            batch = http.get(f"/openai/v1/batches/{third.json()['id']}").json()
            assert batch["status"] == "failed"
            (error,) = batch["errors"]["data"]
            assert (error["code"], error["line"]) == ("token_limit_exceeded", None)
        else:
            assert (third.status_code, third.json()["error"]["code"]) == (400, "token_limit_exceeded")
            assert "token_limit_exceeded" in third.json()["error"]["message"]
        http.post(f"/openai/v1/batches/{first.json()['id']}/cancel")
        world.clock.advance(121)
        assert make(http).status_code == 201
        world.clock.advance(100_000)
        assert make(http).headers["deployment-enqueued-tokens"] == str(tokens)


def test_a_batch_reads_and_writes_blobs(world: World, tmp_path: Path) -> None:
    store = f"{world.service.url}/blobs"
    body = {
        "input_file_id": None,
        "endpoint": "/chat/completions",
        "completion_window": "24h",
        "input_blob": f"{store}/input/in.jsonl",
        "output_folder": {"url": f"{store}/output"},
    }
    with world.http() as http:

        def run(**changes: Any) -> dict[str, Any]:
            made = http.post("/openai/batches", params=DATED, json=body | changes)
            assert made.status_code == 201
            world.clock.advance(400)
            batch: dict[str, Any] = http.get(f"/openai/v1/batches/{made.json()['id']}").json()
            return batch

        assert http.put("/blobs/input/in.jsonl", content=lines(5)).status_code == 201
        done = run()
        assert (done["status"], done["output_file_id"], done["input_file_id"]) == ("completed", None, None)
        assert done["output_blob"].startswith(f"{store}/output/")
        assert len(http.get(done["output_blob"]).content.splitlines()) == 5
        assert http.get(done["error_blob"]).status_code == 404
        assert run(input_blob=f"{store}/input/none.jsonl")["errors"]["data"][0]["code"] == "input_no_permissions"
        assert run(input_blob="https://elsewhere.example/input/in.jsonl")["status"] == "failed"
        for wrong in ({"metadata": {"a": "b"}}, {"output_folder": None}, {"input_file_id": "file-1"}):
            assert http.post("/openai/batches", params=DATED, json=body | wrong).status_code == 400
        made = http.post("/openai/batches", params=DATED, json=body).json()
        world.clock.advance(100)
        assert http.get(f"/openai/v1/batches/{made['id']}").json()["status"] == "in_progress"
        http.put("/blobs/input/in.jsonl", content=lines(6))
        world.clock.advance(400)
        changed = http.get(f"/openai/v1/batches/{made['id']}").json()
        assert (changed["status"], changed["errors"]["data"][0]["code"]) == ("failed", "input_modified")
        for path in ("/blobs/input/..%2f..%2fkey", "/blobs/../key", "/blobs/one", "/blobs/input/.hidden"):
            assert http.get(path).status_code == 404
            assert http.put(path, content=b"x").status_code in (400, 404, 405)
    assert not list(tmp_path.rglob("*hidden*"))


def test_a_file_is_imported_by_its_url(world: World) -> None:
    with world.http() as http:
        http.put("/blobs/input/in.jsonl", content=lines(4))

        def take(url: str) -> dict[str, Any]:
            body = {"purpose": "batch", "filename": "in.jsonl", "content_url": url}
            answer = http.post("/openai/files/import", params=DATED, json=body)
            assert answer.status_code == 201
            file: dict[str, Any] = answer.json()
            return file

        good = take(f"{world.service.url}/blobs/input/in.jsonl?sas=1")
        assert (good["status"], good["bytes"]) == ("processed", len(lines(4)))
        bad = take("https://elsewhere.example/in.jsonl")
        assert (bad["status"], "fileImportFailed" in bad["status_details"]) == ("error", True)
        assert create(http, bad["id"]).status_code == 400
        assert http.post("/openai/v1/files/import", json={}).status_code == 404


def test_things_take_as_long_as_they_are_told(make_world: Callable[..., World]) -> None:
    world = make_world(pace=Pace(validating_s=1, running_s=1, row_s=0, finalizing_s=1, cancelling_s=600))
    with world.http() as http:
        file_id = upload(http, lines()).json()["id"]
        made, other = create(http, file_id).json(), create(http, file_id).json()
        http.post(f"/openai/v1/batches/{other['id']}/cancel")
        world.clock.advance(4)
        assert http.get(f"/openai/v1/batches/{made['id']}").json()["status"] == "completed"
        world.clock.advance(590)
        assert http.get(f"/openai/v1/batches/{other['id']}").json()["status"] == "cancelling"
        world.clock.advance(10)
        assert http.get(f"/openai/v1/batches/{other['id']}").json()["status"] == "cancelled"


def test_eight_clients_at_once_get_each_their_own(world: World) -> None:
    def live(client: int) -> list[str]:
        with world.http() as http:
            data = b"".join(orjson.dumps(request_line(n, text=f"client {client} row")) + b"\n" for n in range(25))
            ids = []
            for _ in range(15):
                file_id = upload(http, data).json()["id"]
                ids.append(create(http, file_id, metadata={"client": str(client)}).json()["id"])
            return ids

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(live, range(8)))
    everything = [batch_id for ids in made for batch_id in ids]
    assert len(set(everything)) == 120
    world.clock.advance(400)

    def collect(client: int) -> set[str]:
        texts = set()
        with world.http() as http:
            for batch_id in made[client]:
                batch = http.get(f"/openai/v1/batches/{batch_id}").json()
                assert (batch["metadata"], batch["request_counts"]["completed"]) == ({"client": str(client)}, 25)
                for line in http.get(f"/openai/v1/files/{batch['output_file_id']}/content").content.splitlines():
                    texts.add(orjson.loads(line)["response"]["body"]["choices"][0]["message"]["content"])
        return texts

    with ThreadPoolExecutor(8) as pool:
        for client, texts in enumerate(pool.map(collect, range(8))):
            assert texts == {f"The emulator read: “client {client} row {n}”" for n in range(25)}
    with world.http() as http:
        for limit in (100, 20, 7, 1):
            found: list[str] = []
            while True:
                query = {"limit": limit} | ({"after": found[-1]} if found else {})
                page = http.get("/openai/v1/batches", params=query).json()
                found += [batch["id"] for batch in page["data"]]
                if not page["has_more"]:
                    break
            assert len(found) == 120
            assert set(found) == set(everything)


def test_only_this_machine_with_the_key_and_nothing_for_other_users(world: World, tmp_path: Path) -> None:
    with world.http() as http:
        upload(http, lines())
        http.put("/blobs/a/b", content=b"x")
        too_long = http.post("/openai/v1/batches", content=b"{" + b" " * (2 << 20))
        assert (too_long.status_code, too_long.json()["error"]["code"]) == (413, "invalidPayload")
    head = f"POST /openai/v1/files HTTP/1.1\r\nHost: localhost\r\napi-key: {KEY}\r\nContent-Length: {10**10}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(world.service.url.rpartition(":")[2]))) as claiming:
        claiming.sendall(head.encode())
        assert claiming.recv(100).startswith(b"HTTP/1.1 413 ")
    bare = httpx.get(f"{world.service.url}/blobs/a/b")
    assert bare.status_code == 401
    assert KEY not in bare.text
    service = tmp_path / "service-0"
    for path in service.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.parent == service, path


def test_an_upload_without_length_and_one_that_is_too_large(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world(limits=Limits(max_bytes=100_000))
    frame = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n'
        b"Content-Type: application/json\r\n\r\n",
        b'\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
    )

    def chunked(size: int) -> httpx.Response:
        def pieces() -> Any:
            yield frame[0]
            for _ in range(size // 1000):
                yield b"x" * 999 + b"\n"
            yield frame[1]

        kind = {"content-type": "multipart/form-data; boundary=x"}
        return httpx.post(f"{world.service.url}/v1/files", content=pieces(), headers=kind | {"api-key": KEY})

    assert chunked(100_000).json()["bytes"] == 100_000
    assert chunked(101_000).status_code == 413
    assert not list(tmp_path.rglob("*.upload"))


def test_an_emulator_in_process(tmp_path: Path) -> None:
    service = Emulator(tmp_path / "inside", key=KEY, fail_rate=0.0)

    async def ask() -> int:
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers={"api-key": KEY}
        ) as http:
            return (await http.get("/openai/v1/files")).status_code

    assert asyncio.run(ask()) == 200
    with service:
        assert [call.name for call in service.calls] == ["list_files"]


def test_the_fixtures_for_other_people(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import batchkit

        def test_mine(batchkit_emulator):
            batchkit_emulator.inject("lose_answer,nth=1")
            lines = batchkit.lines([{"q": "a"}, {"q": "b"}], deployment="d", body="{q}")
            with batchkit.Client(clock=batchkit_emulator.clock) as client:
                assert client.run(lines, name="mine").report.ok == 2
            assert len(batchkit_emulator.batches) == 1

        def test_quota(make_batchkit_emulator):
            assert make_batchkit_emulator(deployments=["d:gpt-4o::1K"]).batches == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:xdist", "-o", "addopts=").assert_outcomes(passed=2)


def test_lines_of_every_kind_are_taken(world: World) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": "hello"},
        "/v1/embeddings": {"input": ["a", "b"], "dimensions": 3},
        "/v1/completions": {"prompt": "hello"},
    }
    with world.http() as http:
        for url, body in kinds.items():
            line = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": "m", **body}}
            made = create(http, upload(http, orjson.dumps(line)).json()["id"]).json()
            world.clock.advance(400)
            batch = http.get(f"/openai/v1/batches/{made['id']}").json()
            result = orjson.loads(http.get(f"/openai/v1/files/{batch['output_file_id']}/content").content)
            answer = result["response"]["body"]
            if url == "/v1/embeddings":
                assert [len(vector["embedding"]) for vector in answer["data"]] == [3, 3]
            elif url == "/v1/responses":
                assert answer["output"][0]["content"][0]["text"] == "The emulator read: “hello”"
            else:
                assert answer["choices"][0]["text"] == "The emulator read: “hello”"
