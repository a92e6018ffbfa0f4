"""The command that tells what happened to a job: report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from batchkit import __version__
from batchkit.cli.jobs import JobName
from batchkit.cli.options import Where
from batchkit.cli.printer import Face, write_bytes
from batchkit.cli.rows import Overwrite, place
from batchkit.cli.session import opened
from batchkit.config.prices import read_prices
from batchkit.disk import replacing
from batchkit.errors import UsageError


def report(
    face: Face,
    where: Where,
    job: JobName,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the page. [default: stdout]")] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="A TOML file with what tokens cost you.", metavar="FILE")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """A job as one HTML page: outcome, timeline, failures, tokens, cost, every id. Asks nothing of the service.

    Example: batchkit report nightly -o report.html --prices prices.toml
    """
    out = place(out)
    if out is None and not face.as_json and sys.stdout.isatty():
        raise UsageError("a page needs a place", hint=f"batchkit report {quote(job)} -o report.html")
    priced = read_prices(prices) if prices else None
    with opened(face, where, offline=True) as session:
        document = session.act(lambda client: client.report(job, prices=priced))
    if face.as_json:
        face.data(document, [])
        if out is None:
            return
    from batchkit.collector.page import page

    html = page(document, version=__version__, now=time.time()).encode("utf-8", "backslashreplace")
    if out is None:
        write_bytes(html)
        return
    with replacing(out, mode=0o666, replaceable=None if overwrite or _ours(out, html) else ()) as file:
        file.write(html)
    face.say(f"{out}: open it in a browser, or print it")


def _ours(out: Path, html: bytes) -> bool:
    """Whether an earlier report on the same job is there, which a new one may replace."""
    title = html[html.index(b"<title>") : html.index(b"</title>")]
    try:
        with out.open("rb") as file:
            return title in file.read(len(title) + 2000)
    except OSError:
        return False
