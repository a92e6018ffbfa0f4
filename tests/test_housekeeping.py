"""Nothing of ours stays behind, at the service or on this machine; nothing of others is touched."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from batchkit import AsyncClient, Client
from batchkit.api.http import Http
from batchkit.cli import stored
from batchkit.cli.options import Where
from batchkit.config import Limits, Settings
from batchkit.errors import CancelWished, Redirected
from batchkit.ledger import open_ledger
from batchkit.model import Job, Part, RemoteFile, State
from batchkit.uploader import reconcile, sweep

from .conftest import SMALL, VERSION, World, request_lines
from .test_give_up import Fated
from .test_schemas import validate
from .test_submit_once import Wire
from .tools.doors import Bench, Doors

PART = Part("p1", "a1b2c3d4e5f6", 0, 0, State.UPLOADING, 1, 90, "ab" * 32, service="s")


def upload(world: World, name: str) -> str:
    """Somebody else's upload."""
    with world.http() as http:
        given = {"file": (name, b"{}\n", "application/json")}
        return str(http.post("/openai/v1/files", data={"purpose": "batch"}, files=given).json()["id"])


@pytest.mark.promise("A10", "A11")
def test_only_ours_that_nobody_needs_are_swept(world: World) -> None:
    other = replace(world, home=world.home / "elsewhere")
    with other.client() as client:
        theirs = client.submit(request_lines(2), name="theirs").parts[0].file_id
    with world.client(limits=SMALL) as client:
        client.run(request_lines(3), name="done")
        (done,) = client.show("done").parts
        running = client.submit(request_lines(2), name="running").parts[0].file_id
        copy = upload(world, done.file_name)
        lookalike = upload(world, done.file_name.replace(".jsonl", ".bak.jsonl"))
        stranger = upload(world, "rows.jsonl")
        found, gone = client.files()
        validate("files", stored.document(found, gone))
        assert gone == ()
        standing = {entry.file.id: entry.standing for entry in found}
        assert standing == {
            theirs: "another ledger's",
            running: "needed",
            copy: "needless",
            lookalike: "not ours",
            stranger: "not ours",
        }
        _, gone = client.files(sweep=True)
        assert [entry.file.id for entry in gone] == [copy]
        assert len(client.files()[0]) == 4


@pytest.mark.promise("A10", "A11")
def test_the_file_of_a_round_that_begins_meanwhile_is_not_swept(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=1.0)

    class Meanwhile(Wire):
        """Somebody retries the job just before the files are listed."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                async with AsyncClient(world.target(), ledger=book, clock=world.clock) as other:
                    await other.retry("nightly", only=["4xx", "5xx"])
            return await super().handle_async_request(request)

    async def work() -> None:
        async with AsyncClient(world.target(), ledger=book, clock=world.clock) as client:
            await client.run(request_lines(3), name="nightly")
        async with AsyncClient(world.target(), ledger=book, clock=world.clock, transport=Meanwhile()) as client:
            found, gone = await client.files(sweep=True)
            assert [(entry.standing, entry.job) for entry in found] == [("needed", "nightly")]
            assert gone == ()

    book = world.home / "ledger.sqlite3"
    asyncio.run(work())


@pytest.mark.promise("A10")
def test_a_year_of_nightly_jobs_leaves_no_file(tmp_path: Path) -> None:
    """A shortened year: a job a night, the resource's cap far below their number."""
    bench = Bench(tmp_path, rows=1)
    bench.places[0].limits = replace(bench.places[0].limits, expiring_files=3)
    for night in range(12):
        bench.live(Doors(), partial(AsyncClient.run, source=request_lines(1), name=f"night-{night}"))
        bench.clock.advance(86_400)
    assert bench.files() == []


@pytest.mark.promise("A10")
@pytest.mark.parametrize("dialect", ["v1", "dated"])
def test_inputs_and_outputs_expire(world: World, dialect: str) -> None:
    with world.client(dialect) as client:  # type: ignore[arg-type]
        job = client.submit(request_lines(1), name="nightly")
        with world.http() as http:
            entry = http.get(f"/openai/v1/files/{job.parts[0].file_id}").json()
            assert entry["expires_at"] == entry["created_at"] + 14 * 86_400
        client.run(request_lines(1), name="nightly")
        batch = client.show("nightly").parts[0].batch
        assert batch is not None
        with world.http() as http:
            entry = http.get(f"/openai/v1/files/{batch.output_file_id}").json()
            assert entry["expires_at"] == entry["created_at"] + 14 * 86_400


