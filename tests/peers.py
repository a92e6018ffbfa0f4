"""Released tools and batchkit before the same troubled service: `python -m tests.peers [NAME…] [--dir DIR]`.

Each tool is installed from the package index, in the version named here, into an environment of its own, and runs ten
rows as its own documentation shows; batchkit runs here, by the service's clock. The service is our emulator; what it
did is counted there. A tool that cannot be installed or run is left out of the table. By hand only: it needs a network,
and takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import orjson

from batchkit import Client
from batchkit.config import make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.emulator import Emulator

ROWS = 10
SPEED = 7200.0
PATIENCE_S = 45.0
"""A day here takes twelve seconds, a batch less than one; a tool that waits so long for its batch waits for ever."""
START_S = 300.0
"""A tool that has begun none by then says nothing of what is asked here."""

SCENARIOS: Mapping[str, tuple[str, dict[str, Any], list[str]]] = {
    "some rows fail": ("some of the ten rows fail", {"fail_rate": 0.6}, []),
    "all rows fail": ("every row fails, so there is no output file", {}, ["fail_all,400"]),
    "expires": ("half of the rows are done when the batch expires", {}, ["expire,0.5"]),
    "Capitals": ("statuses come capitalised", {}, ["status,recased"]),
    "503 × 4": ("four looks at the batch are answered 503", {}, ["error,503,call=get_batch,times=4"]),
    "lost answer": ("the batch is created, and the answer is 500", {}, ["lose_answer,how=500,nth=1"]),
}
_OPENAI = """
import json, os, time
from openai import OpenAI
client = OpenAI(base_url=os.environ["BASE"], api_key=os.environ["KEY"])
lines = [json.loads(line) for line in open("in.jsonl")]
def said(ok, why): print("RESULT", json.dumps({"ok": ok, "why": why}))
"""
PEERS: Mapping[str, tuple[list[str], str]] = {
    "openai": (
        ["openai==3.54.0"],
        _OPENAI
        + """
