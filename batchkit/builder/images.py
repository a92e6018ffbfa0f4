"""Images for a prompt: an address as it is, a file as a data URL; and how large an image is, from its first bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchkit.builder.rows import Row
from batchkit.builder.template import OnMissing, SkipRow, is_null
from batchkit.disk import reading
from batchkit.errors import InputError

_MAGIC = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
_NO_SIZE = frozenset({0x01, 0xC4, 0xC8, 0xCC, *range(0xD0, 0xDA)})
"""JPEG markers between 0xC0 and 0xCF that are no frame header, and those without a length."""


@dataclass(frozen=True)
class Images:
    """The images that a column names, one or a list: `https://` addresses, `data:` URLs, or files, looked for from
    `base`."""

    column: str
    base: Path = Path()
    wanted_detail: str | None = None
    on_missing: OnMissing = OnMissing.ERROR

    @property
    def detail(self) -> dict[str, str]:
        return {"detail": self.wanted_detail} if self.wanted_detail else {}

    def of(self, row: Row) -> list[str]:
        """The addresses of a row's images. Raises InputError for a file that is not there or no image."""
        value = row.get(self.column)
        if is_null(value) or value == "":
            if self.on_missing is OnMissing.EMPTY:
                return []
            if self.on_missing is OnMissing.SKIP:
                raise SkipRow
            raise InputError(f"column {self.column!r} names no image", hint="--on-missing skip or empty allows it")
        names = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return [self._address(str(name)) for name in names]

    def _address(self, name: str) -> str:
        if name.startswith(("https://", "http://", "data:")):
            return name
        path = self.base / name
        with reading(path):
            data = path.read_bytes()
        kind = image_kind(data)
        if kind is None:
            raise InputError(f"{path} is no PNG, JPEG, GIF or WebP image")
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image_kind(data: bytes) -> str | None:
    """png, jpeg, gif or webp, by the first bytes: the kinds that the service takes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, or None where the head does not tell."""
    kind = image_kind(data)
    try:
        if kind == "png":
            return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        if kind == "gif":
            return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        if kind == "webp":
            return _webp_size(data)
        return _jpeg_size(data) if kind == "jpeg" else None
    except IndexError:
        return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(data):
        marker = data[at + 1]
        if data[at] != 0xFF:
            return None
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        elif marker in _NO_SIZE and marker not in (0xC4, 0xC8, 0xCC):
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
