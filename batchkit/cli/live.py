"""Jobs on a terminal: a table that is drawn anew after each look, and while waiting for the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from batchkit.model import Job, Part, State
from batchkit.text import duration, visible
from batchkit.tracker.forecast import expected_end, trouble

if TYPE_CHECKING:
    from rich.console import RenderableType

    from batchkit.engine.watch import Watched

BAR = 30
"""Cells of a job's bar: a part each, or a share of the parts where there are more."""
NARROW_BAR = 10
BYTES_PER_TOKEN = 4
WIDE = 150
"""From this many columns on there is room for everything."""
_MARKS = {
    State.STAGED: "·",
    State.UPLOADING: "↑",
    State.UPLOADED: "∘",
    State.SUBMITTING: "?",
    State.ENDED: "▣",
    State.FETCHED: "■",
    State.SETTLED: "■",
    State.DROPPED: "-",
}
_RUNNING = "▁▂▃▄▅▆▇█"
_RANK = "?-·∘↑▁▂▃▄▅▆▇█▣■"


def bar(parts: Sequence[Part], cells: int = BAR) -> str:
    """A mark a part: · staged, ↑ uploading, ∘ uploaded, ? not known, ▁ to █ running, ▣ ended, ■ fetched, - dropped.
    Where there are too many, one mark stands for several parts and shows the one furthest behind."""
    marks = [_mark(part) for part in parts]
    if len(marks) <= cells:
        return "".join(marks)
    cut = [marks[len(marks) * i // cells : len(marks) * (i + 1) // cells] for i in range(cells)]
    return "".join(min(some, key=_RANK.index) for some in cut)


def _mark(part: Part) -> str:
    counts = part.batch.counts if part.batch else None
    if part.state is not State.RUNNING:
        return _MARKS[part.state]
    share = (counts.completed + counts.failed) / counts.total if counts and counts.total else 0.0
    return _RUNNING[min(7, int(share * 8))]


def since(job: Job) -> float:
    """Since when the job is in its state, by its diary."""
    entered = [event.at for event in job.events if event.kind == job.state]
    left = [event.at for event in job.events if event.kind in list(State) and event.kind != job.state]
    after = [at for at in entered if not left or at >= left[-1]]
    return after[0] if after else (entered[-1] if entered else job.created_at)


class View:
    """A rich renderable of the jobs watched, as they stand at the moment it is drawn."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.watched: Sequence[Watched] = ()
        """Nothing is drawn before there is any: what ends at once leaves no table behind."""
        self.earlier: Sequence[Job] = ()
        self._now = now

    def __rich_console__(self, console: object, options: object) -> Iterable[RenderableType]:
        from rich.table import Table
        from rich.text import Text

        if not self.watched:
            return
        width = getattr(options, "max_width", 80)
        wide = width >= WIDE
        table = Table(box=None, pad_edge=False, expand=False, show_edge=False, header_style="bold")
        table.add_column(
            "JOB", overflow="ellipsis", no_wrap=True, max_width=40 if wide else max(12, min(40, width - 62))
        )
        table.add_column("STATUS", no_wrap=True)
        table.add_column("PARTS", no_wrap=True, overflow="ellipsis", max_width=BAR if wide else NARROW_BAR)
        table.add_column("ROWS", justify="right", no_wrap=True)
        table.add_column("FAILED", justify="right", no_wrap=True)
        if wide:
            for name in ("TOKENS", "AGE", "SO FOR"):
                table.add_column(name, justify="right", no_wrap=True)
        for name in ("LOOK IN", "DONE IN"):
            table.add_column(name, justify="right", no_wrap=True)
        words: list[Text] = []
        for item in self.watched:
            table.add_row(*(Text(cell) for cell in self._row(item, wide=wide)))
            words += [Text(f"  {line}", style=style) for line, style in self._words(item)]
        yield table
        yield from words

    def _row(self, item: Watched, *, wide: bool) -> list[str]:
        job, now = item.job, self._now()
        counts, latest = job.counts, job.latest
        end = expected_end(job, self.earlier)
        tokens = sum(part.bytes for part in latest) // BYTES_PER_TOKEN
        middle = [f"~{_short(tokens)}", duration(now - job.created_at), duration(now - since(job))] if wide else []
        return [
            visible(job.name, 200),
            visible(job.status or job.state, 20),
            bar(latest, BAR if wide else NARROW_BAR),
            f"{counts.completed + counts.failed}/{counts.total}",
            str(counts.failed or ""),
            *middle,
            "" if item.next_look_at is None else duration(max(0.0, item.next_look_at - now)),
            "" if end is None else f"~{duration(max(0.0, end - now))}",
        ]

    def _words(self, item: Watched) -> Iterable[tuple[str, str]]:
        if item.busy:
            yield visible(item.busy, 200), "dim"
        if item.job.held and item.next_look_at is not None:
            yield visible(item.job.held, 300), "yellow"
        if item.trouble is not None:
            yield visible(str(item.trouble), 300), "red"
        elif wrong := trouble(item.job):
            yield visible(wrong, 300), "yellow"


def screen(view: View) -> AbstractContextManager[object]:
    """The view on stderr, drawn once a second while this is open."""
    from rich.console import Console
    from rich.live import Live

    return Live(view, console=Console(stderr=True), refresh_per_second=1, transient=True)


def _short(count: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
