"""merge, download and collect against what people write by hand, and other libraries where they are installed."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from batchkit.api.service import Service
from batchkit.clock import SystemClock
from batchkit.collector.export import Shape
from batchkit.collector.results import collect as collected
from batchkit.collector.verify import look
from batchkit.config import Settings, Target, make_target
from batchkit.config.credentials import Credential, Secret

from .collected import job, load
from .harness import Contender, compare, durable

HERE = "tests.benchmarks.collector"
PIECE = 1 << 20


def table_merge(directory: Path, scale: float, rounds: int) -> bool:
    rows = int(300_000 * scale)
    home, out = job(directory, rows), directory / "merged.jsonl"
    size = sum(path.stat().st_size for path in (home / "bench").glob("*.jsonl"))
    cat, script = "cat into a new file", "dict and orjson"
    libraries = [
        Contender(name, f"{HERE}:{function}", [home, out])
        for name, function in (("Polars join", "polars_join"), ("DuckDB join", "duckdb_join"))
        if find_spec(name.split()[0].lower())
    ]
    faster = {cat: 0.28, script: 6.0} | {library.name: 2.0 for library in libraries}
    return compare(
        f"merge: {rows:,} rows, {size / 1e6:.0f} MB, shuffled, into JSON Lines in input order",
        [
            Contender(cat, f"{HERE}:cat", [home, out]),
            Contender("the same, durable", f"{HERE}:cat_durable", [home, out]),
            Contender("read and write lines", f"{HERE}:pump_lines", [home, out]),
            Contender(script, f"{HERE}:dict_and_orjson", [home, out]),
            *libraries,
            Contender("batchkit raw", f"{HERE}:as_raw", [home, out], faster, rss=64 + 30 + 120 * rows / 1e6),
            Contender("batchkit jsonl", f"{HERE}:as_jsonl", [home, out]),
            Contender("batchkit csv", f"{HERE}:as_csv", [home, out]),
        ],
        rounds=rounds,
    )


def table_download(directory: Path, scale: float, rounds: int) -> bool:
    blob, out = directory / "blob.jsonl", directory / "downloaded.jsonl"
    if not blob.exists() or blob.stat().st_size < 400e6 * scale:
        line = orjson.dumps({"custom_id": "x", "response": {"body": "y" * 1400}}) + b"\n"
        with blob.open("wb", PIECE) as file:
            for _ in range(int(400e6 * scale / len(line)) + 1):
                file.write(line)
    with serving(blob) as url:
        curl, sdk = "curl -o", "official SDK, .content()"
        return compare(
            f"download: {blob.stat().st_size / 1e6:.0f} MB over loopback",
            [
                Contender(curl, f"{HERE}:curl", [url, out]),
                Contender(sdk, f"{HERE}:sdk", [url, out]),
                Contender("official SDK, stream_to_file", f"{HERE}:sdk_stream", [url, out]),
                Contender("batchkit", f"{HERE}:download", [url, out], {curl: 0.5, sdk: 1.5}, rss=60),
            ],
            rounds=rounds,
        )


def table_collect(directory: Path, scale: float, rounds: int) -> bool:
    rows = int(50_000 * scale)
    home, out = job(directory, rows, answer=2200, prompt=200), directory / "collected.jsonl"
    (found,) = (home / "bench").glob("*.output.jsonl")
    with serving(found) as url:
        documented = "SDK as documented: .text, json.loads"
        return compare(
            f"collect: {rows:,} rows, {found.stat().st_size / 1e6:.0f} MB: download, look, merge in input order",
            [
                Contender(documented, f"{HERE}:as_documented", [home, url, out]),
                Contender("batchkit", f"{HERE}:collect", [home, url, out], {documented: 1.0}, rss=100),
            ],
            rounds=rounds,
        )


def table_linear(directory: Path, scale: float, rounds: int) -> bool:
    """Time a row must not grow with the job."""
    out = directory / "merged.jsonl"
    small, large = int(100_000 * scale), int(1_000_000 * scale)
    homes = {rows: job(directory, rows, answer=60, prompt=60) for rows in (small, large)}
    name = f"{small:,} rows"
    return compare(
        "merge: ten times the rows, short ones",
        [
            Contender(name, f"{HERE}:as_jsonl", [homes[small], out]),
            Contender(f"{large:,} rows", f"{HERE}:as_jsonl", [homes[large], out], {name: 1 / 11}),
        ],
        rounds=rounds,
    )


# what runs in a process of its own


def _files(home: str) -> tuple[list[Path], list[Path]]:
    found, workdir = load(home)
    asked = [workdir.lines(part) for part in found.parts]
    return asked, [path for part in found.parts for path in (workdir.output(part), workdir.error(part))]


def cat(home: str, out: str) -> None:
    asked, answered = _files(home)
    Path(out).unlink(missing_ok=True)
    with Path(out).open("wb") as file:
        subprocess.run(["cat", *asked, *answered], stdout=file, check=True)


def cat_durable(home: str, out: str) -> None:
    cat(home, out)
    durable(out)


def pump_lines(home: str, out: str) -> None:
    asked, answered = _files(home)
    with Path(out).open("wb", PIECE) as file:
        for path in [*asked, *answered]:
            with path.open("rb", PIECE) as source:
                file.writelines(source)


def dict_and_orjson(home: str, out: str) -> None:
    asked, answered = _files(home)
    results: dict[str, Any] = {}
    for path in answered:
        with path.open("rb") as source:
            for line in source:
                document = orjson.loads(line)
                results[document["custom_id"]] = document["response"]
    with Path(out).open("wb") as file:
        for path in asked:
            with path.open("rb") as source:
                for line in source:
                    name = orjson.loads(line)["custom_id"]
                    file.write(orjson.dumps({"custom_id": name, "response": results.get(name)}) + b"\n")


def polars_join(home: str, out: str) -> None:
    import polars

    asked, answered = _files(home)
    kinds = {"custom_id": polars.String}
    choices = polars.List(polars.Struct({"message": polars.Struct({"content": polars.String})}))
    response = polars.Struct({"body": polars.Struct({"choices": choices}), "status_code": polars.Int64})
    left = polars.read_ndjson(list(asked), schema=kinds)
    right = polars.read_ndjson(list(answered), schema=kinds | {"response": response})
    left.join(right, on="custom_id", how="left", maintain_order="left").write_ndjson(out)


def duckdb_join(home: str, out: str) -> None:
    import duckdb

    asked, answered = _files(home)
    left, right = ([str(path) for path in paths] for paths in (asked, answered))
    options = "format='newline_delimited', maximum_object_size=33554432"
    duckdb.connect().execute(
        f"""
        COPY (
            SELECT l.custom_id, r.response
            FROM (
                SELECT custom_id, row_number() OVER () AS n
                FROM read_json({left}, columns={{custom_id: 'VARCHAR'}}, {options})
            ) l
            LEFT JOIN read_json({right}, columns={{custom_id: 'VARCHAR', response: 'JSON'}}, {options}) r
            USING (custom_id)
            ORDER BY l.n
        ) TO '{out}' (FORMAT json)
        """
    )


def as_jsonl(home: str, out: str) -> None:
    _merge(home, out, Shape())


def as_raw(home: str, out: str) -> None:
    _merge(home, out, Shape(format="raw"))


def as_csv(home: str, out: str) -> None:
    _merge(home, out, Shape(format="csv"))


def _merge(home: str, out: str, shape: Shape) -> None:
    report = collected(*load(home), Path(out), shape, None).report
    assert report.balanced


def curl(url: str, out: str) -> None:
    subprocess.run(["curl", "-s", "-o", out, f"{url}/files/blob/content"], check=True)


def sdk(url: str, out: str) -> None:
    import openai

    Path(out).write_bytes(openai.OpenAI(base_url=url, api_key="k").files.content("blob").content)


def sdk_stream(url: str, out: str) -> None:
    import openai

    with openai.OpenAI(base_url=url, api_key="k").files.with_streaming_response.content("blob") as response:
        response.stream_to_file(out)


def _target(url: str) -> Target:
    return make_target("bench", url, Credential(Secret("k"), bearer=True), dialect="openai")


def download(url: str, out: str) -> None:
    place = Path(out)
    place.unlink(missing_ok=True)

    async def work() -> int | None:
        service = Service(_target(url), SystemClock(), Settings())
        size = (await service.file("blob")).bytes
        assert await service.content("blob", place, size)
        await service.close()
        return size

    assert asyncio.run(work()) == place.stat().st_size


def as_documented(home: str, url: str, out: str) -> None:
    import openai

    asked, answered = _files(home)
    text = openai.OpenAI(base_url=url, api_key="k").files.content("blob").text
    found = {document["custom_id"]: document for document in map(json.loads, text.strip().split("\n"))}
    for line in answered[1].read_text("utf-8").splitlines():
        found[json.loads(line)["custom_id"]] = json.loads(line)
    with Path(out).open("w", encoding="utf-8") as file:
        for path in asked:
            for line in path.read_text("utf-8").splitlines():
                file.write(json.dumps(found[json.loads(line)["custom_id"]]) + "\n")


def collect(home: str, url: str, out: str) -> None:
    made, workdir = load(home)
    coming = Path(out).with_suffix(".coming")
    download(url, str(coming))
    assert look(coming, workdir.lines(made.parts[0])).exact
    collected(made, workdir, Path(out), Shape(), None)


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """A server of one file that costs next to nothing itself: the kernel copies."""
    listening = socket.create_server(("127.0.0.1", 0))
    size = path.stat().st_size

    def answer(connection: socket.socket) -> None:
        with connection, path.open("rb") as file:
            while head := connection.recv(65536):
                if b"/content" in head.split(b"\r\n", 1)[0]:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                    connection.sendfile(file, 0, size)
                    continue
                body = orjson.dumps({"id": "blob", "object": "file", "bytes": size, "status": "processed"})
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        listening.close()