@pytest.mark.promise("A10")
def test_an_expiry_that_is_ignored_is_said(world: World) -> None:
    assert VERSION != "2024-10-21"
    with world.client("dated", api_version="2024-10-21") as client:
        client.submit(request_lines(1), name="nightly")
        assert [e for e in client.show("nightly").events if e.kind == "warning" and "ignored the expiry" in e.detail]


def test_a_found_upload_is_ours_only_when_it_is_whole() -> None:
    """By its unique name alone half an upload would do; its size tells."""
    whole = RemoteFile("file-1", PART.file_name, 90, "processed", "batch")
    for wrong in (
        replace(whole, bytes=89),
        replace(whole, bytes=91),
        replace(whole, status="error"),
        replace(whole, status="deleted"),
        replace(whole, filename=PART.file_name.upper()),
        replace(whole, purpose="batch_output"),
    ):
        assert reconcile.uploaded(PART, [wrong]) == (None, [])
    copy = replace(whole, id="file-2")
    assert reconcile.uploaded(PART, [whole, copy]) == (whole, [copy])
    assert reconcile.uploaded(replace(PART, file_id="file-2"), [whole, copy]) == (copy, [whole])
    assert reconcile.uploaded(PART, [replace(whole, bytes=None)])[0] is not None
    sent = replace(PART, sent_sha256="cd" * 32, sent_bytes=95)
    assert reconcile.uploaded(sent, [replace(whole, filename=sent.file_name, bytes=95)])[0] is not None
    assert reconcile.uploaded(sent, [replace(whole, filename=sent.file_name)]) == (None, [])


@pytest.mark.promise("A10")
def test_an_old_ledger_put_back_does_not_sweep_what_a_batch_still_reads(make_world: Callable[..., World]) -> None:
    """It does not know of the later round, whose file bears the job's name."""
    world = make_world(fail_rate=1.0)
    now, old = world.home / "now.sqlite3", world.home / "old.sqlite3"
    with Client(world.target(), ledger=now, clock=world.clock) as client:
        client.submit(request_lines(4), name="nightly")
        list(client.track("nightly"))
    shutil.copy(now, old)
    shutil.copytree(world.home / "now.jobs", world.home / "old.jobs")
    with Client(world.target(), ledger=now, clock=world.clock) as client:
        client.fetch("nightly")
        client.retry("nightly", only=["4xx", "5xx"])
    with Client(world.target(), ledger=old, clock=world.clock) as client:
        assert client.fetch("nightly").report.total == 4
    running = [batch["input_file_id"] for batch in world.batches() if batch["completed_at"] is None]
    with world.http() as http:
        files = http.get("/openai/v1/files", params={"purpose": "batch"}).json()["data"]
    assert len(running) == 1
    assert running[0] in {file["id"] for file in files}


def test_whose_a_file_is_by_its_name() -> None:
    assert sweep.job_of(RemoteFile("f", PART.file_name)) == PART.job_id
    for name in ("batchkit-x.jsonl", f"copy of {PART.file_name}", PART.file_name + ".gz", ""):
        assert sweep.job_of(RemoteFile("f", name)) is None
    assert sweep.job_of(RemoteFile("f", PART.file_name, purpose="batch_output")) is None
    assert not sweep.needless(RemoteFile("f", PART.file_name), [PART])
    assert not sweep.needless(RemoteFile("f", "x"), [replace(PART, file_id="f")])
    assert sweep.needless(RemoteFile("f", PART.file_name), [replace(PART, state=State.SETTLED)])


@pytest.mark.promise("E3")
@pytest.mark.parametrize("path", ["https://elsewhere.example/files/f", "http://127.0.0.1:9/openai/v1/files/f"])
def test_the_key_never_goes_to_another_origin(world: World, path: str, tmp_path: Path) -> None:
    sent: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"id": "f"})

    async def work() -> None:
        http = Http(world.target(), world.clock, Settings(), httpx.MockTransport(serve))
        with pytest.raises(Redirected, match="another host"):
            await http.download(path, tmp_path / "f", 1)
        await http.close()

    asyncio.run(work())
    assert sent == []


@pytest.mark.promise("D7")
def test_directories_of_jobs_that_never_were_are_swept_after_a_day(world: World) -> None:
    with world.client() as client:
        client.run(request_lines(1), name="nightly")
        root = open_ledger(world.home / "ledger.sqlite3")[1].root
        (known,) = (path for path in root.iterdir() if not path.name.startswith("."))
        made = {}
        for name, files, age_s in (
            ("000000000001", ["0-000.lines.jsonl"], 90_000),
            ("000000000002", ["0-000.lines.jsonl"], 3_600),
            ("000000000003", ["0-000.lines.jsonl", "0-000.output.jsonl"], 90_000),
            ("my-own-notes", ["0-000.lines.jsonl"], 90_000),
        ):
            made[name] = root / name
            made[name].mkdir()
            for file in files:
                (made[name] / file).touch()
            os.utime(made[name], (time.time() - age_s,) * 2)
        os.utime(known, (0, 0))
        client.run(request_lines(2), name="another")
    left = {name for name, path in made.items() if path.exists()}
    assert left == {"000000000002", "000000000003", "my-own-notes"}
    assert known.exists()


