"""Azure's batch service as a state machine over a clock, kept in a directory.

Nothing ticks: what a file or batch looks like follows from its document and the time, so a killed emulator goes on
where it was. Judging an input file and writing results is work; it happens in a worker thread the first time anybody
looks at a batch that should have come so far, and until it is done the batch stays where it is.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batchkit.clock import Clock
from batchkit.emulator import blobs, creation, quota, validate
from batchkit.emulator.api import Document, Refusal
from batchkit.emulator.faults import Fault
from batchkit.emulator.files import Files
from batchkit.emulator.forward import Forward
from batchkit.emulator.replies import Model
from batchkit.emulator.results import Order, write_results
from batchkit.emulator.settings import Deployment, Limits, Pace
from batchkit.emulator.store import Store
from batchkit.emulator.timeline import TERMINAL, Timeline, show

_QUIRKS = frozenset(
    "hide_for forget_metadata expire fail_all status iso_times null_counts late_output no_errors drop_rows double_rows"
    " invent_rows".split()
)
"""Faults that a batch keeps for life."""
LOOK_S = 1.0
"""How long a look waits for work that has just begun, so that small batches are never seen to lag."""


class Service:
    """Batches of one emulated resource; every method answers with the service's JSON documents."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        model: Model,
        *,
        deployments: Mapping[str, Deployment],
        limits: Limits,
        pace: Pace,
        forward: Forward | None = None,
        late_quota: bool = False,
    ) -> None:
        self.limits = limits
        self.files = Files(directory / "files", clock, limits, pace)
        self.blobs = blobs.Blobs(directory / "blobs")
        self._batches = Store(directory / "batches")
        self._clock, self._model, self._pace, self._forward = clock, model, pace, forward
        self._deployments, self._late_quota = deployments, late_quota
        self._working: dict[str, asyncio.Task[None]] = {}
        self._rows_done: dict[str, int] = {}
        self._enqueued = quota.Enqueued()
        self._swept_at = 0.0
        for doc in self._batches.values():
            if doc["deployment"] and not self._timeline(doc).over:
                self._enqueued.add(doc["id"], doc["deployment"], doc["tokens"])

    # calls

    def create(
        self, body: Document, struck: Mapping[str, Fault], *, blob_mode: bool
    ) -> tuple[Document, dict[str, str]]:
        """The new batch, and the headers that tell its deployment's enqueued tokens."""
        creation.check(body, blob_mode=blob_mode)
        file_id, blob = body.get("input_file_id") or None, body.get("input_blob") if blob_mode else None
        if file_id is not None and self.files.get(file_id)["status"] != "processed":
            raise Refusal(400, "unexpectedEntityState", f"The file '{file_id}' is not processed yet.")
        source = self.files.path(file_id) if file_id else self.blobs.path(str(blob))
        signed = blobs.signature(source) if source else None
        doc: Document = {
            "id": f"batch_{uuid.uuid4()}",
            "endpoint": body["endpoint"],
            "input_file_id": file_id,
            "input_blob": blob,
            "output_folder": (body.get("output_folder") or {}).get("url") if blob_mode else None,
            "signature": signed,
            "metadata": body.get("metadata"),
            "created_at": int(self._clock.now()),
            "output_expires_s": (body.get("output_expires_after") or {}).get("seconds"),
            "deployment": validate.first_deployment(source) if source and signed else None,
            "tokens": quota.estimate(signed[0]) if signed else 0,
            "quirks": {kind: fault.value for kind, fault in struck.items() if kind in _QUIRKS},
            "summary": None,
            "worked_at": None if self._forward else self._clock.now(),
            "cancel_at": None,
            "result": None,
        }
        headers = self._enqueue(doc, struck.get("quota"))
        self._batches.save(doc)
        return show(doc, self._pace, self._clock.now()) | {
            "endpoint": "",
            "output_file_id": "",
            "error_file_id": "",
        }, headers

    async def get(self, batch_id: str) -> Document:
        doc = self._batches.get(batch_id)
        if doc is None:
            raise Refusal(404, "notFound", f"The batch '{batch_id}' was not found.")
        await self._catch_up([doc])
        return self._show(doc)

    async def listed(
        self, cut: Callable[[list[str]], list[str]], keep: Callable[[Document], bool] | None, *, oldest_first: bool
    ) -> list[Document]:
        """Batches for which `keep` holds, newest first unless told; `cut` takes the page wanted from their ids."""
        now = self._clock.now()
        found = [doc for doc in self._batches.values() if now >= doc["created_at"] + doc["quirks"].get("hide_for", 0)]
        if keep is not None:
            await self._catch_up(found)
            found = [doc for doc in found if keep(self._show(doc))]
        wanted = [self._batches[batch_id] for batch_id in cut([d["id"] for d in found][:: 1 if oldest_first else -1])]
        await self._catch_up(wanted)
        return [self._show(doc) for doc in wanted]

    def all(self) -> list[Document]:
        """Every batch as it stands, newest first, hidden ones too."""
        return [self._show(doc) for doc in reversed(list(self._batches.values()))]

    async def cancel(self, batch_id: str) -> Document:
        status = (await self.get(batch_id))["status"]
        doc = self._batches[batch_id]
        real = self._timeline(doc).status
        if real in TERMINAL:
            raise Refusal(409, "conflict", f"The batch is {status} and cannot be cancelled.")
        if real != "cancelling" and doc["result"] is None and not (real == "finalizing" and batch_id in self._working):
            doc["cancel_at"] = int(self._clock.now())
            self._batches.save(doc)
        return await self.get(batch_id)

    def delete_file(self, file_id: str) -> Document:
        in_use = any(doc["input_file_id"] == file_id and doc["result"] is None for doc in self._batches.values())
        return self.files.delete(file_id, keep_bytes=in_use)

    # quota

    def _enqueue(self, doc: Document, fault: Fault | None) -> dict[str, str]:
        """Count a new batch's tokens, or refuse them: at once as a Refusal, or later by making it fail validation."""
        if doc["deployment"] is None:
            return {}
        deployment = self._deployments.get(doc["deployment"]) or Deployment(doc["deployment"], doc["deployment"])
        self._release_ended()
        held = self._enqueued.sum(deployment.name)
        if fault or held + doc["tokens"] > deployment.enqueued_limit:
            words = quota.refused(deployment)
            if not (fault.how == "late" if fault else self._late_quota):
                raise Refusal(400, "token_limit_exceeded", words)
            summary = validate.Summary(deployment=deployment.name)
            summary.blame("token_limit_exceeded", words)
            doc["summary"] = summary.document()
        else:
            self._enqueued.add(doc["id"], deployment.name, doc["tokens"])
        return {
            "deployment-enqueued-tokens": str(self._enqueued.sum(deployment.name)),
            "deployment-maximum-enqueued-tokens": str(deployment.enqueued_limit),
        }

    def _release_ended(self) -> None:
        if self._clock.now() < self._swept_at + 1.0:
            return
        self._swept_at = self._clock.now()
        for batch_id in self._enqueued.holders():
            if self._timeline(self._batches[batch_id]).over:
                self._enqueued.release(batch_id)

    # work

    async def _catch_up(self, docs: list[Document]) -> None:
        """Begin the work that is due for these batches and wait a moment for it."""
        tasks = set()
        for doc in docs:
            if (task := self._working.get(doc["id"])) is None and (work := self._due(doc)):
                task = self._working[doc["id"]] = asyncio.create_task(work(doc))
            if task is not None:
                tasks.add(task)
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=LOOK_S)
        for doc in docs:
            task = self._working.get(doc["id"])
            if task and task.done():
                del self._working[doc["id"]]
                task.result()
        if any(task.done() for task in tasks):
            await self._catch_up(docs)

    def _due(self, doc: Document) -> Callable[[Document], Any] | None:
        if doc["summary"] is None:
            return self._inspect
        status = self._timeline(doc).status
        if status == "in_progress" and self._forward and not doc["worked_at"]:
            return self._ask
        if status in ("finalizing", "cancelling") and doc["result"] is None:
            return self._finish
        return None

    async def _inspect(self, doc: Document) -> None:
        source, trouble = self._source(doc)
        if trouble:
            summary = validate.Summary()
            summary.blame(*trouble)
        else:
            summary = await asyncio.to_thread(
                validate.inspect, source, max_lines=self.limits.max_lines, deployments=self._deployments
            )
        doc["summary"] = summary.document()
        self._batches.save(doc)

    async def _ask(self, doc: Document) -> None:
        """Send every line to the model behind `--forward`."""
        assert self._forward is not None
        deployment = self._deployments.get(doc["deployment"])

        def go_on(done: int) -> bool:
            self._rows_done[doc["id"]] = done
            return doc["cancel_at"] is None

        await self._forward.ask(self._source(doc)[0], self._answers(doc), deployment, go_on)
        doc["worked_at"] = self._clock.now()
        self._batches.save(doc)

    async def _finish(self, doc: Document) -> None:
        source, trouble = self._source(doc)
        if trouble or doc["summary"]["errors"]:
            if trouble:
                doc["summary"]["errors"].append(
                    {"code": trouble[0], "message": trouble[1], "param": None, "line": None}
                )
            doc["result"] = {"files": [None, None], "blobs": ["", ""], "completed": 0, "failed": 0}
            self._batches.save(doc)
            return
        order = Order(
            doc["summary"]["sha256"],
            doc["created_at"],
            1.0 if self._forward else self._timeline(doc).share,
            "batch_expired" if "expire" in doc["quirks"] else "batch_cancelled",
            doc["quirks"],
        )
        answers = self._answers(doc)
        model = self._forward.model(answers) if self._forward else self._model
        output, error = self.files.new_path(), self.files.new_path()
        written = await asyncio.to_thread(write_results, source, output, error, model, order)
        keep = self._keep_blobs if doc["output_folder"] else self._keep_files
        doc["result"] = keep(doc, output, error) | {"completed": written.completed, "failed": written.failed}
        self._batches.save(doc)
        answers.unlink(missing_ok=True)

    def _keep_files(self, doc: Document, output: Path, error: Path) -> Document:
        ids: list[str | None] = []
        for path, name in ((output, "output"), (error, "error")):
            if path.stat().st_size or (name == "error" and doc["quirks"].get("no_errors") == "zero"):
                filename = f"{doc['id']}_{name}.jsonl"
                ids.append(self.files.add_result(path, filename, doc["output_expires_s"]))
            else:
                path.unlink()
                ids.append(None)
        return {"files": ids}

    def _keep_blobs(self, doc: Document, output: Path, error: Path) -> Document:
        urls = self.blobs.outputs(doc["output_folder"])
        for path, url in ((output, urls[0]), (error, urls[1])):
            target = self.blobs.path(url, make=True)
            if target and path.stat().st_size:
                path.rename(target)
            else:
                path.unlink()  # both URLs are told even where nothing was written
        return {"files": [None, None], "blobs": urls}

    def _source(self, doc: Document) -> tuple[Path, tuple[str, str] | None]:
        """The input of a batch, and the code and words of why it cannot be used."""
        if doc["input_blob"] is None:
            return self.files.path(doc["input_file_id"]), None
        path = self.blobs.path(doc["input_blob"]) or Path("/nowhere")
        if doc["signature"] is None:
            return path, ("input_no_permissions", f"The blob '{doc['input_blob']}' cannot be read.")
        if blobs.signature(path) != doc["signature"]:
            return path, ("input_modified", f"The blob '{doc['input_blob']}' was changed after submission.")
        return path, None

    def _answers(self, doc: Document) -> Path:
        return self.files.path(f"{doc['id']}-answers")

    # looks

    def _timeline(self, doc: Document) -> Timeline:
        return Timeline(doc, self._pace, self._clock.now(), self._rows_done.get(doc["id"]))

    def _show(self, doc: Document) -> Document:
        return show(doc, self._pace, self._clock.now(), self._rows_done.get(doc["id"]))
