"""Tokens and cost against published numbers, and estimates that say that they are."""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchkit import ConfigError, InputError, check
from batchkit.builder.images import image_size
from batchkit.builder.tokens import Tally, _patches, _tiles, estimated, exact, image_tokens, model_of

from .conftest import EXAMPLES, request_line
from .test_making import png
from .tools.shell import Command

PUBLISHED = {
    "antidisestablishmentarianism": (6, 6),
    "2 + 2 = 4": (7, 7),
    "お誕生日おめでとう": (9, 8),
    "tiktoken is great!": (6, 6),
}
"""OpenAI cookbook, "How to count tokens with tiktoken": text, tokens in cl100k_base and in o200k_base."""

EXAMPLE: list[dict[str, str]] = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon "
        "into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
        "for increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
"""The conversation of the same page: 129 tokens for gpt-4, 124 for gpt-4o."""


@pytest.mark.parametrize("text", PUBLISHED)
def test_texts_have_as_many_tokens_as_published(text: str) -> None:
    assert tuple(exact(model)[0](text) for model in ("gpt-4", "gpt-4o")) == PUBLISHED[text]


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4", 129), ("gpt-4o", 124), ("gpt-4o-mini", 124)])
def test_a_conversation_has_as_many_tokens_as_published(model: str, tokens: int) -> None:
    tally = Tally(model, *exact(model))
    tally.line(orjson.dumps(request_line(1) | {"body": {"model": model, "messages": EXAMPLE, "max_tokens": 9}}))
    assert (tally.tokens.input, tally.tokens.output_most, tally.tokens.unbounded) == (tokens, 9, 0)
    assert tally.tokens.how == exact(model)[1]


def test_the_estimate_is_near_and_says_what_it_is() -> None:
    text = (EXAMPLES / "packages.csv").read_text("utf-8")
    count, _ = exact("gpt-4o")
    assert 0.7 < estimated(text) / count(text) < 1.3
    assert 0.6 < estimated("お誕生日おめでとう" * 20) / count("お誕生日おめでとう" * 20) < 1.6
    assert Tally().tokens.how == "estimated"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o-batch", "gpt-4o"),
        ("prod-GPT-4.1-mini-eu", "gpt-4.1-mini"),
        ("gpt-5-nano", "gpt-5-nano"),
        ("o4-mini", "o4-mini"),
        ("nightly", None),
    ],
)
def test_the_model_that_a_deployment_speaks_of(name: str, model: str | None) -> None:
    assert model_of(name) == model


def test_images_cost_what_is_published() -> None:
    assert [_tiles(*size, 85, 170) for size in ((1024, 1024), (2048, 4096), (512, 512))] == [765, 1105, 255]
    assert [_patches(*size) for size in ((1024, 1024), (1800, 2400))] == [1024, 1452]
    url = "data:image/png;base64," + base64.b64encode(png(1024, 1024)).decode()
    assert image_tokens(url, "high", "gpt-4o") == 765
    assert image_tokens(url, "low", "gpt-4o") == 85
    assert image_tokens(url, None, "gpt-4.1-mini") == 1659
    assert image_tokens("https://host/a.png", "high", "gpt-4o") is None
    assert image_tokens(url, None, None) is None


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (png(640, 480), (640, 480)),
        (b"GIF89a" + (320).to_bytes(2, "little") + (200).to_bytes(2, "little"), (320, 200)),
        (b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08\x01\xe0\x02\x80" + b"\0" * 9, (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\x7f\x02\x00\xdf\x01\x00", (640, 480)),
        (b"\x89PNG\r\n\x1a\n", (0, 0)),
        (b"no image", None),
    ],
)
def test_how_large_an_image_is(head: bytes, size: tuple[int, int] | None) -> None:
    assert image_size(head) == size


def lines(path: Path, **body: Any) -> Path:
    made = request_line(1)["body"] | body
    path.write_bytes(b"".join(orjson.dumps(request_line(n) | {"body": made}) + b"\n" for n in range(1000)))
    return path


def test_images_that_cannot_be_counted_are_reported(tmp_path: Path, command: Command) -> None:
    content = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://host/a.png"}}]
    path = lines(tmp_path / "lines.jsonl", messages=[{"role": "user", "content": content}])
    tokens = check(path, tokens=True).tokens
    assert tokens is not None
    assert (tokens.images, tokens.uncounted) == (1000, 1000)
    _, out, _ = command(tmp_path, "check", str(path), "--tokens")
    assert "1000 of 1000 images not counted" in out
    assert "about " in out
    assert "(estimated)" in out


def test_an_image_by_the_id_of_a_file_is_one_that_cannot_be_counted() -> None:
    tally = Tally("gpt-4o")
    content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "file_id": "file-1"}]
    tally.line(orjson.dumps({"body": {"model": "gpt-4o", "input": [{"role": "user", "content": content}]}}))
    assert (tally.tokens.images, tally.tokens.uncounted) == (1, 1)


