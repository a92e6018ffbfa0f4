"""What the emulated model says: an echo that quotes the prompt, and a scripted share of rows that fail.

Everything is drawn from hashes of the row and its file, so the same file gives the same answers, byte for byte but
for ids. Layouts follow Microsoft's samples: no top-level `id`, content-filter annotations, `response` before `error`.
"""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry."
)
_QUOTED = 400
"""Characters of the prompt that an answer quotes."""


@dataclass(frozen=True)
class Written:
    """How many rows went into each result file."""

    completed: int
    failed: int


def write_results(
    source: Path, output: Path, error: Path, *, seed: str, fail_rate: float, share: float, created: int
) -> Written:
    """Answer the first `share` of the input file's rows, in shuffled order; the rest is `batch_cancelled`."""
    completed = failed = 0
    with ExitStack() as stack:
        file, good, bad = (
            stack.enter_context(path.open(mode, 1 << 20))
            for path, mode in ((source, "rb"), (output, "wb"), (error, "wb"))
        )
        starts = array("Q", _starts(file))
        order = array("L", range(len(starts) - 1))
        random.Random(seed).shuffle(order)
        ready = round(len(order) * share)
        for position, index in enumerate(order):
            raw = os.pread(file.fileno(), starts[index + 1] - starts[index], starts[index])
            if not raw.strip():
                continue
            line = orjson.loads(raw)
            ok, result = _result(line, seed, fail_rate, created) if position < ready else _cancelled(line)
            (good if ok else bad).write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE))
            completed, failed = completed + ok, failed + (not ok)
    return Written(completed, failed)


def _starts(file: IO[bytes]) -> Iterator[int]:
    """Where each line begins, and where the last one ends."""
    at = 0
    for line in file:
        yield at
        at += len(line)
    yield at


def _result(line: dict[str, Any], seed: str, fail_rate: float, created: int) -> tuple[bool, dict[str, Any]]:
    custom_id, url, body = line["custom_id"], line["url"], line["body"]
    if _draw(custom_id) < fail_rate / 2:
        status, answer = 400, _failure("content_filter", _FILTERED, "prompt")
    elif _draw(f"{seed}/{custom_id}") < fail_rate / 2:
        status, answer = 429, _failure("429", "Rate limit is exceeded. Please retry after 60 seconds.", None)
    else:
        status, answer = 200, _answer(url, body, custom_id, created)
    response = {"body": answer, "request_id": str(uuid.UUID(bytes=_hash(custom_id)[:16])), "status_code": status}
    return status == 200, {"custom_id": custom_id, "response": response, "error": None}


def _cancelled(line: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    error = {"code": "batch_cancelled", "message": "This request was cancelled before it could be executed."}
    return False, {"custom_id": line["custom_id"], "response": None, "error": error}


def _failure(code: str, message: str, param: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": param, "code": code}}


def _answer(url: str, body: dict[str, Any], custom_id: str, created: int) -> dict[str, Any]:
    prompt = _prompt(body)
    text = f"The emulator read: “{prompt[:_QUOTED]}{'…' if len(prompt) > _QUOTED else ''}”"
    token, model = _hash(custom_id).hex(), body["model"]
    asked, said = max(1, len(prompt) // 4), max(1, len(text) // 4)
    if url.endswith("/responses"):
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"id": f"msg_{token[:24]}", "type": "message", "role": "assistant", "content": [part]}
        usage = {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said}
        return {
            "id": f"resp_{token[:24]}",
            "object": "response",
            "created_at": float(created),
            "status": "completed",
            "model": model,
            "output": [message],
            "usage": usage,
        }
    if url.endswith("/embeddings"):
        vector = {"object": "embedding", "index": 0, "embedding": [b / 255 for b in _hash(prompt)[:8]]}
        usage = {"prompt_tokens": asked, "total_tokens": asked}
        return {"object": "list", "data": [vector], "model": model, "usage": usage}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "logprobs": None,
        "message": {"role": "assistant", "content": text},
        "content_filter_results": _SAFE,
    }
    return {
        "id": f"chatcmpl-{token[:29]}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
        "system_fingerprint": f"fp_{token[:10]}",
        "usage": {"completion_tokens": said, "prompt_tokens": asked, "total_tokens": asked + said},
    }


def _prompt(body: dict[str, Any]) -> str:
    """The text of the last message, wherever this kind of request keeps it."""
    messages = body.get("messages") or body.get("input") or ""
    last = messages[-1] if isinstance(messages, list) and messages else messages
    content = last.get("content", "") if isinstance(last, dict) else last
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(_hash(text)[:8], "big") / (1 << 64)
