"""How many tokens request lines have: counted with the extra `tokens`, else estimated; neither is called the other.

Sources: OpenAI cookbook, "How to count tokens with tiktoken" (three tokens a message, one a name, three to begin the
answer); OpenAI guide, "Images and vision: calculating costs" (tiles and patches).
"""

from __future__ import annotations

import base64
import math
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from batchkit.builder.images import image_size
from batchkit.builder.kinds import path_of
from batchkit.errors import MissingExtra
from batchkit.model import Tokens

ESTIMATE = "estimated"
_MODELS = re.compile(
    r"gpt-(?:5(?:\.\d)?|4\.1|4o|4)(?:-mini|-nano)?|o[134](?:-mini)?|gpt-35-turbo|gpt-3\.5-turbo|text-embedding-\w+"
)
_CL100K = re.compile(r"gpt-4(?![.\w])(?!-mini)|gpt-35|gpt-3\.5|text-embedding")
TILES = {
    "gpt-4o": (85, 170), "gpt-4.1": (85, 170), "gpt-4o-mini": (2833, 5667), "o1": (75, 150), "o3": (75, 150),
    "gpt-5": (70, 140), "gpt-5.1": (70, 140),
}  # fmt: skip
"""Tokens of an image and of each tile of 512 × 512 pixels."""
PATCHES = {"gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46, "o4-mini": 1.72, "gpt-5-mini": 1.62, "gpt-5-nano": 2.46}
"""Tokens of each patch of 32 × 32 pixels, of which an image has up to 1,536."""
_MOST_PATCHES = 1536
_IMAGES = frozenset({"image_url", "input_image"})
"""Pieces that are images wherever they come from, as from a file at the service, whose size is not known here."""


def model_of(name: str) -> str | None:
    """The model that a deployment's or model's name speaks of, as far as it tells."""
    found = _MODELS.search(name.lower())
    return found.group() if found else None


def estimated(text: str) -> int:
    """About a token every four characters, and more where characters take several bytes; within 30 % for most prose."""
    characters = len(text)
    return math.ceil(characters / 4 + (len(text.encode("utf-8", "replace")) - characters) / 3)


def exact(model: str | None) -> tuple[Callable[[str], int], str]:
    """A counter for a model (default: the newest vocabulary) and the vocabulary's name. Raises MissingExtra."""
    name = "cl100k_base" if model and _CL100K.match(model) else "o200k_base"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it opens its own vocabulary
        try:
            import bpe_openai
        except ImportError:
            raise MissingExtra(
                "counting tokens needs the extra 'tokens'",
                hint="pip install '.[tokens]' in the checkout; or let them be estimated: --tokens",
            ) from None
        encode = bpe_openai.get_encoding(name).encode_ordinary
    return lambda text: len(encode(text)), name


class Tally:
    """Adds up the tokens of request lines. `count` and `how` come from `exact`; without them they are estimated."""

    def __init__(self, model: str | None = None, count: Callable[[str], int] = estimated, how: str = ESTIMATE) -> None:
        self._model, self._count, self._how = model, count, how
        self._input = self._most = self._unbounded = self._images = self._uncounted = 0

    @property
    def tokens(self) -> Tokens:
        """The sums so far."""
        return Tokens(self._input, self._most, self._unbounded, self._images, self._uncounted, self._how)

    def line(self, raw: bytes) -> None:
        """Add one request line, a JSON object with a body."""
        document = orjson.loads(raw)
        body, url = document.get("body"), document.get("url")
        if not isinstance(body, Mapping):
            return
        if self._model is None and isinstance(body.get("model"), str):
            self._model = model_of(body["model"])
        self._input += self._body(body)
        limits = (body.get(key) for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
        most = next((limit for limit in limits if isinstance(limit, int)), None)
        if most is not None:
            self._most += most * (body["n"] if isinstance(body.get("n"), int) else 1)
        elif not (isinstance(url, str) and path_of(url) == "/embeddings"):
            self._unbounded += 1

    def _body(self, body: Mapping[str, Any]) -> int:
        total = 0
        if isinstance(body.get("messages"), list):
            total += 3 + sum(self._message(message) for message in body["messages"])
        for key in ("input", "prompt", "instructions"):
            if isinstance(body.get(key), str):
                total += self._count(body[key])
            elif isinstance(body.get(key), list):
                total += sum(self._message(item) for item in body[key])
        for key in ("tools", "response_format", "text"):
            if key in body:
                total += self._count(orjson.dumps(body[key]).decode())
        return total

    def _message(self, message: Any) -> int:
        if isinstance(message, str):
            return self._count(message)
        if isinstance(message, int):  # the number of a token
            return 1
        if isinstance(message, list):
            return sum(map(self._message, message))
        if not isinstance(message, Mapping):
            return 0
        total = 3
        for key, value in message.items():
            if key == "content" and isinstance(value, list):
                total += sum(self._piece(piece) for piece in value)
            elif isinstance(value, str) and key != "type":
                total += self._count(value) + (key == "name")
            elif value is not None and not isinstance(value, str):
                total += self._count(orjson.dumps(value).decode())
        return total

    def _piece(self, piece: Any) -> int:
        if not isinstance(piece, Mapping):
            return 0
        image = piece.get("image_url")
        if image is None and piece.get("type") not in _IMAGES:
            return self._count(piece["text"]) if isinstance(piece.get("text"), str) else 0
        detail = image.get("detail") if isinstance(image, Mapping) else piece.get("detail")
        url = image.get("url") if isinstance(image, Mapping) else image
        tokens = image_tokens(url if isinstance(url, str) else "", detail, self._model)
        self._images += 1
        self._uncounted += tokens is None
        return tokens or 0


def image_tokens(url: str, detail: str | None, model: str | None) -> int | None:
    """The tokens of an image by the published rules; None for an address, an unknown model, or an unreadable head."""
    if model in TILES and detail == "low":
        return TILES[model][0]
    if not url.startswith("data:") or model not in TILES.keys() | PATCHES.keys():
        return None
    head = url.partition(",")[2][: 1 << 18]
    try:
        size = image_size(base64.b64decode(head[: len(head) // 4 * 4]))
    except ValueError:  # no base64
        return None
    if size is None or 0 in size:
        return None
    return _tiles(*size, *TILES[model]) if model in TILES else math.ceil(_patches(*size) * PATCHES[model or ""])


def _tiles(width: float, height: float, base: int, tile: int) -> int:
    """Fitted into 2,048 × 2,048, then its shorter side down to 768, then cut into tiles of 512."""
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return base + tile * math.ceil(round(width * scale, 6) / 512) * math.ceil(round(height * scale, 6) / 512)


def _patches(width: float, height: float) -> int:
    """Patches of 32 × 32 pixels; an image with too many is shrunk until they are few enough and fit in whole."""
    patches = math.ceil(width / 32) * math.ceil(height / 32)
    if patches <= _MOST_PATCHES:
        return patches
    scale = math.sqrt(32 * 32 * _MOST_PATCHES / (width * height))
    across, down = width * scale / 32, height * scale / 32
    scale *= min(math.floor(across) / across, math.floor(down) / down)
    return math.ceil(round(width * scale / 32, 6)) * math.ceil(round(height * scale / 32, 6))


def tokens_of(line: bytes) -> int:
    """The tokens of one request line, estimated."""
    tally = Tally()
    tally.line(line)
    return tally.tokens.input
