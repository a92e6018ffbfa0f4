"""No half download is taken for a whole one, whatever breaks off where; and none is begun anew without need."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchkit import AsyncClient, Client, Report, Settings
from batchkit.emulator import Pace
from batchkit.emulator.faults import Faults, made
from batchkit.errors import DiskFull, Unavailable
from batchkit.model import SILENT_S

from .conftest import SMALL, World, request_lines
from .test_give_up import Fated, facing
from .test_tracker import said
from .tools.cutting import Cutter, Framing
from .tools.doors import Bench, Doors, Place

ROWS = 40
THOROUGH = pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.deep)], ids=["some", "all"])


class Desk:
    """A job of one part whose results are fetched again and again by one client, through a cutter."""

    def __init__(self, world: World, cutter: Cutter, attempts: int) -> None:
        with world.client() as client:
            client.run(request_lines(ROWS), name="cut")
        (self.place,) = world.home.glob("ledger.jobs/*/0-000.output.jsonl")
        self.whole = self.place.read_bytes()
        self._cutter, self._runner = cutter, asyncio.Runner()
        self._client = AsyncClient(
            world.target(),
            ledger=world.home / "ledger.sqlite3",
            clock=world.clock,
            settings=Settings(max_attempts=attempts),
            transport=cutter,
        )

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def fetch(self) -> str | None:
        """One fetch; the words of its trouble, if any."""
        try:
            self._runner.run(self._client.fetch("cut"))
        except Unavailable as error:
            return str(error)
        return None

    def recover(self, at: int, framing: Framing) -> int:
        """Lose the file, break the next download off after `at` bytes, and fetch until it is here; how often it took.

        At no time there is anything but the whole file in its place.
        """
        self.place.unlink()
        self._cutter.at, self._cutter.times, self._cutter.framing = at, 1, framing
        for tries in range(1, 4):
            trouble = self.fetch()
            if self.place.exists():
                assert self.place.read_bytes() == self.whole
            if trouble is None:
                assert self.place.exists()
                return tries
        raise AssertionError(f"not fetched: cut at {at}, {framing}")


def short(line: dict[str, Any]) -> dict[str, Any]:
    """An answer that is little more than its row's name."""
    return {"choices": [{"message": {"content": line["custom_id"] * 9}}]}


@pytest.fixture
def cutter() -> Iterator[Cutter]:
    with Cutter() as made:
        yield made


@pytest.fixture
def make_desk(make_world: Callable[..., World], cutter: Cutter) -> Iterator[Callable[[int], Desk]]:
    """A desk whose client tries so often within one fetch."""
    with ExitStack() as stack:

        def make(attempts: int) -> Desk:
            return stack.enter_context(closing(Desk(make_world(fail_rate=0.0, answer=short), cutter, attempts)))

        yield make


