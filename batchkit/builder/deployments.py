"""A request line for another deployment: what a target that calls its deployment otherwise needs."""

from __future__ import annotations

import json

from batchkit.config import Target


def rename(line: bytes, deployment: str) -> bytes:
    """The line with `deployment` as its model; one that names it already stays as it is, byte for byte.

    The standard reader is used since it keeps integers of any size.
    """
    document = json.loads(line)
    if document["body"].get("model") == deployment:
        return line
    document["body"]["model"] = deployment
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def elsewhere(deployment: str, target: Target) -> str | None:
    """What becomes of lines that name a deployment which is none of the target's, in words; None where it is one."""
    known = {member.deployment: member.name for member in target.members if member.deployment}
    if not known or deployment in known:
        return None
    names = ", ".join(f"{other!r} ({name})" for other, name in known.items())
    return f"they are sent as {names}" if target.pool else f"they are sent so, and not to the target's own, {names}"