file = client.files.create(file=open("in.jsonl", "rb"), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
status = "validating"
while status not in ("completed", "failed", "canceled"):
    time.sleep(0.3)
    batch = client.batches.retrieve(batch.id)
    status = batch.status
found = batch.output_file_id or batch.error_file_id
rows = [json.loads(line) for line in client.files.content(found).text.strip().split("\\n")] if found else []
good = [row for row in rows if row["response"] and row["response"]["status_code"] == 200]
said(len(good), len(rows) - len(good))
""",
    ),
    "batch-openai": (
        ["batch-openai==0.4.0"],
        _OPENAI
        + """
from batch_openai import BatchRequestBuilder
builder = BatchRequestBuilder()
for line in lines:
    builder.add(line["body"]["messages"], custom_id=line["custom_id"], model=line["body"]["model"])
result = builder.submit(client).wait(poll_interval=0.3)
said(len(result.succeeded), sum(bool(item.error) for item in result.failed))
""",
    ),
    "batchkit-ai": (
        ["batchkit-ai==0.1.1"],
        _OPENAI
        + """
from batchkit import BatchClient
ask = lambda line: {"input": line["body"]["messages"][0]["content"]}
name = lambda line: line["custom_id"]
model = lines[0]["body"]["model"]
job = BatchClient(client).map(name="peer", items=lines, model=model, custom_id=name, build_request=ask)
rows = job.wait(poll_interval=0.3).rows
said(sum(row.ok for row in rows), sum(not row.ok and row.error is not None for row in rows))
""",
    ),
    "batchlane": (
        ["batchlane==0.2.0"],
        _OPENAI
        + """
from batchlane import BatchLine, run
from batchlane.adapters import openai_shaped
object.__setattr__(openai_shaped.ROWS["openai"], "base_url", os.environ["BASE"])  # it has no setting for this
os.environ["OPENAI_API_KEY"] = os.environ["KEY"]
model = "openai/" + lines[0]["body"]["model"]
asked = [BatchLine(custom_id=line["custom_id"], model=model, messages=line["body"]["messages"]) for line in lines]
rows = [result for _, result in run(asked, checkpoint="checkpoint.jsonl", poll_interval=0.3)]
said(sum(row.ok for row in rows), sum(not row.ok and bool(row.error) for row in rows))
""",
    ),
    "batchwizard": (
        ["batchwizard==0.5.0"],
        """
import glob, json, os, subprocess, sys
env = {**os.environ, "HOME": os.getcwd(), "OPENAI_BASE_URL": os.environ["BASE"], "OPENAI_API_KEY": os.environ["KEY"]}
command = os.path.join(os.path.dirname(sys.executable), "batchwizard")
words = "process in.jsonl --output-directory out --check-interval 0".split()
subprocess.run([command, *words], env=env)
rows = [json.loads(line) for path in glob.glob("out/**/*.jsonl", recursive=True) for line in open(path)]
good = [row for row in rows if row.get("response") and row["response"]["status_code"] == 200]
print("RESULT", json.dumps({"ok": len(good), "why": len(rows) - len(good)}))
""",
    ),
    "langbatch": (
        ["langbatch==0.1.2"],
        _OPENAI
        + """
from langbatch.openai import OpenAIChatCompletionBatch
batch = OpenAIChatCompletionBatch("in.jsonl", client=client)
batch.start()
while batch.get_status() not in ("completed", "failed", "cancelled", "expired"):
    time.sleep(0.3)
good, bad = batch.get_results()
said(len(good or []), sum(bool(row.get("error")) for row in bad or []))
""",
    ),
    "openai-batch-helper": (
        ["openai-batch-helper==0.1.1"],
        _OPENAI
        + """
from openai_batch_helper import BatchHelper
job = BatchHelper(client, endpoint="/v1/chat/completions").init_job()
job.add_lines(lines).submit_file().submit_batch_job().wait_for_completion(poll_seconds=0.3)
read = lambda path: [json.loads(line) for line in open(path)] if path else []
why = len(read(job.download_errors("errors.jsonl")))
ok = 0
try: ok = len(read(job.download_result("results.jsonl")))
finally: said(ok, why)
""",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *PEERS], help="which; all without a name")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "batchkit-peers")
    asked = parser.parse_args()
    asked.dir.mkdir(parents=True, exist_ok=True)
    tools: dict[str, Callable[[Emulator, Path], str]] = {"batchkit": _ours}
    for name in asked.names or PEERS:
        requirements, code = PEERS[name]
        python = _installed(asked.dir / name.replace(" ", "-").replace(",", ""), requirements)
        if python is None:
            print(f"{name}: cannot be installed, and is left out", file=sys.stderr)
            continue
        version = requirements[0].partition("==")[2]
        tools[f"{name} {version}"] = lambda service, home, python=python, code=code: _peer(service, home, python, code)  # type: ignore[misc]
    print(f"{date.today()}, Python {sys.version.split()[0]}; {ROWS} rows; {PATIENCE_S:.0f} s of patience\n")
    print(f"| | {' | '.join(SCENARIOS)} |\n|---|{'---|' * len(SCENARIOS)}", flush=True)
    for name, run in tools.items():
        print(f"| {name} | {' | '.join(_cell(run, scenario) for scenario in SCENARIOS)} |", flush=True)
    return 0


def _cell(run: Callable[[Emulator, Path], str], scenario: str) -> str:
    """How a tool fared: rows answered + rows whose failure is explained, and how many batches there are, if not one."""
    _, options, faults = SCENARIOS[scenario]
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        (home / "in.jsonl").write_bytes(b"".join(orjson.dumps(_line(number)) + b"\n" for number in range(ROWS)))
        options = {"fail_rate": 0.0, "speed": SPEED} | options
        with Emulator(home / "service", key="key-of-the-table", faults=faults, **options) as service:
            words = run(service, home)
            batches = _batches(service)
    return words if len(batches) == 1 else f"{words}, **{len(batches)} batches**"


def _batches(service: Emulator) -> list[Any]:
    found: list[Any] = httpx.get(f"{service.url}/openai/v1/batches", headers={"api-key": service.key}).json()["data"]
    return found


def _line(number: int) -> dict[str, Any]:
    body = {"model": "gpt-4o-batch", "messages": [{"role": "user", "content": f"hello {number}"}]}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def _ours(service: Emulator, home: Path) -> str:
    target = make_target("table", service.url, Credential(Secret(service.key), bearer=False), dialect="v1")
    target = replace(target, poll_interval_s=300.0)
    with Client(target, ledger=home / "ledger.sqlite3", clock=service.clock) as client:
        report = client.run(home / "in.jsonl", name="table").report
    return f"{report.ok} + {sum(report.errors.values())}"


def _peer(service: Emulator, home: Path, python: Path, code: str) -> str:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "BASE": f"{service.url}/v1", "KEY": service.key}
    began = time.monotonic()
    with (home / "said").open("w+") as said, (home / "talk").open("w+") as talk:
        process = subprocess.Popen([python, "-c", code], cwd=home, env=env, stdout=said, stderr=talk)
        while process.poll() is None and time.monotonic() - began < START_S:
            time.sleep(0.5)
            if not _batches(service):
                continue
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            break
        if process.poll() is None:
            process.kill()
            process.wait()
            return "never ends" if _batches(service) else "did not begin"
    out, err = (home / "said").read_text(), (home / "talk").read_text()
    found = [line for line in out.splitlines() if line.startswith("RESULT ")]
    if found:
        result = json.loads(found[-1].removeprefix("RESULT "))
        return f"{result['ok']} + {result['why']}"
    last = (err.strip().splitlines() or ["?"])[-1]
    return f"stops: {last.split(':')[0].split('.')[-1][:40]}"


def _installed(place: Path, requirements: list[str]) -> Path | None:
    """The Python of an environment that has the requirements; None where they cannot be installed."""
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "-q", *requirements], capture_output=True, check=False)
    return python if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
