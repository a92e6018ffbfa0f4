"""The recording in the README, made from a real session: `python -m tests.recording [OUT.svg]`.

A run on the built-in emulator is interrupted, goes on, and asks again for the rows that failed. Text only: no font,
script or address from elsewhere; light or dark as the page of the reader is; whole where nothing moves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples" / "quickstart"
RUN = (
    "batchkit run packages.csv -o answers.csv --custom-id package \\",
    "    --template prompt.txt -d gpt-4o-batch --name nightly --emulator --speed 300",
)
COLUMNS, LINE, LETTER = 104, 20, 8.43
PAUSE_S, LONGEST_S = 1.2, 1.5
STYLE = """
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre;fill:#1f2328}
.page{fill:#f6f8fa;stroke:#d1d9e0}.command{font-weight:600}.error{fill:#b3261e}.next{fill:#0a5cad}.quiet{fill:#59636e}
text{animation:shown .01s linear backwards}@keyframes shown{from{opacity:0}}
@media (prefers-reduced-motion:reduce){text{animation:none}}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117;stroke:#3d444d}.error{fill:#ff8a80}
.next{fill:#79c0ff}.quiet{fill:#9198a1}}
"""


@dataclass(frozen=True)
class Said:
    """A line of the session and when it came, in seconds of the recording."""

    text: str
    kind: str
    at: float


def main() -> int:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES / "recording.svg"
    with tempfile.TemporaryDirectory() as directory:
        said = session(Path(directory))
    out.write_text(drawn(said), "utf-8")
    print(f"{out}: {len(said)} lines, {said[-1].at:.0f} s, {out.stat().st_size} bytes")
    return 0


def session(home: Path) -> list[Said]:
    """What a user types and sees, in a directory that has the example's rows."""
    for name in ("packages.csv", "prompt.txt"):
        (home / name).write_bytes((EXAMPLES / name).read_bytes())
    said: list[Said] = []
    _typed(said, home, RUN, stop_at="in_progress")
    _typed(said, home, RUN)
    _typed(said, home, ("batchkit retry nightly --emulator --speed 300",))
    _typed(said, home, RUN)
    return said


def _typed(said: list[Said], home: Path, lines: tuple[str, ...], stop_at: str = "") -> None:
    """One command, and what it prints until it ends or, where something is seen, is interrupted."""
    began = said[-1].at + PAUSE_S if said else 0.3
    said += [Said(f"{'$ ' if not number else '  '}{line}", "command", began) for number, line in enumerate(lines)]
    words = [part for line in lines for part in line.rstrip("\\").split()][1:]
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "LANG": "C.UTF-8"}
    env["PYTHONUNBUFFERED"] = "1"  # as on a terminal
    command = [sys.executable, "-m", "batchkit", *words]
    now, last = began + PAUSE_S, time.monotonic()
    with subprocess.Popen(
        command, cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            now, last = now + min(time.monotonic() - last, LONGEST_S), time.monotonic()
            text = line.rstrip()
            kind = "error" if text.startswith("error") else "next" if text.startswith("next") else ""
            said += [Said(text[i : i + COLUMNS], kind, now) for i in range(0, len(text), COLUMNS)]
            if stop_at and stop_at in line:
                run.send_signal(signal.SIGINT)
                said.append(Said("^C", "quiet", now + PAUSE_S / 2))
                stop_at, now = "", now + PAUSE_S / 2


def drawn(said: list[Said]) -> str:
    """The session as SVG: each line is shown from its time on."""
    rows, y = [], 14
    for number, line in enumerate(said):
        y += LINE + (LINE // 2 if number and line.text.startswith("$ ") else 0)
        kind = f' class="{line.kind}"' if line.kind else ""
        rows.append(f'<text x="16" y="{y}"{kind} style="animation-delay:{line.at:.2f}s">{escape(line.text)}</text>')
    width, height = round(COLUMNS * LETTER + 32), y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="A run is interrupted, goes on, and asks again for the rows that failed">'
        f"<style>{STYLE.strip()}</style>"
        f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>'
        + "\n".join(rows)
        + "</svg>\n"
    )


if __name__ == "__main__":
    sys.exit(main())