@pytest.mark.parametrize("url", [7, None, ["x"], "data:image/png;base64,iVB£", "data:image/png;base64,iVB!"])
def test_a_senseless_image_is_one_that_cannot_be_counted(tmp_path: Path, url: Any) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    path = lines(tmp_path / "lines.jsonl", model="gpt-4o", messages=[{"role": "user", "content": content}])
    tokens = check(path, tokens=True).tokens
    assert tokens is not None
    assert (tokens.images, tokens.uncounted) == (1000, 1000)


PRICES = 'date = 2025-11-01\ncurrency = "USD"\n[models.gpt-4o-batch]\ninput = 1.25\noutput = 5\n'


def test_what_a_file_costs_by_the_users_own_prices(tmp_path: Path, command: Command) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    path = lines(tmp_path / "lines.jsonl", max_tokens=100)
    code, out, err = command(tmp_path, "check", str(path), "--cost", str(prices), "--exact", "--json")
    assert code == 0, err
    (file,) = orjson.loads(out)["files"]
    assert file["tokens"]["how"] == "o200k_base"
    assert file["cost"] == {
        "input": round(file["tokens"]["input"] * 1.25e-6, 6),
        "output_most": 0.5,
        "currency": "USD",
        "prices_of": "2025-11-01",
    }
    _, out, _ = command(tmp_path, "check", str(path), "--cost", str(prices))
    assert "up to 0.50 out, by the prices of 2025-11-01" in out
    _, out, _ = command(tmp_path, "check", str(lines(path)), "--cost", str(prices))
    assert "tokens out have no bound" in out


def test_tokens_and_cost_from_python(tmp_path: Path, command: Command) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    path = lines(tmp_path / "lines.jsonl", max_tokens=1000)
    for flags, report in (
        (["--tokens"], check(path, tokens=True)),
        (["--exact"], check(path, tokens="exact")),
        (["--cost", str(prices)], check(path, prices=prices)),
        (["--cost", str(prices), "--exact"], check(str(path), tokens="exact", prices=str(prices))),
    ):
        (told,) = orjson.loads(command(tmp_path, "check", str(path), "--json", *flags)[1])["files"]
        assert report.tokens is not None
        assert told["tokens"] == asdict(report.tokens)
        assert told["cost"] == (report.cost and asdict(report.cost))
        assert (report.cost is None) is ("--cost" not in flags)
    assert check(path).tokens is None
    prices.write_text(PRICES.replace("gpt-4o-batch", "other"))
    assert check(path, prices=prices).cost is None
    assert check(path, prices=prices, model="other-mini").cost is not None, "by the model, where that is named"
    with pytest.raises(InputError, match="tokens must be True or 'exact', not 'precise'"):
        check(path, tokens="precise")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prices must be the path of a price file, not a dict"):
        check(path, prices={})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is not valid TOML"):
        check(path, prices=path)


def test_a_price_that_is_missing_hides_nothing_that_was_found(tmp_path: Path, command: Command) -> None:
    prices, known, other = tmp_path / "prices.toml", tmp_path / "known.jsonl", tmp_path / "other.jsonl"
    prices.write_text(PRICES)
    lines(known, max_tokens=100)
    lines(other, model="other")
    cost = ("--cost", str(prices))
    code, out, err = command(tmp_path, "check", str(other), str(known), *cost)
    assert (code, "has no price for 'other'" in err) == (4, True)
    assert "other.jsonl: good" in out
    assert "up to 0.50 out" in out
    other.write_bytes(other.read_bytes() * 2)
    code, out, err = command(tmp_path, "check", str(other), *cost)
    assert (code, "duplicate_custom_id" in out) == (3, True)
    assert "warning: the price file has no price for 'other'" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date = 2025-11-01\n", "lacks currency or models"),
        (PRICES.replace("2025-11-01", '"soon"'), "has no date of its prices"),
        (PRICES.replace("2025-11-01", "2025-11-01T10:00:00"), "has no date of its prices"),
        (PRICES.replace("input = 1.25", "input = -1"), "needs input and output"),
        (PRICES.replace("input = 1.25", "input = nan"), "needs input and output"),
        (PRICES.replace("input = 1.25", "input = inf"), "needs input and output"),
        (PRICES.replace("gpt-4o-batch", "other"), "has no price for 'gpt-4o-batch'"),
        ("= nonsense", "not valid TOML"),
    ],
)
def test_a_bad_price_file_is_refused(tmp_path: Path, text: str, words: str, command: Command) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(text)
    code, _, err = command(tmp_path, "check", str(lines(tmp_path / "lines.jsonl")), "--cost", str(prices))
    assert (code, words in err) == (4, True), err


def test_token_numbers_are_tokens_and_embeddings_have_none_out(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "vectors.jsonl"
    inputs: list[object] = [[1, 2, 3], [[1, 2], [3]]]
    made = [{"url": "/v1/embeddings", "body": {"model": "m", "input": item}} for item in inputs]
    path.write_bytes(b"".join(orjson.dumps(request_line(n) | line) + b"\n" for n, line in enumerate(made)))
    report = check(path, tokens=True)
    assert report.tokens is not None
    assert (report.tokens.input, report.tokens.unbounded) == (6, 0)
    assert "tokens out" not in command(tmp_path, "check", str(path), "--tokens")[1]
