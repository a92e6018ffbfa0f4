"""Results in the forms that people open: CSV, Parquet, JSON Lines, Arrow; with their input rows; before the end."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars
import pydantic
import pytest

import batchkit
from batchkit import AsyncClient, InputError, ResultError
from batchkit.collector import arrow
from batchkit.collector.columns import DETAIL
from batchkit.emulator import Reply
from batchkit.errors import UsageError

from .conftest import SMALL, World, request_line, request_lines
from .test_schemas import validate

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "score": {"type": "number"},
        "count": {"type": ["integer", "null"]},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "text": {"type": "string"},
    },
}


def lines(rows: list[dict[str, Any]], **params: Any) -> list[batchkit.Line]:
    body = {"messages": [{"role": "user", "content": "x"}], **params}
    made = batchkit.lines(rows, deployment="gpt-4o-batch", custom_id="sku", body=lambda _: body)
    return list(made)


def read_csv(data: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))


def answering(texts: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda line: texts.get(line["custom_id"], "fine")


ROWS = [
    {"sku": "a", "name": 'Ä, "quoted"', "price": 5, "text": "mine"},
    {"sku": "b", "name": "=1+1", "price": -2.5, "text": None},
    {"sku": "c", "name": "line\nbreak", "price": 7, "text": "mine too"},
]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_input_columns_come_first_in_every_format(world: World, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    with world.client() as client:
        client.run(lines(ROWS), name="joined", out=out, join=ROWS)
    if suffix == "jsonl":
        found = [orjson.loads(line) for line in out.read_bytes().splitlines()]
        for document in found:
            validate("result-line", document)
        assert [document["row"] for document in found] == ROWS
        return
    if suffix == "parquet":
        table = polars.read_parquet(out)
        assert table.columns[:7] == ["sku", "name", "price", "text", "custom_id", "ok", "result_text"]
        kinds = [str(table.schema[name]) for name in ("name", "price", "ok", "input_tokens")]
        assert kinds == ["String", "Float64", "Boolean", "Int64"]
        assert table.select(list(ROWS[0])).to_dicts() == ROWS
        return
    rows = read_csv(out.read_bytes(), "\t" if suffix == "tsv" else ",")
    assert list(rows[0])[:7] == ["sku", "name", "price", "text", "custom_id", "ok", "result_text"]
    assert [row["name"] for row in rows] == ['Ä, "quoted"', "'=1+1", "line\nbreak"]
    assert [row["price"] for row in rows] == ["5", "-2.5", "7"]
    assert [row["custom_id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["result_text"] == "The emulator read: “x”"


def test_rows_that_are_called_by_their_number_are_joined_by_it(world: World) -> None:
    rows = [{"question": f"q{n}"} for n in range(12)]
    made = batchkit.lines(rows, deployment="d", body="{question}")
    with world.client(limits=SMALL) as client:
        results = client.run(made, name="numbered", join=iter(rows), format="csv")
    written = read_csv(b"".join(results.pieces()))
    assert [(row["question"], row["custom_id"]) for row in written] == [(f"q{n}", f"row-{n + 1}") for n in range(12)]


def test_rows_are_joined_by_the_name_that_is_made_of_them(world: World) -> None:
    rows = [{"land": land, "n": n} for land in ("de", "fr") for n in range(3)]
    made = [request_line(i) | {"custom_id": f"{row['land']}-{row['n']}"} for i, row in enumerate(rows)]
    with world.client() as client:
        results = client.run(made, name="named", join=rows, custom_id="{land}-{n}", format="csv", columns=["n"])
        assert b"".join(results.pieces()) == b"n\n0\n1\n2\n0\n1\n2\n"
        with pytest.raises(InputError, match="not those of the job"):
            list(client.fetch("named", join=rows, format="csv").pieces())


def test_rows_that_were_not_sent_are_passed_over_and_other_rows_refused(world: World, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("sku,n\nzero,0\na,1\nb,2\nhalf,2.5\nc,3\nlast,9\n")
    with world.client() as client:
        client.run(lines(ROWS), name="joined")
        client.fetch("joined", tmp_path / "out.csv", join=table)
        assert [row["n"] for row in read_csv((tmp_path / "out.csv").read_bytes())] == ["1", "2", "3"]
        table.write_text("sku,n\na,1\nc,3\nb,2\n")
        with pytest.raises(InputError, match="another order than the job's: that of 'c'"):
            client.fetch("joined", tmp_path / "other.csv", join=table)
    assert not (tmp_path / "other.csv").exists()


def test_answers_that_follow_a_schema_get_columns(make_world: Callable[..., World], tmp_path: Path) -> None:
    good = {"label": "=x", "score": 1, "count": None, "sure": True, "tags": ["p", "q"], "text": "own"}
    odd = {"label": ["not", "text"], "score": "high", "count": 2.5, "sure": "yes"}
    texts = {"a": orjson.dumps(good).decode(), "b": orjson.dumps(odd).decode(), "c": "no JSON at all"}
    world = make_world(fail_rate=0.0, answer=answering(texts))
    wish = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    with world.client() as client:
        results = client.run(lines(ROWS, response_format=wish), name="typed", out=tmp_path / "out.csv")
        table = results.to_arrow()
    names = "custom_id ok text label score count sure tags answer_text finish_reason".split()
    assert table.column_names[:10] == names
    kinds = [str(table.schema.field(name).type) for name in names[3:9]]
    assert kinds == ["string", "double", "int64", "bool", "string", "string"]
    first, second, third = table.to_pylist()
    assert (first["label"], first["score"], first["count"], first["sure"]) == ("=x", 1.0, None, True)
    assert (first["tags"], first["answer_text"]) == ('["p","q"]', "own")
    assert (second["label"], second["score"], second["count"], second["sure"]) == ('["not","text"]', None, None, None)
    assert {third[name] for name in names[3:9]} == {None}
    assert read_csv((tmp_path / "out.csv").read_bytes())[0]["label"] == "'=x"


def test_columns_of_the_same_name_say_whose_they_are(make_world: Callable[..., World], tmp_path: Path) -> None:
    """The input's keep their names; ours are result_…, and those of the answer answer_…, where another has the name."""
    fields = ("ok", "model", "label", "sku", "result_ok")
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in fields}}
    wish = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    said = orjson.dumps({name: f"said {name}" for name in fields}).decode()
    world = make_world(fail_rate=0.0, answer=lambda _: said)
    given = [{"sku": "a", "name": "n", "ok": "mine", "model": "T"}]
    with world.client() as client:
        alone = client.run(lines(given, response_format=wish), name="names", out=tmp_path / "alone.csv")
        names = alone.to_arrow().column_names
        assert names[:8] == "custom_id ok text answer_ok answer_model label sku result_ok".split()
        assert names[8:] == DETAIL
        client.fetch("names", tmp_path / "joined.csv", join=given)
        client.fetch("names", tmp_path / "few.csv", columns=["answer_ok", "ok"])
    (row,) = read_csv((tmp_path / "joined.csv").read_bytes())
    first = (
        "sku name ok model custom_id result_ok text answer_ok answer_model label answer_sku answer_result_ok".split()
    )
    assert list(row)[:12] == first
    assert list(row)[12:] == ["result_model" if name == "model" else name for name in DETAIL]
    assert (row["ok"], row["result_ok"], row["answer_ok"]) == ("mine", "true", "said ok")
    assert (row["model"], row["answer_model"], row["answer_result_ok"]) == ("T", "said model", "said result_ok")
    assert row["result_model"].startswith("gpt-4o-batch")
    assert (tmp_path / "few.csv").read_text() == "answer_ok,ok\nsaid ok,true\n"


