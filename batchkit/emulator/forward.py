"""Real answers: every line of a batch is sent to an OpenAI-compatible server, such as Ollama or vLLM.

Answers are kept as they come, so a killed emulator asks again only for those it did not get.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import httpx
import orjson

from batchkit.emulator.api import Document
from batchkit.emulator.replies import Model, Reply, refusal
from batchkit.emulator.settings import Deployment

_LINE = orjson.OPT_APPEND_NEWLINE
BUSY = frozenset({429, 502, 503, 504})
"""Statuses of a server that may answer the same line a moment later."""
PATIENCE_S = (1.0, 4.0, 15.0)
"""How long a line waits for a busy server before each further try, in real seconds."""
LONGEST_S = 60.0
"""The most that a server's own Retry-After may ask for."""


class Forward:
    """A server that takes `url` + `/chat/completions` and its like, asked `concurrency` lines at a time.

    `key`, where given, is sent as a bearer token. A deployment's MODEL takes the place of its name in the bodies. A
    server that is busy is asked again after each of `patience_s`; a row that it then still refuses has failed.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 600.0,
        patience_s: Sequence[float] = PATIENCE_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._concurrency, self._timeout_s, self._patience_s = concurrency, timeout_s, tuple(patience_s)

    async def ask(self, source: Path, kept: Path, deployment: Deployment | None, go_on: Callable[[int], bool]) -> None:
        """Ask for every line of `source` that has no answer in `kept` yet; `go_on` is told how many there are by
        now, and may end it by saying no."""
        known = set(_index(kept))
        lines = _lines(source, known)
        limits = httpx.Limits(max_connections=self._concurrency)
        async with httpx.AsyncClient(headers=self._headers, limits=limits, timeout=self._timeout_s) as http:
            with FileIO(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:

                async def work() -> None:
                    for line in lines:
                        if not go_on(len(known)):
                            return
                        reply = await self._one(http, line, deployment)
                        answer = {"custom_id": line["custom_id"], "status": reply.status, "body": reply.body}
                        file.write(orjson.dumps(answer, option=_LINE))
                        known.add(line["custom_id"])

                await asyncio.gather(*(work() for _ in range(self._concurrency)))
        go_on(len(known))

    async def _one(self, http: httpx.AsyncClient, line: Document, deployment: Deployment | None) -> Reply:
        body = line["body"] | ({"model": deployment.model} if deployment else {})
        url = self._url + str(line["url"]).removeprefix("/v1")
        try:
            answer = await self._post(http, url, orjson.dumps(body))
        except httpx.HTTPError as error:
            return refusal(503, "serviceUnavailable", f"{self._url}: {type(error).__name__} {error}".strip())
        try:
            return Reply(answer.status_code, orjson.loads(answer.content))
        except orjson.JSONDecodeError:
            status = 502 if answer.status_code == 200 else answer.status_code
            return refusal(status, str(status), f"no JSON but: {answer.text[:200]}")

    async def _post(self, http: httpx.AsyncClient, url: str, content: bytes) -> httpx.Response:
        """The server's answer, once it is not busy or patience is over."""
        headers = {"content-type": "application/json"}
        answer = await http.post(url, content=content, headers=headers)
        for wait_s in self._patience_s:
            if answer.status_code not in BUSY:
                break
            asked = answer.headers.get("retry-after", "")
            await asyncio.sleep(min(LONGEST_S, float(asked)) if asked.isdecimal() else wait_s)
            answer = await http.post(url, content=content, headers=headers)
        return answer

    def model(self, kept: Path) -> Model:
        """The model whose answers are in `kept`; it has none for lines that were never asked."""
        index = _index(kept)

        def answer(line: Document) -> Reply | None:
            place = index.get(line["custom_id"])
            if place is None:
                return None
            with kept.open("rb") as file:
                file.seek(place[0])
                found: dict[str, Any] = orjson.loads(file.read(place[1]))
            return Reply(found["status"], found["body"])

        return Model(answer)


def _index(kept: Path) -> dict[str, tuple[int, int]]:
    """Where each answer stands; a line that a kill cut short is cut off."""
    index: dict[str, tuple[int, int]] = {}
    at = 0
    if not kept.exists():
        return index
    with kept.open("rb+") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                file.truncate(at)
                break
            index[orjson.loads(raw)["custom_id"]] = at, len(raw)
            at += len(raw)
    return index


def _lines(source: Path, known: set[str]) -> Any:
    with source.open("rb") as file:
        for raw in file:
            if raw.strip() and (line := orjson.loads(raw))["custom_id"] not in known:
                yield line
