"""What the emulated model says to one request line, and how the service wraps it. Pure.

An echo by default: it quotes the prompt, or satisfies the schema that the line asks for, and a scripted share of rows
fails. Everything is drawn from hashes of the row and its file, so the same file gives the same answers. Layouts follow
Microsoft's samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from batchkit.emulator.api import Document
from batchkit.emulator.sample import sample

_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_SAFE_PROMPT = {"jailbreak": {"filtered": False, "detected": False}, **_SAFE}
_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
_QUOTED = 400
"""Characters of the prompt that an answer quotes."""
_DIMENSIONS = 8


@dataclass(frozen=True)
class Reply:
    """What one line got: an HTTP status and a body."""

    status: int
    body: Any


Answer = Callable[[Document], Any]
"""What the model says to a request line: a text, a whole response body (a dict), a Reply, or None for a line that was
never asked."""


@dataclass(frozen=True)
class Model:
    """The emulated model: `answer` (an echo unless given), and the share of rows that fail."""

    answer: Answer | None = None
    fail_rate: float = 0.0

    def reply(self, line: Document, seed: str, created: int) -> Reply | None:
        """The reply to a line of the file that `seed` stands for. A failing answer is a row that failed with 500."""
        failure = self._failure(line["custom_id"], seed)
        if failure is not None:
            return failure
        try:
            said = (self.answer or echo)(line)
            if said is not None and not isinstance(said, Reply):
                said = Reply(200, said if isinstance(said, dict) else body(line, str(said), created))
            if self.answer and said:
                orjson.dumps(said.body)
        except Exception as error:  # noqa: BLE001  (what the user's function raises, or a senseless body, is a failed row)
            words = f"{type(error).__name__}: {error}"
            return (
                refusal(500, "internalFailure", words) if self.answer else refusal(400, "invalid_request_error", words)
            )
        return said

    def _failure(self, custom_id: str, seed: str) -> Reply | None:
        """Half of the failures stay with a row whatever file it comes in; the others pass."""
        if draw(custom_id) < self.fail_rate / 2:
            return filtered()
        drawn = draw(f"{seed}/{custom_id}")
        if drawn < self.fail_rate / 8:
            return refusal(500, "internalFailure", "The server had an error while processing your request.")
        if drawn < self.fail_rate / 2:
            return refusal(429, "429", "Rate limit is exceeded. Please retry after 60 seconds.")
        return None


def refusal(status: int, code: str, message: str, param: str | None = None) -> Reply:
    """A row that failed, in the service's envelope."""
    return Reply(status, {"error": {"message": message, "type": None, "param": param, "code": code}})


def filtered() -> Reply:
    """A row whose prompt hit the content filter, as captured from the service."""
    hit = _SAFE_PROMPT | {"self_harm": {"filtered": True, "severity": "medium"}}
    found = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": hit}
    reply = refusal(400, "content_filter", _FILTERED, "prompt")
    reply.body["error"] |= {"status": 400, "innererror": found}
    return reply


def echo(line: Document) -> str:
    """A text that quotes the last message, or JSON of the schema that the line asks for."""
    asked, text = line["body"], prompt(line["body"])
    format_ = asked.get("response_format") or (asked.get("text") or {}).get("format") or {}
    if format_.get("type") == "json_object":
        return orjson.dumps({"echo": text[:_QUOTED]}).decode()
    if format_.get("type") == "json_schema":
        schema = (format_.get("json_schema") or format_).get("schema")
        return orjson.dumps(sample(schema, line["custom_id"], text[:_QUOTED])).decode()
    return f"The emulator read: “{text[:_QUOTED]}{'…' if len(text) > _QUOTED else ''}”"


def body(line: Document, text: str, created: int) -> Document:
    """A whole response around `text`, of the kind that the line's url takes."""
    url, asked = line["url"], line["body"]
    question, token = prompt(asked), digest(line["custom_id"]).hex()
    model, tokens_in, tokens_out = asked["model"], max(1, len(question) // 4), max(1, len(text) // 4)
    if url.endswith("/responses"):
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "status": "completed", "role": "assistant", "content": [part]}
        return {
            "id": f"resp_{token[:24]}",
            "object": "response",
            "created_at": float(created),
            "status": "completed",
            "model": model,
            "output": [{"id": f"msg_{token[:24]}", **message}],
            "content_filters": None,
            "store": True,
            "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
        }
    if url.endswith("/embeddings"):
        texts = asked.get("input")
        texts = texts if isinstance(texts, list) and texts and isinstance(texts[0], str) else [question]
        size = asked.get("dimensions")
        size = size if isinstance(size, int) and 0 < size <= 4096 else _DIMENSIONS
        data = [{"object": "embedding", "index": i, "embedding": _vector(t, size)} for i, t in enumerate(texts)]
        usage = {"prompt_tokens": tokens_in, "total_tokens": tokens_in}
        return {"object": "list", "data": data, "model": model, "usage": usage}
    choice: Document = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if url.endswith("/chat/completions"):
        choice |= {"message": {"role": "assistant", "content": text}, "content_filter_results": _SAFE}
    else:
        choice |= {"text": text}
    usage = {"completion_tokens": tokens_out, "prompt_tokens": tokens_in, "total_tokens": tokens_in + tokens_out}
    return {
        "id": f"chatcmpl-{token[:29]}",
        "object": "chat.completion" if url.endswith("/chat/completions") else "text_completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE_PROMPT}],
        "system_fingerprint": f"fp_{token[:10]}",
        "usage": usage,
    }


def prompt(asked: Document) -> str:
    """The text of the last message, wherever this kind of request keeps it."""
    messages = asked.get("messages") or asked.get("input") or asked.get("prompt") or ""
    last = messages[-1] if isinstance(messages, list) and messages else messages
    content = last.get("content", "") if isinstance(last, dict) else last
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def draw(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(digest(text)[:8], "big") / (1 << 64)


def _vector(text: str, size: int) -> list[float]:
    seed = digest(text)
    return [seed[index % len(seed)] / 255 for index in range(size)]
