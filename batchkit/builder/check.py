"""A JSONL file judged in one streaming pass, before the service judges it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, BinaryIO, Literal

from batchkit.builder.findings import Findings
from batchkit.builder.judge import Judge
from batchkit.builder.rows import TABLES
from batchkit.builder.rules import Rules
from batchkit.builder.split import deployment_of
from batchkit.builder.strict import BOM, Flaw, parse, wide_encoding
from batchkit.builder.tokens import Tally, exact, model_of
from batchkit.config import Limits
from batchkit.config.prices import Prices, prices_in
from batchkit.disk import PIECE, blocks, reading
from batchkit.errors import InputError
from batchkit.given import expect, expect_call
from batchkit.model import CheckReport, Problem

if TYPE_CHECKING:
    from batchkit.config.facts import Facts

_LINES = "batchkit.lines(rows, deployment=…, body=…) makes request lines of rows, and Client.submit judges them"


def check(
    path: str | Path,
    *,
    limits: Limits | None = Limits(),
    max_problems: int = 100,
    azure: bool = False,
    tokens: bool | Literal["exact"] = False,
    prices: Prices | str | Path | None = None,
    model: str | None = None,
    facts: Facts | None = None,
) -> CheckReport:
    """Read a file of request lines once, in constant memory but for an index of the ids.

    Never raises for bad data: every problem is in the report with its 1-based line, its 0-based byte offset, a code
    and how to mend it. `limits=None` leaves the limits of one input file out, for a file that will be split; `azure`
    adds what Azure alone does not take.

    `tokens` adds up the requests' tokens, which takes longer, as `report.tokens`: True estimates them, "exact" counts
    (extra `tokens`). So do `prices`, the path of a price file, which make `report.cost` of them, and a limit of
    enqueued tokens. `model` is the deployment's where its name does not tell, and `facts` what is published of models.

    Raises InputError when there is no such file, LocalError when it cannot be read, ConfigError for a bad price file,
    and MissingExtra where exact counting is not installed.
    """
    expect("path", path, (str, os.PathLike), "a path to a file of request lines", hint=_LINES)
    expect("limits", limits, (Limits, NoneType), "a batchkit.Limits", hint="such as batchkit.Limits(max_lines=50_000)")
    if tokens not in (True, False, "exact"):
        raise InputError(f"tokens must be True or 'exact', not {tokens!r}", hint="True estimates, 'exact' counts")
    if facts is not None:
        from batchkit.config.facts import Facts

        expect("facts", facts, Facts, "the facts that load_facts reads")
    expect_call(max_problems=max_problems, model=model)
    path, priced = Path(path), prices_in(prices)
    counting = tokens or priced or (limits and limits.enqueued_tokens is not None)
    tally = _tally(path, model, priced, exactly=tokens == "exact") if counting else None
    found = _File(Findings(max_problems, str(path)), tally, Rules(azure=azure, model=model, facts=facts))
    if path.suffix.lower() in TABLES:
        found.findings.add("table")
    else:
        with reading(path), path.open("rb", buffering=PIECE) as file:
            found.read(file)
        found.end(limits)
    report = found.report(path)
    known = [name for name in (report.deployment, model) if priced and name and priced.of(name)]
    if priced and report.tokens and known:
        report = replace(report, cost=priced.cost(report.tokens, known[0]))
    return report


def _tally(path: Path, model: str | None, prices: Prices | None, *, exactly: bool) -> Tally:
    """What adds up the tokens of a file, for the model that was named or that its deployment's price names."""
    deployment = deployment_of(path) or ""
    price = prices.of(deployment) if prices else None
    model = model or (price.model if price else None) or model_of(deployment)
    return Tally(model, *exact(model)) if exactly else Tally(model)


class _File:
    """What is known of a file so far."""

    def __init__(self, findings: Findings, tally: Tally | None, rules: Rules) -> None:
        self.findings, self._tally = findings, tally
        self._judge = Judge(findings, rules, tally.line if tally else None)
        self._requests = self._bytes = 0
        self._readable = self._ends_well = True

    def read(self, file: BinaryIO) -> None:
        """Judge all lines."""
        if encoding := wide_encoding(file.read(4)):
            self.findings.add("utf16", encoding=encoding)
            self._readable = False
            return
        self._bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._requests = self._lines(file) - self._judge.blank
        file.seek(max(0, self._bytes - 1))
        self._ends_well = file.read(1) in (b"", b"\n")

    def _lines(self, file: BinaryIO) -> int:
        """Judge all lines, piece by piece; how many there are."""
        number = offset = 0
        for lines in blocks(file):
            self._judge.lines(lines, number, offset)
            number, offset = number + len(lines), file.tell()
        return number

    def end(self, limits: Limits | None) -> None:
        """Judge the file as a whole."""
        if not self._readable:
            return
        if not self._requests:
            self.findings.add("empty_file")
        if not self._ends_well:
            self.findings.add("no_final_newline")
        if limits and self._requests > limits.max_lines:
            self.findings.add("too_many_tasks", lines=self._requests, limit=limits.max_lines)
        if limits and self._bytes > limits.max_bytes:
            self.findings.add("file_too_large", bytes=self._bytes, limit=limits.max_bytes)
        tokens = self._tally.tokens if self._tally else None
        if limits and limits.enqueued_tokens and tokens and tokens.input > limits.enqueued_tokens:
            self.findings.add("token_limit_exceeded", tokens=tokens.input, how=tokens.how, limit=limits.enqueued_tokens)

    def report(self, path: Path) -> CheckReport:
        """All that was found."""
        return CheckReport(
            path=str(path),
            lines=self._requests,
            bytes=self._bytes,
            url=self._judge.rules.url,
            deployment=self._judge.rules.deployment,
            total=self.findings.total,
            problems=tuple(self._with_firsts(path)),
            errors=self.findings.errors,
            codes=dict(self.findings.codes.most_common()),
            tokens=self._tally.tokens if self._tally else None,
        )

    def _with_firsts(self, path: Path) -> list[Problem]:
        """The problems, with the first line of each id that is used twice: the file is read again for it."""
        problems = list(self.findings.kept)
        firsts = _first_lines(path, {custom_id for custom_id, _ in self._judge.repeated})
        for custom_id, index in self._judge.repeated:
            problem = problems[index]
            problems[index] = replace(problem, message=f"{problem.message}, first on line {firsts[custom_id]}")
        return problems


def _first_lines(path: Path, custom_ids: set[str]) -> dict[str, int]:
    """The first line of each of these ids."""
    found: dict[str, int] = {}
    if not custom_ids:
        return found
    with path.open("rb", buffering=PIECE) as file:
        for number, raw in enumerate(file, 1):
            try:
                custom_id = parse(raw.removeprefix(BOM)).get("custom_id")
            except Flaw:
                continue
            if isinstance(custom_id, str) and custom_id in custom_ids:
                found.setdefault(custom_id, number)
                if len(found) == len(custom_ids):
                    break
    return found
