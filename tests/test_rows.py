"""Rows from every kind of source: as they are, streamed, and refused with their place."""

from __future__ import annotations

import datetime
import decimal
import io
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc, parquet

import batchkit
from batchkit import InputError
from batchkit.builder.json_rows import json_array
from batchkit.errors import MissingExtra

from .tools.shell import Command

ROWS = [{"id": "a", "text": 'Grüße, "so"', "n": 1}, {"id": "b", "text": "two\nlines 🍡", "n": None}]


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in batchkit.read_rows(path, **options)]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather"])
def test_rows_of_a_file_are_what_was_put_in(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    table = pyarrow.Table.from_pylist(ROWS)
    if suffix == ".parquet":
        parquet.write_table(table, path)
    elif suffix == ".arrow":
        with ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif suffix == ".feather":
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    elif suffix == ".json":
        path.write_bytes(orjson.dumps(ROWS, option=orjson.OPT_INDENT_2))
    else:
        path.write_bytes(b"\n".join(map(orjson.dumps, ROWS)))
    assert read(path) == ROWS


def test_a_dataframe_is_rows() -> None:
    class Frame:
        """Nothing but the Arrow PyCapsule interface, as pandas, Polars and DuckDB have it."""

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pyarrow.Table.from_pylist(ROWS).__arrow_c_stream__(requested_schema)

    made = batchkit.lines(Frame(), deployment="d", body="{text}", custom_id="id")
    assert [line.custom_id for line in made] == ["a", "b"]


def test_rows_must_be_rows() -> None:
    for wrong in (7, {"a": 1}):
        with pytest.raises(InputError, match="rows must be mappings or a dataframe"):
            batchkit.lines(wrong, deployment="d", body="{a}")


def test_a_query_on_a_file_and_on_a_database(tmp_path: Path) -> None:
    path = tmp_path / "it's.csv"
    path.write_text("id,n\na,1\nb,2\nc,3\n")
    assert read(path, sql="select id, n * 2 as twice from rows where n > 1 order by n") == [
        {"id": "b", "twice": 4},
        {"id": "c", "twice": 6},
    ]
    database = tmp_path / "data.sqlite"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table things (id text, at text)")
        connection.executemany("insert into things values (?, ?)", [(f"t{n}", "12:30") for n in range(2500)])
    rows = list(batchkit.read_rows(f"sqlite:///{database}", sql="select id, at from things where at = '12:30'"))
    assert (len(rows), rows[-1]) == (2500, {"id": "t2499", "at": "12:30"})


@pytest.mark.parametrize(
    ("source", "sql", "words"),
    [
        ("{}.csv", "select nothing from rows", "nothing"),
        ("{}.csv", "-- nothing", "the query is empty"),
        ("{}.csv", "select id, id from rows", "more than once"),
        ("nowhere.csv", "select 1", "no such file"),
        ("sqlite:///{}.db", "select * from nowhere", "no such table"),
        ("sqlite:///{}.db", "select 1 as a, 2 as a", "more than once"),
        ("nonsense://user:secret@host/db", "select 1", "nonsense"),
    ],
)
def test_a_bad_query_is_refused_without_the_password(tmp_path: Path, source: str, sql: str, words: str) -> None:
    (tmp_path / "x.csv").write_text("id\na\n")
    with pytest.raises((InputError, MissingExtra), match=words) as caught:
        list(batchkit.read_rows(source.format(tmp_path / "x"), sql=sql))
    assert "secret" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("head", "mark"),
    [
        ("a,b;c,d\n1,2;3,4\n", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a\tb, c\n1\t2\n", "\t"),
        ('"a;b",c\n1,2\n', ","),
        ("a|b\n1|2\n", "|"),
        ("one column\nx, y\n", ","),
    ],
)
def test_the_separator_is_the_one_that_cuts_evenly(tmp_path: Path, head: str, mark: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(head)
    if mark in head.splitlines()[0].replace('"a;b"', ""):
        assert len(read(path)[0]) == head.splitlines()[0].replace('"a;b"', "ab").count(mark) + 1


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", "a,b\n1,ü\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        ("a.csv", b"a,b\n1,caf\xe9\n", r"line 2, byte 9: 0xe9 is not UTF-8; as WINDOWS-1252 it is 'é'"),
        ("a.csv", b"a,b\n1,\x93x\x94\n", "as WINDOWS-1252 it is '“'"),
        ("a.csv", b"\xfd\x13\x01PNG\n", "line 1, byte 0: 0xfd is not UTF-8, nor is it text in another encoding"),
        ("a.csv", b"a,b\n" + b"1,2\n" * 9000 + b"1,caf\xe9\n", "line 9002, byte 36009"),
        ("a.json", b'[{"a": 1}, 2]', "row 2: not a JSON object"),
        ("a.json", b'[{"a": 1} {"a": 2}]', "row 2: not a JSON object"),
        ("a.json", b'[{"a": 1}, {"a": }]', "row 2: not JSON"),
        ("a.json", b'[{"a": 1}', "the array does not end"),
        ("a.json", b'[{"a": 1}] x', "something stands after the array"),
        ("a.parquet", b"PAR1 is not enough", "Parquet"),
        ("a.arrow", b"nothing of the kind at all", "rows|a.arrow"),
    ],
)
def test_bad_sources_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        read(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab]}"\\', max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text('ab{["', max_size=3), json_values, max_size=3), max_size=6), st.booleans())
def test_any_array_is_taken_apart_as_it_was_put_together(rows: list[dict[str, Any]], spread: bool) -> None:
    data = orjson.dumps(rows, option=orjson.OPT_INDENT_2 if spread else 0)

    class Drops(io.BytesIO):
        """Gives a few bytes at a time, as a pipe may."""

        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(5)

    assert list(json_array(Drops(data), "rows")) == rows


