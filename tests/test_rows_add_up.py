"""Rows are conserved, or the report names what is wrong: result files are tampered with on the wire."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pytest

from batchkit import AsyncClient, LocalError, Results
from batchkit.collector.verdict import settled
from batchkit.errors import ResultError, Unavailable, Unintelligible

from .conftest import SMALL, World, request_lines

Tamper = Callable[[list[bytes]], list[bytes]]


class Tampering(httpx.AsyncBaseTransport):
    """Changes the lines of result files on their way; `headers` are added to that answer."""

    def __init__(self, tamper: Tamper, headers: dict[str, str] | None = None, files: bool = False) -> None:
        self._inner, self._tamper, self._headers = httpx.AsyncHTTPTransport(), tamper, headers or {}
        self._hide_sizes = files

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        path = request.url.path
        if path.endswith("/content"):
            lines = (await response.aread()).splitlines(keepends=True)
            return httpx.Response(200, headers=self._headers, stream=httpx.ByteStream(b"".join(self._tamper(lines))))
        if self._hide_sizes and "/files/" in path:
            document = orjson.loads(await response.aread()) | {"bytes": None}
            return httpx.Response(200, stream=httpx.ByteStream(orjson.dumps(document)))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def run(world: World, tamper: Tamper, out: Path | None = None, **options: dict[str, str]) -> Results:
    """A whole job, as patient as `run` is."""

    async def work() -> Results:
        transport = Tampering(tamper, files=True, **options)
        ledger = world.home / "ledger.sqlite3"
        async with AsyncClient(
            world.target(limits=SMALL), ledger=ledger, clock=world.clock, transport=transport
        ) as client:
            return await client.run(request_lines(8), name="nightly", out=out)

    return asyncio.run(work())


def fetch(world: World, tamper: Tamper, **options: dict[str, str]) -> Results:
    """The same step by step, with one try at the results."""

    async def work() -> Results:
        transport = Tampering(tamper, files=True, **options)
        ledger = world.home / "ledger.sqlite3"
        async with AsyncClient(
            world.target(limits=SMALL), ledger=ledger, clock=world.clock, transport=transport
        ) as client:
            job = await client.submit(request_lines(8), name="nightly")
            async for _ in client.track(job):
                continue
            return await client.fetch(job)

    return asyncio.run(work())


def line(name: str, status: int = 200) -> bytes:
    body = {"choices": [{"message": {"content": "extra"}}]}
    document = {"custom_id": name, "response": {"status_code": status, "body": body}, "error": None}
    return orjson.dumps(document) + b"\n"


def test_nothing_tampered_with_adds_up(world: World, tmp_path: Path) -> None:
    report = run(world, lambda lines: lines, tmp_path / "out.jsonl").report
    assert report.balanced
    assert (report.total, report.ok) == (8, 8)


def test_missing_rows_are_named(world: World, tmp_path: Path) -> None:
    results = run(world, lambda lines: [x for x in lines if b'"row-3"' not in x and b'"row-6"' not in x])
    assert results.report.missing_ids == ("row-3", "row-6")
    assert (results.report.ok, results.report.missing, results.report.balanced) == (6, 2, False)
    assert [r.error_code for r in results if not r.ok] == ["missing", "missing"]
    assert len(results.report.mismatched) == 2


def test_rows_worth_asking_again_are_not_forgotten_where_counts_differ(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(faults=["fail_all,429"])
    results = run(world, lambda lines: [x for x in lines if b'"row-3"' not in x] + [line("row-3")])
    assert (results.report.ok, results.report.failed, results.report.missing) == (1, 7, 0)
    assert not results.report.balanced
    with pytest.raises(ResultError) as caught:
        results.raise_for_failures()
    assert caught.value.hint == "batchkit show nightly --events; batchkit retry nightly asks again for 7 that failed"
    with world.client() as client:
        error = settled(client.show("nightly"))
    assert error is not None
    assert error.hint == "batchkit show nightly --events"  # the ledger does not know why rows failed


def test_everything_missing_is_named(world: World) -> None:
    report = run(world, lambda _: []).report
    assert (report.ok, report.missing, report.balanced) == (0, 8, False)


def test_doubled_rows_are_named_and_the_good_one_wins(world: World) -> None:
    results = run(world, lambda lines: [line("row-2", 500)] * (b'"row-2"' in b"".join(lines)) + lines)
    assert results.report.duplicated == ("row-2",)
    assert (results.report.ok, results.report.balanced) == (8, False)


def test_invented_rows_are_named(world: World) -> None:
    report = run(world, lambda lines: [*lines, line("../../etc/passwd")]).report
    assert set(report.unknown) == {"../../etc/passwd"}
    assert (report.ok, report.balanced) == (8, False)


def test_lines_that_are_no_results_are_counted_against_the_service(world: World) -> None:
    report = run(world, lambda lines: [*lines, b"oops}\n", b"[1]\n", b'{"custom_id":"row-0" oops}\n']).report
    assert not report.balanced
    assert "(a result line without custom_id)" in report.unknown


def test_odd_shapes_of_good_rows_are_read(world: World) -> None:
    def odd(lines: list[bytes]) -> list[bytes]:
        documents = [orjson.loads(item) for item in lines]
        for document in documents:
            document["response"]["body"] = orjson.dumps(document["response"]["body"]).decode()
            del document["error"]
        return [orjson.dumps({"id": "x", **document}) + b"\n" for document in documents]

    results = run(world, odd)
    assert results.report.balanced
    assert next(iter(results)).text == "The emulator read: “hello 0”"


def test_a_file_cut_between_two_lines_is_asked_for_again(world: World, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="incomplete"):
        fetch(world, lambda lines: lines[:-1])
    assert run(world, lambda lines: lines, tmp_path / "out.jsonl").report.balanced


def test_a_result_file_lost_on_this_machine_is_fetched_again_and_not_paid_again(world: World, tmp_path: Path) -> None:
    run(world, lambda lines: lines)
    for path in world.home.glob("ledger.jobs/*/*.output.jsonl"):
        path.unlink()
    with world.client() as client:
        with pytest.raises(LocalError, match="is not in"):
            client.retry("nightly")
        assert client.fetch("nightly", tmp_path / "out.csv").report.ok == 8
    assert len(world.batches()) == 2


def test_what_an_exact_reader_refuses_is_an_answer_all_the_same(world: World, tmp_path: Path) -> None:
    deep = b"[" * 400 + b"]" * 400

    def odd(lines: list[bytes]) -> list[bytes]:
        first = lines[0].replace(b'"object":"chat.completion"', b'"object":"\\ud800","n":NaN', 1)
        second = lines[1].replace(b'"object":"chat.completion"', b'"object":' + deep, 1)
        return [first, second, *lines[2:]]

    results = run(world, odd, tmp_path / "out.jsonl")
    assert results.report.ok == 8
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 8


@pytest.mark.parametrize("cut", [2, 3, 10, 300])
def test_a_file_that_ends_early_is_asked_for_again(world: World, tmp_path: Path, cut: int) -> None:
    with pytest.raises(Unavailable, match="incomplete"):
        fetch(world, lambda lines: [b"".join(lines)[:-cut]])
    assert list(world.home.glob("ledger.jobs/*/*.part")) == []
    assert run(world, lambda lines: lines, tmp_path / "out.jsonl").report.balanced


def test_a_compressed_answer_is_refused_before_it_is_opened(world: World) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    with pytest.raises(Unintelligible, match="compressed"):
        fetch(world, lambda _: [bomb], headers={"content-encoding": "gzip"})
