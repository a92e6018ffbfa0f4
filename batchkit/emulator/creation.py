"""The body of a create judged: which fields it may have, and what they may hold. Pure."""

from __future__ import annotations

from typing import Any

from batchkit.emulator.api import Document, Refusal

SHORTEST_EXPIRY_S, LONGEST_EXPIRY_S = 3_600, 2_592_000
"""Azure documents 14 days and accepts less; OpenAI documents an hour."""


def check(body: Document, *, blob_mode: bool) -> None:
    """Refuse a create whose fields are wrong."""
    if not isinstance(body.get("endpoint"), str):
        raise _wrong("endpoint is required.")
    if body.get("completion_window") != "24h":
        raise _wrong("completion_window must be '24h'.")
    file_id, blob, metadata = body.get("input_file_id"), body.get("input_blob"), body.get("metadata")
    if file_id is not None and not isinstance(file_id, str):
        raise _wrong("input_file_id must be a string.")
    if metadata is not None and not _pairs(metadata):
        raise _wrong("metadata: up to 16 pairs of strings, 64 and 512 characters long.")
    if (expiry := body.get("output_expires_after")) is not None and not _expiry(expiry):
        words = f"Value for output_expires_after.seconds must be between {SHORTEST_EXPIRY_S} and {LONGEST_EXPIRY_S}"
        raise _wrong(words)
    if blob_mode and blob is not None:
        _blob(blob, body)
    elif not file_id:
        raise _wrong("input_file_id is required.")


def _blob(blob: Any, body: Document) -> None:
    folder = body.get("output_folder")
    if not isinstance(blob, str) or body.get("input_file_id"):
        raise _wrong("input_blob is a URL and excludes input_file_id.")
    if not isinstance(folder, dict) or not isinstance(folder.get("url"), str):
        raise _wrong("output_folder.url is required with input_blob.")
    if body.get("metadata") is not None:
        raise _wrong("metadata is not supported with input_blob.")


def _pairs(metadata: Any) -> bool:
    return (
        isinstance(metadata, dict)
        and len(metadata) <= 16
        and all(len(key) <= 64 and isinstance(value, str) and len(value) <= 512 for key, value in metadata.items())
    )


def _expiry(expiry: Any) -> bool:
    if not isinstance(expiry, dict) or expiry.get("anchor") != "created_at":
        return False
    seconds = expiry.get("seconds")
    return isinstance(seconds, int) and SHORTEST_EXPIRY_S <= seconds <= LONGEST_EXPIRY_S


def _wrong(words: str) -> Refusal:
    return Refusal(400, "invalidPayload", words)
