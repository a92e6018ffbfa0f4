"""A request line for another deployment: what a target that calls its deployment otherwise needs."""

from __future__ import annotations

import json


def rename(line: bytes, deployment: str) -> bytes:
    """The line with `deployment` as its model; one that names it already stays as it is, byte for byte.

    The standard reader is used since it keeps integers of any size.
    """
    document = json.loads(line)
    if document["body"].get("model") == deployment:
        return line
    document["body"]["model"] = deployment
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
