"""The pictures of a report, as SVG whose colours the page's style decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

WIDTH = 1000
LEFT = 60
LANE = 18
BARS = 8
"""How many bars a histogram has room for at least, so that a few are no wider than this."""
LANES = 40
"""How many parts a timeline draws."""
STEPS = (1, 5, 15, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400)


def shares(kinds: Sequence[tuple[str, int]]) -> str:
    """One bar divided by counts, and its legend."""
    seen = [(kind, count) for kind, count in kinds if count]
    pieces = "".join(
        f'<div class="{kind}" style="flex:{count} 0 2px" title="{count:,} {kind}"></div>' for kind, count in seen
    )
    legend = "".join(f'<span><i class="{kind}"></i>{count:,} {kind}</span>' for kind, count in seen)
    return f'<div class="shares">{pieces}</div><div class="legend">{legend}</div>'


def histogram(bars: Sequence[dict[str, Any]], shown: Callable[[float], str]) -> str:
    """Counts over equal steps of the logarithm; `shown` writes a value."""
    width, height, foot = 320, 120, 16
    most = max(bar["count"] for bar in bars)
    step = width / max(len(bars), BARS)
    drawn = []
    for index, bar in enumerate(bars):
        tall = max(1.5, (height - 4) * bar["count"] / most) if bar["count"] else 0
        ends = dict.fromkeys((shown(bar["from"]), shown(bar["to"])))
        title = f"{bar['count']:,} row{'s' * (bar['count'] != 1)}: {' to '.join(ends)}"
        drawn.append(
            f'<rect class="run" x="{index * step + 0.5:.1f}" y="{height - tall:.1f}" width="{max(1, step - 1):.1f}" '
            f'height="{tall:.1f}"><title>{escape(title)}</title></rect>'
        )
    low, high = escape(shown(bars[0]["from"])), escape(shown(bars[-1]["to"]))
    end = f'<text x="{max(60, step * len(bars)):.0f}" y="{height + 13}" text-anchor="end">{high}</text>'
    return (
        f'<svg viewBox="0 0 {width} {height + foot}" role="img" aria-label="histogram">{"".join(drawn)}'
        f'<line class="grid" x1="0" y1="{height}" x2="{width}" y2="{height}"/>'
        f'<text x="0" y="{height + 13}">{low}</text>{end if high != low else ""}</svg>'
    )


def timeline(parts: Sequence[dict[str, Any]], end: float) -> str:
    """A lane for each part: waiting until its batch was made, then at the service until it ended."""
    drawn = parts[:LANES]
    start: float = min(part["planned_at"] for part in drawn)
    end = max([end, *(batch["ended_at"] or 0 for part in drawn for batch in part["batches"])])
    scale = (WIDTH - LEFT) / max(0.1, end - start)

    def x(moment: float) -> float:
        return LEFT + max(0.0, min(moment, end) - start) * scale

    def bar(kind: str, since: float, until: float, y: float, title: str) -> str:
        wide = max(1.5, x(until) - x(since))
        return (
            f'<rect class="{kind}" x="{x(since):.1f}" y="{y + 3:.1f}" width="{wide:.1f}" height="{LANE - 6}" rx="2">'
            f"<title>{escape(title)}</title></rect>"
        )

    height = LANE * len(drawn)
    pieces = [_ticks(start, end, x, height)]
    for lane, part in enumerate(drawn):
        y, since = lane * LANE, part["planned_at"]
        name = f"{part['round']}-{part['number']}"
        pieces.append(f'<text x="0" y="{y + 13}">{name}</text>')
        for batch in part["batches"]:
            until, made = batch["ended_at"] or end, max(since, batch["created_at"] or since)
            made = since if made > until else made  # the service's clock is ahead
            pieces.append(bar("wait", since, made, y, f"{name}: waiting"))
            since = until
            kind = {"completed": "ok", "failed": "failed", "expired": "failed", "cancelled": "pending"}
            pieces.append(bar(kind.get(batch["status"], "run"), made, since, y, f"{name}: {batch['status']}"))
        if not part["batches"]:
            pieces.append(bar("wait", since, end, y, f"{name}: {part['state']}"))
    more = f"<p class='note'>The first {LANES} of {len(parts)} parts.</p>" if len(parts) > LANES else ""
    legend = "".join(
        f'<span><i class="{kind}"></i>{word}</span>'
        for kind, word in (
            ("wait", "waiting to be sent"),
            ("run", "at the service"),
            ("ok", "completed"),
            ("failed", "failed or expired"),
            ("pending", "cancelled"),
        )
    )
    svg = f'<svg viewBox="0 0 {WIDTH} {height + 20}" role="img" aria-label="timeline of parts">{"".join(pieces)}</svg>'
    return f'{svg}<div class="legend">{legend}</div>{more}'


def _ticks(start: float, end: float, x: Callable[[float], float], height: float) -> str:
    step = next((step for step in STEPS if (end - start) / step <= 8), STEPS[-1])
    pattern = "%d %b %H:%M" if end - start > 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    first, drawn = -(-start // step) * step, list[str]()
    moment = first if first <= end else start
    while moment <= end:
        at = x(moment)
        label = datetime.fromtimestamp(moment, UTC).strftime(pattern)
        drawn.append(f'<line class="grid" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{height}"/>')
        drawn.append(f'<text x="{at:.1f}" y="{height + 14}" text-anchor="middle">{label}</text>')
        moment += step
    return "".join(drawn)