@THOROUGH
@pytest.mark.parametrize("sizes", [True, False], ids=["sizes", "no-sizes"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_download_cut_anywhere_is_never_taken_for_whole(
    make_desk: Callable[[int], Desk], cutter: Cutter, framing: Framing, sizes: bool, thorough: bool
) -> None:
    desk = make_desk(1)
    cutter.sizes = sizes
    last = desk.whole.rindex(b"\n", 0, -1) + 1
    cuts = {0, last, len(desk.whole) - 1, *range(0, len(desk.whole), 4096 if thorough else 16384)}
    cuts.update(range(last, len(desk.whole), 1 if thorough else 149))
    for cut in sorted(cuts):
        tries = desk.recover(cut, framing)
        assert tries == 2, cut


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_cut_download_goes_on_behind_what_is_here(
    make_desk: Callable[[int], Desk], cutter: Cutter, framing: Framing
) -> None:
    desk = make_desk(1)
    assert desk.recover(5000, framing) == 2
    assert cutter.asked == ["", "5000"]


def test_a_download_is_gone_on_with_within_one_fetch(make_desk: Callable[[int], Desk], cutter: Cutter) -> None:
    desk = make_desk(3)
    assert desk.recover(5000, "length") == 1
    assert cutter.asked == ["", "5000"]


@pytest.mark.parametrize(
    "lie",
    [
        "206 Partial Content\r\nContent-Range: bytes 0-{last}/{size}",
        "206 Partial Content\r\nContent-Range: bytes {since}-{last}/999999",
        "206 Partial Content\r\nContent-Range: bytes {since}-{since}/{size}",
        "206 Partial Content",
        "416 Range Not Satisfiable",
        "200 OK",
    ],
)
def test_a_piece_that_is_not_provably_the_rest_is_not_taken(
    make_desk: Callable[[int], Desk], cutter: Cutter, lie: str
) -> None:
    desk = make_desk(3)
    desk.place.unlink()
    cutter.framing, cutter.at, cutter.times = "close", 5000, 1
    assert desk.fetch() is not None
    cutter.lie = lie
    if lie == "200 OK":
        cutter.ranges = False
    assert desk.fetch() is None
    assert cutter.asked[0] == ""
    assert cutter.asked[1] == "5000"
    assert desk.place.read_bytes() == desk.whole


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_of_a_gateway_is_no_beginning_of_a_result_file(
    make_desk: Callable[[int], Desk], cutter: Cutter, kind: str
) -> None:
    desk = make_desk(1)
    desk.place.unlink()
    troubles: list[str | None] = []
    for _ in range(3):
        cutter.page = None if troubles else kind
        troubles.append(desk.fetch())
        if troubles[-1] is None:
            break
        assert not desk.place.exists()
    assert desk.place.read_bytes() == desk.whole
    if "html" in kind:
        assert "a web page came instead of the file" in str(troubles[0])
        assert cutter.asked == ["", ""]
    else:  # its bytes looked like a beginning until a look at the whole
        assert "not JSON" in str(troubles[1])
        assert cutter.asked == ["", "17", ""]


def test_an_outage_is_not_held_against_a_result_file(world: World) -> None:
    """Only a file that is itself not there, time and again, is given up."""
    ledger = world.home / "ledger.sqlite3"
    with Client(world.target(), ledger=ledger, clock=world.clock, settings=Settings(max_attempts=1)) as client:
        list(client.track(client.submit(request_lines(3), name="outage")))
        for fault in [*["error,503,call=content"] * 6, "html,404,call=content"]:
            world.service.inject(fault)
            with pytest.raises(Unavailable):
                client.fetch("outage")
            world.service.mend()
        assert client.fetch("outage").report.ok == 3


@pytest.mark.promise("B4")
def test_a_result_file_that_is_not_there_is_waited_for_from_when_it_was_first_missed(
    make_world: Callable[..., World],
) -> None:
    """However long the service was out before."""
    world = make_world(fail_rate=0.0, pace=Pace(running_s=60.0))
    since = world.clock.now()

    def fate(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/content") or world.clock.now() - since > SILENT_S + 1200:
            return None
        return said(503 if world.clock.now() - since < SILENT_S + 300 else 404, {})

    async def work() -> Report:
        async with facing(Fated(fate), world) as client:
            return (await client.run(request_lines(8), name="nightly")).report

    assert asyncio.run(work()).ok == 8


def test_hashes_and_lines_of_result_files_are_in_the_diary(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.5)
    with world.client() as client:
        client.run(request_lines(ROWS), name="diary")
        details = [event.detail for event in client.show("diary").events if event.kind == "fetched"]
    assert len(details) == 1
    assert details[0].count("sha256") == 2
    assert "lines" in details[0]


def test_parts_are_fetched_though_one_is_in_trouble(world: World, cutter: Cutter) -> None:
    with world.client(limits=SMALL) as client:
        job = client.submit(request_lines(12), name="three")
        list(client.track(job))

    async def fetch() -> None:
        async with AsyncClient(
            world.target(limits=SMALL),
            ledger=world.home / "ledger.sqlite3",
            clock=world.clock,
            settings=Settings(max_attempts=1),
            transport=cutter,
        ) as client:
            await client.fetch("three")

    cutter.framing, cutter.at, cutter.times = "length", 10, 1
    with pytest.raises(Unavailable):
        asyncio.run(fetch())
    assert len(list(world.home.glob("ledger.jobs/*/*.output.jsonl"))) == 2
    asyncio.run(fetch())
    with world.client(limits=SMALL) as client:
        assert client.fetch("three").report.ok == 12


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: to a program the same as a disk that is full there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@THOROUGH
@pytest.mark.parametrize("what", ["results", "download"])
def test_a_disk_that_is_full_at_any_byte_damages_nothing(
    make_world: Callable[..., World], tmp_path: Path, what: str, thorough: bool
) -> None:
    # The files are far larger than the ledger, which could not be written either below its own size.
    world, out = make_world(fail_rate=0.0, answer=lambda _: "x" * 50_000), tmp_path / "out.jsonl"
    with world.client() as client:
        client.run(request_lines(ROWS), name="full", out=out)
    whole = out.read_bytes()
    (place,) = world.home.glob("ledger.jobs/*/0-000.output.jsonl")
    held = place.read_bytes()
    for at in range(1_000_000, len(held), 10_007 if thorough else 400_007):
        out.write_bytes(b"precious")
        if what == "download":
            place.unlink()
        with world.client() as client:  # whose ledger's own log would else grow as large
            with largest_file(at), pytest.raises(DiskFull) as full:
                client.fetch("full", out, overwrite=True)
            assert full.value.exit == 12
            assert out.read_bytes() == b"precious"
            assert not place.exists() or place.read_bytes() == held
            assert list(tmp_path.glob(".*.part")) == []
            client.fetch("full", out, overwrite=True)
        assert out.read_bytes() == whole


@pytest.mark.parametrize("share", [0.01, 1.0])
@pytest.mark.parametrize("fault", ["drop_rows", "double_rows", "invent_rows"])
def test_rows_that_are_dropped_doubled_or_invented_are_named(
    make_world: Callable[..., World], fault: str, share: float
) -> None:
    world = make_world(fail_rate=0.0, faults=[f"{fault},{share},call=create_batch"])
    with world.client() as client:
        results = client.run(request_lines(100), name="odd")
        rows = [result.custom_id for result in results]
        said = [event.detail for event in client.show("odd").events]
    downloads = sum(call.name == "content" for call in world.service.calls)
    report, count = results.report, round(100 * share)
    assert rows == [f"row-{n}" for n in range(100)]
    assert not report.balanced
    if fault == "drop_rows":
        assert (report.missing, len(report.missing_ids), report.ok) == (count, count, 100 - count)
        assert set(report.missing_ids) <= set(rows)
        # A file that came whole is asked for once more at most: what it lacks is not on its way.
        once_more = [words for words in said if "came whole, but it holds 99 of the 100 rows" in words]
        assert (len(once_more), downloads) == ((1, 2) if share < 1 else (0, 0))
    elif fault == "double_rows":
        assert (report.duplicates, len(report.duplicated), report.ok) == (count, count, 100)
        assert set(report.duplicated) <= set(rows)
    else:
        assert (report.unknowns, len(report.unknown), report.ok) == (count, count, 100)
        assert not set(report.unknown) & set(rows)


@pytest.mark.promise("A1")
@pytest.mark.parametrize("fault", ["error,404,call=content,times=40", "error,404,call=content", "late_output,90000"])
def test_rows_that_the_service_finished_are_not_asked_again_unwished(tmp_path: Path, fault: str) -> None:
    """Their file is not there for some minutes, for ever, or not named within a day: they are paid for all the same."""
    bench = Bench(tmp_path, rows=4, places=(Place(faults=Faults(made([fault]))),))
    began = bench.clock.now()
    results = bench.live(Doors(), lambda client: client.run(request_lines(4), name="nightly", retries=2))
    assert [batch["status"] for batch in bench.batches()] == ["completed"] * 2
    assert (results.report.ok, results.report.missing) == ((4, 0) if "times" in fault else (0, 4))
    if fault == "error,404,call=content":
        assert bench.clock.now() - began > SILENT_S
    assert len(results.job.parts) == 2


def test_result_files_named_late_or_with_null_counts_are_had(make_world: Callable[..., World]) -> None:
    for number, fault in enumerate(
        ["late_output,200", "null_counts", "no_errors,zero", "no_errors,empty", "iso_times"]
    ):
        world = make_world(fail_rate=0.0, faults=[fault])
        with Client(world.target(), ledger=world.home / f"ledger-{number}.sqlite3", clock=world.clock) as client:
            assert client.run(request_lines(5), name="late").report.ok == 5
