"""Whatever is given to a public function, the answer is a sentence: no TypeError from the inside reaches a caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars
import pyarrow
import pytest
from pydantic import BaseModel

import batchkit
from batchkit import BatchkitError, InputError, Limits, Query, Wishes
from batchkit.builder.lines import Lines, encode

from .conftest import World, request_lines

WRONG: list[Any] = [5, float("nan"), b"x", object(), ["x"], {"a": 1}, datetime(2026, 11, 24), timedelta(1), int]
"""One of each kind that people have at hand. What is right by chance is right."""


def unsaid(call: Callable[..., Any], right: dict[str, Any], words: Iterable[str] = ()) -> Iterator[str]:
    """What a call says in no sentence of batchkit's, when one of its arguments (default: each) is something wrong."""
    for word in words or inspect.signature(call).parameters.keys() - {"wishes"}:
        for wrong in WRONG:
            if word == "timeout_s" and wrong == 5:
                continue
            try:
                made = call(**{**right, word: wrong})
                for _ in encode(made) if isinstance(made, Lines) else made if isinstance(made, Iterator) else ():
                    pass
            except BatchkitError as error:
                assert error.hint
            except Exception as error:  # noqa: BLE001  (any other is what is looked for)
                yield f"{call.__name__}({word}={wrong!r}): {error!r}"


def test_functions_and_what_they_take(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"".join(encode(request_lines(2))))
    rows: dict[str, Any] = {"rows": [{"a": "x"}], "deployment": "d"}
    for made in (
        unsaid(batchkit.check, {"path": path}),
        unsaid(batchkit.read_rows, {"source": path}),
        unsaid(batchkit.lines, {**rows, "body": "{a}"}),
        unsaid(batchkit.lines, {**rows, "body": lambda row: {"messages": [{"role": "user", "content": "x"}]}}),
        unsaid(batchkit.load_target, {}),
        unsaid(batchkit.Query, {}),
        unsaid(batchkit.Limits, {}),
        unsaid(batchkit.Settings, {}),
        unsaid(batchkit.Client, {"target": world.target(), "ledger": tmp_path / "other.sqlite3"}),
    ):
        assert list(made) == []


def test_verbs_and_what_they_take(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world(fail_rate=0.5)
    verbs = "submit run fetch iter_results retry report cancel list list_remote show show_remote files doctor track"
    with world.client() as client:
        client.run(request_lines(9), name="done")
        for verb in [*verbs.split(), "watch"]:
            call = getattr(client, verb)
            words = inspect.signature(call).parameters
            right: dict[str, Any] = {"job": "done"} if "job" in words else {}
            right |= {"source": request_lines(9), "name": "done"} if "source" in words else {}
            assert list(unsaid(call, right)) == []
        out = {"job": "done", "out": tmp_path / "out.csv", "overwrite": True}
        assert list(unsaid(client.fetch, out, Wishes.__annotations__)) == []


QUERIES: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, "limit must be 1 or more, not 0"),
    ({"since": "8h"}, "since must be a time in seconds since 1970, not a str"),
    ({"until": date(2026, 11, 24)}, "until must be a time in seconds since 1970, not a date"),
    ({"name": 5}, "name must be text, not an int"),
]


@pytest.mark.parametrize(("words", "said"), QUERIES)
def test_a_query_of_something_else(words: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Query(**words)


class Answer(BaseModel):
    text: str


COLUMN = "rows must be mappings or a dataframe, not a single column"
SAID: list[tuple[Callable[[], Any], str]] = [
    (lambda: batchkit.check(polars.DataFrame({"a": ["x"]})), "path must be a path to a file of request lines"),  # type: ignore[arg-type]
    (lambda: list(batchkit.lines(polars.Series("a", ["x"]), deployment="d", body="{a}")), COLUMN),
    (lambda: list(batchkit.lines(pyarrow.chunked_array([["x"]]), deployment="d", body="{a}")), COLUMN),
    (
        lambda: batchkit.lines([{"a": "x"}], deployment="d", body="{a}", schema=Answer(text="x")),
        "schema must be a pydantic model itself, not an instance of it",
    ),
]


@pytest.mark.parametrize(("call", "said"), SAID)
def test_near_misses_say_what_is_wanted(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        call()
    assert refused.value.hint


def test_limits_hold_numbers() -> None:
    wrong: Any = "50000"
    with pytest.raises(BatchkitError, match="max_lines must be a whole number, not a str"):
        Limits(max_lines=wrong)


def test_a_place_for_results_is_a_path(world: World) -> None:
    wrong: Any = 5
    with world.client() as client:
        with pytest.raises(InputError, match="out must be a path, not an int"):
            client.run(request_lines(1), out=wrong)
        with pytest.raises(InputError, match="out must be a path, not an int"):
            client.fetch("x", wrong)
        with pytest.raises(InputError, match="row 1 must be a mapping from column to value, not a str"):
            client.run(request_lines(1), out="out.csv", join=["x"])
        assert not client.list().jobs