def test_columns_are_chosen_and_unknown_ones_refused_before_anything_is_sent(world: World, tmp_path: Path) -> None:
    with world.client() as client:
        with pytest.raises(UsageError, match="no column 'txet'"):
            client.run(lines(ROWS), name="chosen", out=tmp_path / "out.csv", columns=["custom_id", "txet"])
        assert world.batches() == []
        client.run(lines(ROWS), name="chosen", out=tmp_path / "out.csv", columns=["ok", "custom_id"])
        assert (tmp_path / "out.csv").read_bytes() == b"ok,custom_id\ntrue,a\ntrue,b\ntrue,c\n"
        client.fetch("chosen", tmp_path / "out.jsonl", columns=["custom_id", "status_code"])
    assert orjson.loads((tmp_path / "out.jsonl").read_bytes().splitlines()[0]) == {"custom_id": "a", "status_code": 200}


def test_dataframes_take_results_as_they_are(world: World) -> None:
    with world.client(limits=SMALL) as client:
        results = client.run(request_lines(10), name="frames")
    frame = polars.DataFrame(results)
    assert frame["custom_id"].to_list() == [f"row-{n}" for n in range(10)]
    assert frame["ok"].all()
    assert results.to_arrow().num_rows == 10


@pytest.mark.parametrize("asked", [["x", "y"], [[1, 2], [3]], [1, 2, 3], [[1, 2]], ["x"], "x"])
def test_rows_with_several_embeddings_are_found_before_anything_is_sent(
    world: World, tmp_path: Path, asked: Any
) -> None:
    made = [
        {**request_line(n), "url": "/v1/embeddings", "body": {"model": "d", "input": asked if n == 5 else "x"}}
        for n in range(6)
    ]
    with world.client(limits=SMALL) as client:
        if asked in (["x", "y"], [[1, 2], [3]]):
            with pytest.raises(UsageError, match="'row-5' asks for 2 embeddings"):
                client.run(made, name="vectors", out=tmp_path / "out.csv")
            assert (world.batches(), client.list().jobs) == ([], ())
        else:
            assert client.run(made, name="vectors", out=tmp_path / "out.csv").report.ok == 6