@pytest.mark.promise("D7")
def test_what_a_dead_process_left_beside_the_results_is_removed(world: World, tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host = os.uname().nodename
    dead, alive = (tmp_path / f".out.jsonl.{host}-{pid}-0a.part" for pid in (child.stdout.strip(), os.getpid()))
    dead.touch()
    alive.touch()
    with world.client() as client:
        client.run(request_lines(1), name="nightly", out=tmp_path / "out.jsonl")
    assert not dead.exists()
    assert alive.exists()


def test_cancelling_a_job_that_somebody_works_on_reaches_who_does(world: World) -> None:
    """The wish is written without the lease; whoever holds the job reads it at the next turn and cancels."""

    async def work() -> State:
        book = world.home / "ledger.sqlite3"
        async with AsyncClient(world.target(), ledger=book, clock=world.clock) as worker:
            job = await worker.submit(request_lines(2), name="nightly")
            looks = worker.track(job)
            await anext(looks)
            async with AsyncClient(world.target(), ledger=book, clock=world.clock) as other:
                with pytest.raises(CancelWished, match="told to cancel"):
                    await other.cancel("nightly")
            async for seen in looks:
                last = seen
            assert last.cancelled_at is not None
            return last.parts[0].state

    assert asyncio.run(work()) is State.ENDED
    assert [batch["status"] for batch in world.batches()] == ["cancelled"]


@pytest.mark.promise("A1")
@pytest.mark.parametrize("call", ["/files", "/batches"])
def test_a_cancel_in_the_midst_of_a_long_turn_is_heard_before_the_next_request(world: World, call: str) -> None:
    book, made = world.home / "ledger.sqlite3", list[str]()

    def fate(request: httpx.Request) -> httpx.Response | None:
        if request.method != "POST" or request.url.path.endswith("/cancel"):
            return None
        made.append(request.url.path.rpartition("/")[2])
        if f"/{made[-1]}" == call and made.count(made[-1]) == 2:
            with world.client() as other, pytest.raises(CancelWished, match="told to cancel"):
                other.cancel("nightly")
        return None

    async def work() -> Job:
        one_each = world.target(limits=Limits(max_lines=1))
        async with AsyncClient(one_each, ledger=book, clock=world.clock, transport=Fated(fate)) as client:
            return await client.submit(request_lines(6), name="nightly")

    job = asyncio.run(work())
    sent = 2 if call == "/batches" else 1  # that on its way when it was told goes out, and is cancelled
    assert made == ["files", "batches"] * sent + ["files"] * (2 - sent)
    assert [part.state for part in job.parts] == [State.RUNNING] * sent + [State.DROPPED] * (6 - sent)
    assert [batch["status"] for batch in world.batches()] == ["cancelling"] * sent


@pytest.mark.promise("F2")
@pytest.mark.parametrize(
    ("address", "exit_code"),
    [
        ("me:hunter2@127.0.0.1:9/none", 6),
        ("127.0.0.1:9/none?user=me&password=hunter2", 6),
        ("127.0.0.1:9/none?pass%77ord=hunter2", 6),
        ("me:x/hunter2@127.0.0.1:9/none", 4),
        ("me:hunter2#x@127.0.0.1:9/none", 4),
        ("[hunter2/none", 4),
    ],
)
def test_no_password_is_taken_as_an_argument(address: str, exit_code: int) -> None:
    command = [sys.executable, "-m", "batchkit", "list", "--ledger", f"postgresql://{address}"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "hunter2" not in ended.stdout + ended.stderr
    env = {**os.environ, "BATCHKIT_LEDGER": command[-1]}
    ended = subprocess.run(command[:4], capture_output=True, text=True, env=env)
    assert ended.returncode == exit_code
    assert "hunter2" not in ended.stdout + ended.stderr


def test_an_address_with_what_may_be_a_password_is_not_in_further_commands() -> None:
    assert Where(ledger="postgresql://127.0.0.1:9/none?password=hunter2").flags == ""
    assert Where(ledger="postgresql://[hunter2/none").flags == ""
    for plain in ("postgresql://me@127.0.0.1:9/none?sslmode=require", "sqlite:///home/me@work/x#1.db", "x@y.db"):
        assert plain in Where(ledger=plain).flags
