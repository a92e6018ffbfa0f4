"""Rows → lines → parts: nothing lost, changed or reordered, and every refusal names its row."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batchkit
from batchkit import InputError, Limits
from batchkit.builder.lines import encode
from batchkit.builder.split import file_lines, stage

from .conftest import EXAMPLES, request_lines


def build(rows: list[dict[str, Any]], body: str = "{a}", **options: Any) -> list[dict[str, Any]]:
    made = batchkit.lines(rows, deployment="d", body=body, **options)
    return [orjson.loads(line) for line in encode(made)]


def test_the_example_table_is_read_as_it_is() -> None:
    rows = list(batchkit.read_rows(EXAMPLES / "packages.csv"))
    assert len(rows) == 240
    cells = [cell for row in rows for cell in row.values()]
    for dirt in ('"', ",", "\n", "å", "🍡"):
        assert any(dirt in cell for cell in cells), dirt
    assert "" in cells


text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(text, text), min_size=1, max_size=5))
def test_any_text_survives_csv_prompt_and_line(cells: list[tuple[str, str]]) -> None:
    rows = [{"a": a, "b": b} for a, b in cells]
    for row, line in zip(rows, build(rows, body="{a}|{b}"), strict=True):
        assert line["body"]["messages"][-1]["content"] == f"{row['a']}|{row['b']}"
    for raw in encode(batchkit.lines(rows, deployment="d", body="{a}")):
        assert raw.count(b"\n") == 1
        assert raw.endswith(b"\n")
        raw.decode("utf-8")


def test_csv_with_bom_tabs_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes('\ufeffa\tb\r\n1\t"two\nlines"\r\n'.encode())
    assert list(batchkit.read_rows(path)) == [{"a": "1", "b": "two\nlines"}]


def test_jsonl_rows_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": {"x": [1, 2]}, "n": 3}\n\n{"a": "s", "n": 4}\n')
    lines = build(list(map(dict, batchkit.read_rows(path))), body="{n}: {a} {{braces}}", custom_id="n")
    assert [line["custom_id"] for line in lines] == ["3", "4"]
    assert [line["body"]["messages"][0]["content"] for line in lines] == ['3: {"x":[1,2]} {braces}', "4: s {braces}"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"a,a\n1,2\n", "'a' more than once"),
        ("a.csv", b"a,b\n1,2\n3\n", "row 2 .*1 cells, the header has 2"),
        ("a.csv", b'a,b\n1,"2\n', "unexpected end of data"),
        ("a.csv", b"a,b\n1,caf\xe9\n", "line 2, byte 9: 0xe9 is not UTF-8"),
        ("a.csv", b"caf\xe9\n", "not UTF-8"),
        ("a.jsonl", b'{"a": 1}\noops\n', "line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: not a JSON object"),
        ("a.xlsx", b"", r"\.csv, \.tsv, \.jsonl, \.json, \.parquet or \.arrow"),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        list(batchkit.read_rows(path))


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{"a": "1"}, {"b": "2"}], {}, r"row 2: column 'a' is missing \(there are: b\)"),
        ([{"a": None}], {}, "row 1: column 'a' is null"),
        ([{"a": "1"}, {"a": "1"}], {"custom_id": "a"}, "row 2: duplicate_custom_id: custom_id '1' is used twice"),
        ([{"a": ""}], {"custom_id": "a"}, "row 1: column 'a' is empty"),
        ([{"a": "1"}], {"custom_id": "id"}, "row 1: column 'id' is missing"),
        ([{"a": "1"}], {"body": "{"}, "template is broken"),
        ([{"a": "1"}], {"body": "{}"}, "empty field"),
        ([{"a": "1"}], {"body": "{a:>9}"}, "not a plain column name"),
        ([{"a": "1"}], {"params": {"x": object()}}, "cannot be written as JSON"),
    ],
)
def test_bad_rows_and_templates_are_refused_with_their_row(
    rows: list[dict[str, Any]], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build(rows, **options)


def test_the_kinds_of_requests() -> None:
    rows, params = [{"a": "x"}], {"max_tokens": 5}
    (chat,) = build(rows, system="be brief", params=params)
    roles = [message["role"] for message in chat["body"]["messages"]]
    assert roles == ["system", "user"]
    assert (chat["body"]["model"], chat["body"]["max_tokens"]) == ("d", 5)
    (responses,) = build(rows, url="/v1/responses", system="be brief")
    assert responses["body"] == {"instructions": "be brief", "input": "x", "model": "d"}
    (embeddings,) = build(rows, url="/v1/embeddings")
    assert embeddings["body"] == {"input": "x", "model": "d"}


def test_a_body_may_be_a_function() -> None:
    made = batchkit.lines([{"q": "why"}], deployment="d", body=lambda row: {"input": row["q"]}, url="/v1/responses")
    assert [line.body for line in made] == [{"input": "why", "model": "d"}]
    with pytest.raises(InputError, match="row 1: the function of body failed: KeyError: 'q'"):
        list(batchkit.lines([{}], deployment="d", body=lambda row: {"input": row["q"]}))


@settings(max_examples=50)
@given(
    st.lists(st.binary(min_size=0, max_size=30).map(lambda b: b.replace(b"\n", b"") + b"\n"), min_size=1, max_size=40),
    st.integers(1, 7),
    st.integers(37, 80),
)
def test_splitting_loses_repeats_and_reorders_nothing(raw: list[bytes], max_lines: int, max_bytes: int) -> None:
    import tempfile

    first = b'{"url": "u", "body": {"model": "m"}}\n'
    lines = [first, *raw]
    limits = Limits(max_lines=max_lines, max_bytes=max_bytes)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        staged = stage(lines, directory, limits)
        parts = [path.read_bytes() for path in sorted(directory.iterdir())]
    assert b"".join(parts) == b"".join(lines)
    assert staged.sha256 == hashlib.sha256(b"".join(lines)).hexdigest()
    for part, data in zip(staged.slices, parts, strict=True):
        assert (part.lines, part.bytes) == (data.count(b"\n"), len(data))
        assert part.sha256 == hashlib.sha256(data).hexdigest()
        assert part.lines <= max_lines
        assert part.bytes <= max_bytes


def test_a_line_no_file_may_hold_is_named(tmp_path: Path) -> None:
    lines = list(encode(request_lines(3)))
    with pytest.raises(InputError, match=r"larger than a file may be .*row-0"):
        stage(lines, tmp_path, Limits(max_bytes=50))
    assert list(tmp_path.iterdir()) == []


def test_lines_of_a_file_are_mended_where_that_is_mechanical(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a":1}\r\n\n{"b":2}')
    assert list(file_lines(path)) == [b'{"a":1}\n', b'{"b":2}\n']


def test_writing_the_rows_of_the_example_again_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [dict(row) for row in batchkit.read_rows(EXAMPLES / "packages.csv")]
    path = tmp_path / "again.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert [dict(row) for row in batchkit.read_rows(path)] == rows
