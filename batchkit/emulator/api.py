"""Which API a request speaks: the dialect, the api-version, and what that version has. Pure.

Microsoft's lifecycle guide and API descriptions say which version has what; where they are silent the newest is meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

FIRST = "2024-07-01"
"""The first dated version with batches."""
FILTERS = "2024-10-01"
FILE_EXPIRY = "2025-03-01"
NEWEST = "2025-04-01"
_GENERAL = frozenset({"2024-10-21"})
"""Dated versions that are no preview; they have batches without filters, expiry or pages of files."""


class Refusal(Exception):
    """A request refused in the service's words; the app wraps it in the dialect's envelope."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Api:
    """One request's reading of the service. `dialect` is dated, v1 or openai; `version` the date of a dated one."""

    dialect: str
    version: str = ""
    preview: bool = False

    @property
    def dated(self) -> bool:
        return self.dialect == "dated"

    @property
    def created(self) -> int:
        """The status of a batch that was made."""
        return 200 if self.dialect == "openai" or self.version in _GENERAL else 201

    @property
    def uploaded(self) -> int:
        """The status of a file that was received."""
        return 201 if self.dated else 200

    @property
    def filters(self) -> bool:
        """Whether lists of batches take `$filter` and `$orderby`."""
        return self.dated and self._since(FILTERS)

    @property
    def quota_headers(self) -> bool:
        """Whether the answer to a create tells the deployment's enqueued tokens."""
        return self.dated and self._since(FILTERS)

    @property
    def file_expiry(self) -> bool:
        """Whether uploads may say when they expire; where not, the wish is ignored in silence."""
        return self._since(FILE_EXPIRY)

    @property
    def newest(self) -> bool:
        """Pages of files, expiry of outputs, blobs."""
        return self._since(NEWEST)

    @property
    def shortest_expiry_s(self) -> int:
        return 3_600 if self.dialect == "openai" else 259_200

    @property
    def default_expiry_s(self) -> int | None:
        """Files of OpenAI go after 30 days by themselves, those of Azure stay."""
        return 2_592_000 if self.dialect == "openai" else None

    def _since(self, date: str) -> bool:
        return not self.dated or (self.preview and self.version >= date)


def read(path: str, version: str) -> Api:
    """The API of a request. Raises Refusal for an api-version that the service would not know."""
    if path.startswith("/v1/"):
        return Api("openai")
    if path.startswith("/openai/v1/"):
        if version not in ("", "v1", "preview"):
            raise Refusal(400, "invalidPayload", f"API version not supported: '{version}'. v1 takes none.")
        return Api("v1")
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(-preview)?", version)
    if not match or match[1] < FIRST or not (match[2] or match[1] in _GENERAL or match[1] > NEWEST):
        raise Refusal(404, "404", "Resource not found")
    return Api("dated", match[1], preview=bool(match[2]) or match[1] > NEWEST)


def envelope(dated: bool, status: int, code: str, message: str) -> Document:
    """An error as the dialect wraps it."""
    error: Document = {"code": code, "message": message}
    if not dated:
        error |= {"param": None, "type": "invalid_request_error" if status < 500 else "server_error"}
    return {"error": error}


def page(found: list[str], query: Mapping[str, str], *, default: int, most: int) -> tuple[list[str], bool]:
    """The ids of one page, by `after` and `limit`, and whether there are more."""
    raw = query.get("limit", str(default))
    if not re.fullmatch(r"\d{1,9}", raw, re.ASCII) or not 1 <= int(raw) <= most:
        raise Refusal(400, "invalidPayload", f"limit must be between 1 and {most}.")
    first = 0
    if after := query.get("after"):
        try:
            first = found.index(after) + 1
        except ValueError:
            raise Refusal(400, "invalidPayload", f"after: '{after}' was not found.") from None
    last = first + int(raw)
    return found[first:last], len(found) > last