def test_a_table_of_embeddings_of_which_none_came_is_one(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=1.0)
    lines = [{**request_line(n), "url": "/v1/embeddings", "body": {"model": "d", "input": "x"}} for n in range(3)]
    with world.client() as client:
        results = client.run(lines, name="none", columns=["custom_id", "embedding"])
        assert results.report.ok == 0
        assert polars.DataFrame(results)["embedding"].to_list() == [None] * 3


def test_embeddings_are_lists_of_one_length(world: World, tmp_path: Path) -> None:
    made = [
        {**request_line(n), "url": "/v1/embeddings", "body": {"model": "d", "input": ["x", "y"] if n else "x"}}
        for n in range(3)
    ]
    with world.client() as client:
        with pytest.raises(UsageError, match="'row-1' asks for 2 embeddings"):
            client.run(made, name="vectors", out=tmp_path / "out.parquet")
        assert world.batches() == []
        client.run(made, name="vectors")
        with pytest.raises(ResultError, match="has 2 embeddings"):
            client.fetch("vectors", tmp_path / "out.parquet")
        client.fetch("vectors", tmp_path / "out.parquet", each=True)
        client.fetch("vectors", tmp_path / "out.csv", each=True)
        with pytest.raises(UsageError, match="only embeddings have a row each"):
            client.run(lines(ROWS), name="chat", out=tmp_path / "chat.csv", each=True)
    table = polars.read_parquet(tmp_path / "out.parquet")
    assert table.schema["embedding"] == polars.Array(polars.Float32, 8)
    assert table["index"].to_list() == [0, 0, 1, 0, 1]
    assert len(orjson.loads(read_csv((tmp_path / "out.csv").read_bytes())[4]["embedding"])) == 8


def test_part_of_the_results_before_the_end(make_world: Callable[..., World], tmp_path: Path) -> None:
    world, out = make_world(fail_rate=0.0), tmp_path / "out.csv"
    with world.client(limits=SMALL) as client:
        job = client.submit(request_lines(8), name="half")
        for batch in world.batches()[:1]:
            with world.http() as http:
                http.post(f"/openai/v1/batches/{batch['id']}/cancel").raise_for_status()
        world.clock.advance(130)
        results = client.fetch(job, out, partial=True)
        report = results.report
        assert (report.pending, report.total, report.balanced) == (4, 8, True)
        assert report.ok + report.failed == 4
        rows = read_csv(out.read_bytes())
        assert sum(row["error_code"] == "pending" for row in rows) == 4
        validate("report", batchkit.cli.documents.report(report, None))
        assert client.show(job).settled_at is None
        list(client.track(job))
        assert client.fetch(job, out).report.pending == 0


def test_results_one_by_one_in_both_clients(world: World) -> None:
    async def names() -> list[str]:
        async with AsyncClient(world.target(), ledger=world.home / "ledger.sqlite3", clock=world.clock) as client:
            return [result.custom_id async for result in client.iter_results("steps")]

    with world.client(limits=SMALL) as client:
        client.run(request_lines(250), name="steps")
        assert [result.custom_id for result in client.iter_results("steps")] == [f"row-{n}" for n in range(250)]
    assert asyncio.run(names()) == [f"row-{n}" for n in range(250)]


@pytest.mark.parametrize("fault", ["", "drop_rows,0.2", "expire,0.5"])
def test_raw_lines_are_the_services_own_in_input_order(make_world: Callable[..., World], fault: str) -> None:
    world = make_world(fail_rate=0.3, faults=[fault] if fault else [])
    with world.client(poll_interval_s=600.0) as client:
        results = client.run(request_lines(60), name="raw", format="raw")
        found = [orjson.loads(line) for line in b"".join(results.pieces()).splitlines()]
        rows = list(results)
        with pytest.raises(UsageError, match="no columns"):
            client.fetch("raw", format="raw", columns=["ok"])
    theirs: dict[str, Any] = {}
    for path in world.home.glob("ledger.jobs/*/*.[oe][ur]*.jsonl"):
        theirs |= {line["custom_id"]: line for line in map(orjson.loads, path.read_bytes().splitlines())}
    assert [line["custom_id"] for line in found] == [f"row-{n}" for n in range(60)]
    for line, row in zip(found, rows, strict=True):
        if row.custom_id in theirs:
            assert line == theirs[row.custom_id]
        else:
            assert (line["response"], line["error"]["code"]) == (None, "missing")


