"""The command that looks whether all is fit for work: doctor."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from batchkit.cli import documents
from batchkit.cli.jobs import seconds
from batchkit.cli.limits import FactsFile
from batchkit.cli.options import Where
from batchkit.cli.printer import Face
from batchkit.cli.session import opened
from batchkit.errors import UsageError
from batchkit.model import Finding


def doctor(
    face: Face,
    where: Where,
    deployment: Annotated[
        str | None, typer.Option("--deployment", "-d", help="The deployment to look at. [default: the target's]")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Make a batch of one short request: does the deployment run batches? Billed."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --probe.")] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", help="How long the probe is waited for: 90, 30m, 2h.", metavar="TIME")
    ] = "20m",
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend what is local and safe first: permissions, leftovers, the ledger's size."),
    ] = False,
    facts: FactsFile = None,
) -> None:
    """Look whether endpoint, credential, deployment, ledger and this machine are fit for work.

    Example: batchkit doctor --probe
    """
    probe = probe and (yes or _confirmed())
    with opened(face, where) as session:
        wait_s = seconds(timeout) or 0.0
        found = session.act(
            lambda client: client.doctor(deployment=deployment, probe=probe, fix=fix, facts=facts, timeout_s=wait_s)
        )
    found = tuple(replace(finding, hint=face.complete(finding.hint)) for finding in found)
    face.data(documents.findings(found), (line for finding in found for line in _words(finding)))
    if code := next((finding.exit for finding in found if finding.verdict == "problem"), 0):
        raise SystemExit(code)


def _words(finding: Finding) -> list[str]:
    target = f"{finding.target}: " if finding.target else ""
    words = [f"{finding.verdict:<8} {target}{finding.what}: {finding.message}"]
    return [*words, f"         {finding.hint}"] if finding.hint else words


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("a probe costs a request, and needs your word", hint="batchkit doctor --probe --yes")
    words = (
        "Make a batch of one request (about ten tokens in, a short answer out, billed), and cancel it once it is taken?"
    )
    return typer.confirm(words, err=True)
