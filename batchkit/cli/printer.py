"""What people and programs see: data on stdout, talk on stderr, words or JSON."""

from __future__ import annotations

import csv
import io
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import orjson

from batchkit.cli import documents
from batchkit.disk import lately
from batchkit.errors import BatchkitError, LedgerBusy, Unavailable, Unfinished
from batchkit.logs import ENDED_BADLY, NOT_TOLD, JsonLines, message_of
from batchkit.model import Job
from batchkit.text import plural, visible

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from batchkit.cli.live import View
    from batchkit.clock import Clock
    from batchkit.engine.pump import Progress
    from batchkit.engine.watch import Watched

EVERY_S = 60.0
SILENCE_S = 3600.0
"""How long after an outage was said it is not said again."""
LONG_S = 15.0
"""What is waited for longer than that is said with its end."""
_UNDER_WAY = (Unfinished, LedgerBusy)
_COMMANDS = re.compile(r"batchkit (submit|track|fetch|retry|cancel|list|show|report|files|doctor)\b")


class LogFormat(StrEnum):
    """How stderr talks."""

    WORDS = "words"
    JSON = "json"


class Face:
    """How a command talks: `as_json` for programs, `quiet` for nothing but trouble, else words for people. As a log,
    `LogFormat.JSON`, it talks to programs too, on stderr."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        log_format: LogFormat = LogFormat.WORDS,
    ) -> None:
        self.as_json, self.quiet, self.verbose, self.flags = as_json, quiet, verbose, ""
        self.emulated = False
        """Whether the command is about the built-in emulator, whose days are no days of ours."""
        self.repeats = False
        """Whether what is said now was said by an earlier call, which somebody who asked for quiet need not hear."""
        self.outage: Path | None = None
        """The mark by which an outage of the service is said once an hour, to somebody who asked for quiet."""
        self._outage_is_old: bool | None = None
        self._log, self._logs = logging.getLogger("batchkit"), log_format is LogFormat.JSON
        if not quiet or self._logs:
            self._log.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
            handler = _lines() if self._logs else _Said(self)
            handler.addFilter(lambda record: record.name != ENDED_BADLY)
            self._log.addHandler(handler)
        else:
            handler = _Said(self, always=True)
            handler.setLevel(logging.WARNING)
            handler.addFilter(lambda record: record.name == NOT_TOLD)
            self._log.addHandler(handler)  # without one Python prints warnings itself
        self._bars: Bars | None = None
        self._view: View | None = None
        self._following = False
        self._lines: dict[str, str] = {}
        self._said, self._said_at, self._job = "", 0.0, ""

    def data(self, document: dict[str, Any], words: Iterable[str]) -> None:
        """The answer of a command, on stdout: its document, or its words."""
        if self.as_json:
            write_bytes(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
        elif not (self.quiet and self.repeats):
            for line in words:
                print(visible(line, 100_000))
            sys.stdout.flush()  # whoever reads a pipe sees it before what is said next

    def say(self, *lines: str) -> None:
        """Talk, on stderr; silent when a program or nobody listens."""
        if self._logs:
            for line in lines:
                self._log.info("%s", line)
        elif not (self.quiet or self.as_json):
            for line in lines:
                print(visible(line), file=sys.stderr)

    def next(self, hint: str) -> None:
        """What to type next."""
        self.say(f"next:  {self.complete(hint)}")

    def complete(self, hint: str) -> str:
        """A hint whose commands carry the flags that this command was given."""
        return _COMMANDS.sub(lambda command: command[0] + self.flags, hint) if self.flags else hint

    def fail(self, error: BatchkitError, *, repeats: bool | None = None) -> int:
        """An error as one sentence and what to do next, or as one JSON object; its exit code.

        That work is under way, here or in another process, ended as an earlier call said, or that the service still
        cannot be had is no error to one who asked for quiet: cron would send a mail each minute.
        """
        if self.as_json:
            document = documents.error(error)
            for told in (document, *document.get("also", ())):
                told["hint"] = self.complete(told["hint"])
            sys.stderr.buffer.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
            sys.stderr.flush()
        elif self._logs:
            told = {"code": error.code, "exit": error.exit, "hint": self.complete(error.hint)}
            told |= {"job": self._job} if self._job else {}
            self._log.error("%s", error, extra={"told": told})
        elif not (self.quiet and (self._is_old(error) if repeats is None else repeats)):
            print(f"error: {visible(str(error))}", file=sys.stderr)
            if error.hint:
                print(f"next:  {visible(self.complete(error.hint))}", file=sys.stderr)
        return error.exit

    def _is_old(self, error: BatchkitError) -> bool:
        """Whether somebody who asked for quiet need not hear this now."""
        if isinstance(error, Unavailable) and self.outage is not None:
            if self._outage_is_old is None:
                self._outage_is_old = lately(self.outage, SILENCE_S)
            return self.repeats or self._outage_is_old
        return self.repeats or isinstance(error, _UNDER_WAY)

    def following(self, clock: Clock) -> AbstractContextManager[Any]:
        """While this is open `watched` draws a table of jobs, if somebody is looking."""
        self._following = True
        if self.quiet or self.as_json or self._logs or not sys.stderr.isatty():
            return nullcontext()
        from batchkit.cli.live import View, screen

        self._view = View(clock.now)
        return screen(self._view)

    def remember(self, earlier: Iterable[Job]) -> None:
        """Jobs that ended, by which the end of those watched is foretold."""
        if self._view is not None:
            self._view.earlier = tuple(earlier)

    def watched(self, watched: Sequence[Watched]) -> None:
        """Show how jobs stand: a table on a terminal, a document a line for programs, else lines where words change."""
        if self._view is not None:
            self._view.watched = tuple(watched)
            return
        for item in watched:
            job, waits = item.job, "" if item.next_look_at is None else held(item.job, emulated=self.emulated)
            words = visible(item.busy or str(item.trouble or "") or waits or job.status or job.state, 300)
            words = f"{item.job.name}: {words}, {rows(item.job)}"
            document = documents.job(item.job) | {"next_look_at": item.next_look_at} if self.as_json else {}
            said = orjson.dumps(document | {"events": []}).decode() if self.as_json else words
            if self._lines.get(item.job.id) == said:
                continue
            self._lines[item.job.id], self._job = said, item.job.name
            if self.as_json:
                write_bytes(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
            else:
                self.say(words)

    def watching(self, _: Clock) -> AbstractContextManager[Any]:
        """While this is open `progress` draws a bar, if somebody is looking."""
        if self.quiet or self.as_json or self._logs or not sys.stderr.isatty():
            return nullcontext()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        return self._bars

    def progress(self, step: Progress) -> None:
        """Show how far a job is: a bar on a terminal, else a line when its status changes, and one a minute."""
        if self._following:
            return  # `watched` shows it
        job, counts = step.job, step.job.counts
        self._job = job.name
        done = counts.completed + counts.failed
        words = visible(step.why or job.status or job.state, 200)
        waits = bool(step.why) and not self.emulated
        if waits and step.next_look_at is not None and step.next_look_at - time.time() > LONG_S:
            words += f"; the next try is at {when(step.next_look_at)}"
        if self._bars is not None:
            words += f", round {job.round}" if job.round else ""
            if not self._bars.task_ids:
                self._bars.add_task("", name=visible(job.name, 40), words=words, total=counts.total)
            self._bars.update(self._bars.task_ids[0], completed=done, total=counts.total, words=words)
            return
        if step.next_look_at is None:
            return  # the command itself says how it ended
        if words != self._said or time.monotonic() - self._said_at > EVERY_S:
            self._said, self._said_at = words, time.monotonic()
            self.say(f"{job.name}: {words}, {rows(job)}")


class _Said(logging.Handler):
    """Log messages of the library as talk."""

    def __init__(self, face: Face, *, always: bool = False) -> None:
        super().__init__()
        self._face, self._always = face, always

    def emit(self, record: logging.LogRecord) -> None:
        words = self._face.complete(message_of(record))
        words = f"warning: {words}" if record.levelno >= logging.WARNING else words
        if self._always and not self._face.as_json:
            print(visible(words), file=sys.stderr)
        else:
            self._face.say(words)


def _lines() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    return handler


def held(job: Job, *, emulated: bool) -> str:
    """Why a job waits, and when it is tried again; "" for one that does not."""
    part = next((part for part in job.parts if part.held and not part.collected), None)
    why = visible(job.held or "", 200)
    if part is None or part.next_try_at is None:
        return why
    if emulated:
        return f"{why}; the next try is at {when(part.next_try_at)} of the emulator's time"
    is_due = part.next_try_at <= time.time()
    return f"{why}; the next try is {'due since' if is_due else 'at'} {when(part.next_try_at)}"


def rows(job: Job) -> str:
    """How far the rows are, in words; those of the latest round, which is named where it is not the first."""
    counts, named = job.counts, f"round {job.round}, " if job.round else ""
    failed = f" and {counts.failed} failed" if counts.failed else ""
    return f"{named}{counts.completed} of {plural(counts.total, 'row')} done{failed}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, folds: Sequence[int] = ()) -> list[str]:
    """Rows as aligned columns under a header. On a terminal that is too narrow these columns are folded, in this order,
    each no narrower than its longest word."""
    cells = [list(header), *([visible(cell, 200) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    if (most := terminal_width()) is not None:
        for i in folds:
            word = max(len(word) for row in cells for word in (row[i].split() or [""]))
            widths[i] = min(widths[i], max(word, most - sum(widths) - 2 * (len(widths) - 1) + widths[i]))
    folded = [[_folded(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = [line for row in folded for line in zip_longest(*row, fillvalue="")]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def fold(words: str) -> list[str]:
    """A line of words, on a terminal folded to its width with what follows set in."""
    most = terminal_width()
    if most is None or len(words) <= most:
        return [words]
    indent = " " * (len(words) - len(words.lstrip()) + 2)
    return wrap(words, most, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is; None where it is none, and nothing is folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _folded(cell: str, width: int) -> list[str]:
    fits = len(cell) <= width
    return [cell] if fits else wrap(cell, max(1, width), break_long_words=False, break_on_hyphens=False)


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as CSV under a header of small letters."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.lower() for name in header])
    writer.writerows([visible(cell, 1000) for cell in row] for row in rows)
    return text.getvalue().splitlines()


def when(moment: float | None) -> str:
    """A time for people: local, to the second; "" for none."""
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def write_bytes(data: bytes) -> None:
    """Data on stdout as it is."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