HOSTILE = ["=cmd()", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\0=1", "＝1", "－1", "＠x"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_of_a_csv_is_a_formula(make_world: Callable[..., World], text: str) -> None:
    world = make_world(fail_rate=0.0, answer=lambda _: text)
    rows = [{"sku": "a", text: text}]
    with world.client() as client:
        results = client.run(lines(rows), name="formula", join=rows, format="csv")
    header, row = list(csv.reader(io.StringIO(b"".join(results.pieces()).decode(), newline="")))
    for cell in (header[1], row[1], row[4]):
        assert cell == "'" + text


def test_numbers_are_no_formulas(world: World) -> None:
    rows = [{"sku": "a", "n": text} for text in ["-5"]] + [{"sku": "b", "n": "+3.5e-7"}, {"sku": "c", "n": "-1-1"}]
    with world.client() as client:
        results = client.run(lines(rows), name="numbers", join=rows, format="csv", columns=["n"])
    assert b"".join(results.pieces()) == b"n\n-5\n+3.5e-7\n'-1-1\n"


def test_an_answer_that_no_table_can_hold_is_escaped(make_world: Callable[..., World], tmp_path: Path) -> None:
    body = {"choices": [{"message": {"content": "x"}}]}
    world = make_world(fail_rate=0.0, answer=lambda _: Reply(200, body))
    with world.client() as client:
        client.run(lines(ROWS), name="odd")
        for path in world.home.glob("ledger.jobs/*/*.output.jsonl"):
            path.write_bytes(path.read_bytes().replace(b'"x"', b'"\\ud800"'))
        results = client.fetch("odd", tmp_path / "out.parquet")
        client.fetch("odd", tmp_path / "out.csv")
        client.fetch("odd", tmp_path / "out.jsonl")
    assert results.report.ok == 3
    assert polars.read_parquet(tmp_path / "out.parquet")["text"].to_list() == ["\\ud800"] * 3


def test_joined_values_that_json_has_no_type_for_are_plain_text(world: World, tmp_path: Path) -> None:
    rows = [{"day": date(2024, 1, day), "price": Decimal("1.50"), "n": 2**70} for day in (1, 2)]
    made = batchkit.lines(rows, deployment="gpt-4o-batch", custom_id="day", body="x {price}")
    with world.client() as client:
        client.run(made, name="days", out=tmp_path / "out.csv", join=rows, columns=["day", "price", "n", "custom_id"])
        client.fetch("days", tmp_path / "out.parquet", join=rows, columns=["day", "price", "n"])
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == f"2024-01-01,1.50,{2**70},2024-01-01"
    assert polars.read_parquet(tmp_path / "out.parquet").row(1) == ("2024-01-02", "1.50", str(2**70))


def test_a_whole_number_that_no_float_is_goes_into_a_column_of_floats(world: World, tmp_path: Path) -> None:
    rows = [{"sku": "a", "n": 2**60 + 1}, {"sku": "b", "n": 1.5}]
    with world.client() as client:
        client.run(lines(rows), name="wide", out=tmp_path / "out.parquet", join=rows)
    assert polars.read_parquet(tmp_path / "out.parquet")["n"].to_list() == [float(2**60), 1.5]


def test_rows_that_failed_before_the_first_embedding_do_not_tell_its_length(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    rows = [{"sku": f"r{number}"} for number in range(arrow.ROWS + 1)]
    made = batchkit.lines(rows, deployment="gpt-4o-batch", custom_id="sku", body="{sku}", url="embeddings")
    no = Reply(400, {"error": {"code": "no"}})
    world = make_world(fail_rate=0.0, answer=lambda line: "fine" if line["custom_id"] == rows[-1]["sku"] else no)
    with world.client() as client:
        client.run(made, name="vectors", out=tmp_path / "out.parquet")
    assert polars.read_parquet(tmp_path / "out.parquet")["embedding"].is_not_null().sum() == 1


def test_a_property_that_may_be_null_keeps_its_type(world: World) -> None:
    class Answer(pydantic.BaseModel):
        count: int | None
        word: str | None

    made = batchkit.lines(ROWS, deployment="gpt-4o-batch", custom_id="sku", body="{name}", schema=Answer)
    with world.client() as client:
        table = client.run(made, name="nullable").to_arrow()
    assert [str(table.schema.field(name).type) for name in ("count", "word")] == ["int64", "string"]
