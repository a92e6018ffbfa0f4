"""Jobs whose results are here, made from a seed: request lines, and shuffled results, one in a hundred of them bad."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import orjson

from batchkit.disk import Workdir
from batchkit.model import CHAT, Batch, Counts, Job, Part, State

_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
_LINE = orjson.OPT_APPEND_NEWLINE
PER_PART = 100_000


def job(root: Path, rows: int, *, answer: int = 400, prompt: int = 1800) -> Path:
    """The directory of a job of so many rows; made once. `answer` and `prompt` are characters."""
    home = root / f"collected-{rows}-{answer}-{prompt}"
    if (home / "job.pickle").exists():
        return home
    draw, workdir = random.Random(7), Workdir(home)
    workdir.job("bench").mkdir(parents=True, exist_ok=True)
    words = [f"{draw.getrandbits(32):x}" for _ in range(5000)]
    starts = range(0, rows, PER_PART)
    parts = [
        _part(workdir, draw, words, number, range(start, min(rows, start + PER_PART)), answer, prompt)
        for number, start in enumerate(starts)
    ]
    made = Job("bench", "bench", "0", "s", "t", CHAT, "gpt-4o-batch", 0.0, parts=tuple(parts))
    (home / "job.pickle").write_bytes(pickle.dumps(made))
    return home


def load(home: str) -> tuple[Job, Workdir]:
    """The job of such a directory."""
    made: Job = pickle.loads((Path(home) / "job.pickle").read_bytes())
    return made, Workdir(Path(home))


def _part(
    workdir: Workdir, draw: random.Random, words: list[str], number: int, rows: range, answer: int, prompt: int
) -> Part:
    part = Part(f"p{number}", "bench", 0, number, State.FETCHED, len(rows), 0, "0")
    with workdir.lines(part).open("wb", 1 << 20) as file:
        for row in rows:
            body = {"messages": [{"role": "user", "content": _text(draw, words, prompt)}], "model": "gpt-4o-batch"}
            line = {"custom_id": f"row-{row:08d}", "method": "POST", "url": CHAT, "body": body}
            file.write(orjson.dumps(line, option=_LINE))
    order, bad = list(rows), 0
    draw.shuffle(order)
    with workdir.output(part).open("wb", 1 << 20) as good_file, workdir.error(part).open("wb", 1 << 20) as bad_file:
        for row in order:
            failed = draw.random() < 0.01
            bad += failed
            said = _failure() if failed else _answer(_text(draw, words, answer))
            response = {"body": said, "request_id": "660b7424-b648-4b67", "status_code": 429 if failed else 200}
            result = {"custom_id": f"row-{row:08d}", "response": response, "error": None}
            (bad_file if failed else good_file).write(orjson.dumps(result, option=_LINE))
    counts = Counts(len(rows), len(rows) - bad, bad)
    batch = Batch(f"batch_{number}", "completed", output_file_id="o", error_file_id="e", counts=counts)
    size = workdir.lines(part).stat().st_size
    return Part(f"p{number}", "bench", 0, number, State.FETCHED, len(rows), size, "0", batches=(batch,))


def _text(draw: random.Random, words: list[str], size: int) -> str:
    return " ".join(draw.choices(words, k=size // 9))


def _answer(text: str) -> dict[str, object]:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "logprobs": None,
        "message": {"role": "assistant", "content": text},
        "content_filter_results": _SAFE,
    }
    return {
        "id": "chatcmpl-9rFGJ9dh08Tw9WRKqaEHwrkqRa4DJ",
        "object": "chat.completion",
        "created": 1722477079,
        "model": "gpt-4o-2024-05-13",
        "choices": [choice],
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _SAFE}],
        "system_fingerprint": "fp_a9bfe9d51d",
        "usage": {"completion_tokens": 24, "prompt_tokens": 27, "total_tokens": 51},
    }


def _failure() -> dict[str, object]:
    return {"error": {"message": "Rate limit is exceeded.", "type": None, "param": None, "code": "429"}}