def test_an_array_is_read_without_holding_it(tmp_path: Path) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return b'[{"a":1}' if not self.tell() and self.seek(1) else b',{"a":2}' * 1000

    source: Iterator[dict[str, Any]] = json_array(Endless(), "endless")
    assert [next(source)["a"] for _ in range(5000)] == [1] + [2] * 4999


@pytest.mark.deep
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.parquet", "rows.db", "-"])
def test_rows_are_read_in_memory_that_does_not_grow_with_them(tmp_path: Path, name: str) -> None:
    """What reading four times as many rows costs in memory: a tenth of what they add, at most."""
    import subprocess

    program = (
        "import re, sys, batchkit\n"
        "rows = batchkit.read_rows(sys.argv[1], sql=sys.argv[2] if len(sys.argv) > 2 else None)\n"
        "print(sum(1 for _ in rows), re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    peaks = []
    for count in (100_000, 400_000):
        path = _table(tmp_path / f"{count}-{name.replace('-', 'stdin.csv')}", count)
        source = "-" if name == "-" else f"sqlite:///{path}" if path.suffix == ".db" else str(path)
        arguments = [sys.executable, "-c", program, source, *(["select * from t"] if path.suffix == ".db" else [])]
        with path.open("rb") as stdin:
            said = subprocess.run(arguments, stdin=stdin, capture_output=True, text=True, check=True).stdout.split()
        assert int(said[0]) == count
        peaks.append(1024 * int(said[1]))  # as ru_maxrss, without what the starting process held
    assert peaks[1] - peaks[0] < 0.1 * 300_000 * len(TEXT)


TEXT = "a text of some length, " * 20


def _table(path: Path, count: int) -> Path:
    """A file of so many rows, each of half a kilobyte."""
    table = [{"id": f"r{number}", "text": TEXT} for number in range(count)]
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(
            pyarrow.Table.from_pylist(table), path, compression="none", use_dictionary=False, row_group_size=10_000
        )
    elif path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("create table t (id text, text text)")
            connection.executemany("insert into t values (:id, :text)", table)
    elif path.suffix == ".json":
        path.write_bytes(orjson.dumps(table))
    elif path.suffix == ".jsonl":
        path.write_bytes(b"\n".join(map(orjson.dumps, table)))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text(
            "".join(f"{mark.join(row)}\n" for row in (["id", "text"], *([r["id"], f'"{TEXT}"'] for r in table)))
        )
    return path


def test_rows_come_from_stdin(tmp_path: Path) -> None:
    import os
    import subprocess

    flags = ["-d", "d", "-p", "{a}", "--custom-id", "{a}-{b}"]
    for data in (b"a,b\n1,x\n", b'{"a": 1, "b": "x"}\n', b'[{"a": 1, "b": "x"}]'):
        done = subprocess.run(
            [sys.executable, "-m", "batchkit", "build", "-", *flags],
            input=data, capture_output=True, cwd=tmp_path, check=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )  # fmt: skip
        assert orjson.loads(done.stdout)["custom_id"] == "1-x"


def test_values_that_json_has_no_type_for_are_written_plainly() -> None:
    row = {
        "day": datetime.date(2025, 11, 22),
        "price": decimal.Decimal("9.90"),
        "on": True,
        "list": [1, "a"],
        "nan": float("nan"),
    }
    (line,) = batchkit.lines([row], deployment="d", body="{day} {price} {on} {list} {nan}", on_missing="empty")
    assert line.body["messages"][0]["content"] == '2025-11-22 9.90 true [1,"a"] '


def test_flags_that_do_not_go_together_are_refused(tmp_path: Path, command: Command) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    for flags, code in ((["-p", "{a}"], 2), (["-d", "d"], 2), (["-d", "d", "-p", "{a}", "--sql", "selec"], 3)):
        assert command(tmp_path, "build", "rows.csv", *flags)[0] == code


def test_a_queried_file_is_the_one_that_is_named(tmp_path: Path) -> None:
    for name in ("rows[1]", "rows1", "a*", "ab"):
        (tmp_path / f"{name}.csv").write_text(f"a\n{name}\n")
    for name in ("rows[1]", "a*"):
        assert read(tmp_path / f"{name}.csv", sql="select a from rows") == [{"a": name}]
