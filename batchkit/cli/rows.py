"""Commands on rows and request lines, without a service: build, check."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from batchkit.cli import documents, sarif
from batchkit.cli.limits import FactsFile
from batchkit.cli.making import Making
from batchkit.cli.printer import Face, write_bytes
from batchkit.config import Limits
from batchkit.config.targets import load_target
from batchkit.disk import replacing
from batchkit.errors import ConfigError, InputError, UsageError
from batchkit.model import CheckReport, Problem
from batchkit.text import plural

if TYPE_CHECKING:
    from batchkit.config.prices import Prices

MOST = 20
"""How many problems of a file are printed for people."""
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write. [default: stdout]")]
Results = Annotated[
    Path | None, typer.Option("--out", "-o", help="Where to write: .csv, .parquet or .jsonl. [default: stdout]")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that holds something else.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Take warnings, as of a misspelt parameter, for errors: nothing is sent then.",
    ),
]


def build(
    face: Face,
    making: Making,
    rows: Annotated[
        str,
        typer.Argument(
            help="A table: .csv, .tsv, .jsonl, .json, .parquet or .arrow; - for stdin; with --sql a database's URL.",
            metavar="ROWS",
        ),
    ],
    out: Out = None,
    overwrite: Overwrite = False,
    strict: Strict = False,
) -> None:
    """Turn rows into request lines.

    Example: batchkit build rows.csv -o lines.jsonl -d gpt-4o -p 'Sort: {text}'
    """
    from batchkit.builder.lines import encode

    out = place(out)
    if out is not None and out.resolve() == Path(rows).resolve():
        raise UsageError("the lines would overwrite the rows", hint="choose another -o")
    if out is None and face.as_json:
        raise UsageError("--json needs a place for the lines", hint="add -o LINES")
    lines = making.lines(rows)
    made = encode(lines, strict=strict)
    if out is None:
        for piece in made:
            write_bytes(piece)
        return
    count = 0
    with replacing(out, mode=0o666, replaceable=None if overwrite else ()) as file:
        for count, piece in enumerate(made, 1):  # noqa: B007  (how many there were)
            file.write(piece)
        if not count:
            left_out = f"nothing is left of {plural(lines.skipped, 'row')}: each lacks a column"
            raise InputError(left_out if lines.skipped else f"{rows} has no rows")
    deployment = making.deployment or ""
    left_out = f", {plural(lines.skipped, 'row')} left out" if lines.skipped else ""
    words = f"{out}: {plural(count, 'request line')} for {deployment}{left_out}"
    face.data(documents.built(out, count, lines.skipped, deployment, lines.url), [words])
    face.next(f"batchkit check {quote(str(out))}")


def check(
    face: Face,
    files: Annotated[list[Path], typer.Argument(help="JSONL files of request lines.", metavar="LINES...")],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Judge by the limits of this target. [default: Azure's]")
    ] = None,
    strict: Strict = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Estimate the tokens, too.")] = False,
    cost: Annotated[Path | None, typer.Option("--cost", help="A price file (TOML): what will it cost?")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The deployment's model: for tokens, and what it takes. [default: by its name]"),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Count the tokens (extra: tokens).")] = False,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", help="Write the file here without BOM, CR LF, blank lines; with final newline."),
    ] = None,
    overwrite: Overwrite = False,
    max_problems: Annotated[
        int | None,
        typer.Option(
            "--max-problems",
            min=1,
            help="How many problems to print a file. [default: 20; all with --github and --sarif]",
        ),
    ] = None,
    github: Annotated[bool, typer.Option("--github", help="Print problems as annotations of GitHub Actions.")] = False,
    as_sarif: Annotated[
        bool, typer.Option("--sarif", help="Print problems as SARIF 2.1.0, for code scanning.")
    ] = False,
    facts: FactsFile = None,
) -> None:
    """Judge request lines before the service does: every problem with line, byte, reason and remedy.

    Example: batchkit check lines.jsonl
    """
    from batchkit.builder.check import check as judged
    from batchkit.builder.deployments import elsewhere
    from batchkit.config.facts import load_facts
    from batchkit.config.prices import read_prices

    if sum((github, as_sarif, face.as_json)) > 1:
        raise UsageError("--github, --sarif and --json are three forms", hint="choose one of them")
    if fix is not None:
        files = [_fixed(face, files, fix, overwrite=overwrite)]
    prices = read_prices(cost) if cost else None
    published = load_facts(facts) if facts else None
    goal = load_target(target) if target else None
    limits = goal.limits if goal else Limits()
    most = max_problems or (sys.maxsize if github or as_sarif else MOST)
    reports: list[CheckReport] = []
    unpriced: ConfigError | None = None
    for path in files:
        report = judged(
            path,
            limits=limits,
            max_problems=most,
            azure=goal is not None and goal.azure,
            tokens="exact" if exact else tokens,
            prices=prices,
            model=model,
            facts=published,
        )
        if goal and report.deployment and (instead := elsewhere(report.deployment, goal)):
            message = f"all {plural(report.lines, 'request')} name the deployment {report.deployment!r}: {instead}"
            report = _with(report, Problem("deployment_differs", message, "is that meant?", severity="warning"))
        unpriced = unpriced or _unpriced(prices, report)
        reports.append(report)
    if as_sarif:
        write_bytes(orjson.dumps(sarif.document(reports), option=orjson.OPT_APPEND_NEWLINE))
    else:
        face.data(documents.check(reports), _annotations(reports) if github else _words(reports, strict=strict))
    bad = [report for report in reports if not report.ok or (strict and report.total)]
    if bad:
        face.say(*([f"warning: {unpriced}"] if unpriced else []))
        errors = sum(report.total if strict else report.errors for report in bad)
        names, again = ", ".join(report.path for report in bad), " ".join(quote(str(path)) for path in files)
        hint = f"mend {'it' if errors == 1 else 'them'}, and again: batchkit check {again}{' --strict' * strict}"
        raise InputError(f"{plural(errors, 'problem')} in {names}", hint=hint)
    if unpriced:
        raise unpriced


def _with(report: CheckReport, problem: Problem) -> CheckReport:
    codes = {**report.codes, problem.code: 1}
    return replace(report, problems=(*report.problems, problem), total=report.total + 1, codes=codes)


def _unpriced(prices: Prices | None, report: CheckReport) -> ConfigError | None:
    """Why it cannot be said what a file costs: no reason to keep what else was found to oneself."""
    if prices is None or report.deployment is None or report.cost is not None:
        return None
    return prices.lacking(report.deployment)


def place(out: Path | None) -> Path | None:
    """Where to write; `-` is stdout, as everywhere."""
    return None if out == Path("-") else out


def _fixed(face: Face, files: list[Path], out: Path, *, overwrite: bool) -> Path:
    from batchkit.builder.split import file_lines

    if len(files) != 1:
        raise UsageError("--fix mends one file at a time", hint="batchkit check LINES --fix NEW")
    if out.resolve() == files[0].resolve():
        raise UsageError("--fix writes a new file", hint=f"batchkit check {quote(str(out))} --fix NEW")
    with replacing(out, mode=0o666, replaceable=None if overwrite else ()) as file:
        file.writelines(file_lines(files[0]))
    face.say(f"{out}: {files[0]} without BOM, CR LF and blank lines, and with a final newline")
    return out


def _words(reports: list[CheckReport], *, strict: bool) -> list[str]:
    words: list[str] = []
    for report in reports:
        words += [f"{report.path}{_where(problem)}: {_sentence(problem)}" for problem in report.problems]
        if report.total > len(report.problems):
            counts = ", ".join(f"{count} × {code}" for code, count in report.codes.items())
            words.append(f"{report.path}: {report.total - len(report.problems)} more; in all {counts}")
        if report.ok and not (strict and report.total):
            words.append(
                f"{report.path}: good: {plural(report.lines, 'request')}, {report.bytes} bytes, {report.url}, "
                f"deployment {report.deployment}"
            )
        words += [f"{report.path}: {line}" for line in _tokens(report)]
    return words


def _where(problem: Problem) -> str:
    return f":{problem.line} (byte {problem.byte})" if problem.line else ""


def _sentence(problem: Problem) -> str:
    return f"{problem.severity}: {problem.code}: {problem.message}; {problem.fix}"


def _tokens(report: CheckReport) -> list[str]:
    from batchkit.builder.tokens import ESTIMATE

    tokens, cost = report.tokens, report.cost
    if tokens is None:
        return []
    about = tokens.how == ESTIMATE
    how = tokens.how if about else f"counted with {tokens.how}"
    words = [f"{'about ' * about}{plural(tokens.input, 'token')} in ({how})"]
    if tokens.output_most:
        words.append(f"up to {tokens.output_most} tokens out")
    if tokens.unbounded:
        param = "max_output_tokens" if (report.url or "").endswith("/responses") else "max_tokens"
        words.append(f"{plural(tokens.unbounded, 'request')} without a most for tokens out (--param {param}=N)")
    if tokens.uncounted:
        words.append(f"{tokens.uncounted} of {plural(tokens.images, 'image')} not counted")
    lines = [", ".join(words)]
    if cost is not None:
        most = "tokens out have no bound" if cost.output_most is None else f"up to {cost.output_most:.2f} out"
        lines.append(f"{cost.currency} {cost.input:.2f} in, {most}, by the prices of {cost.prices_of}")
    return lines


def _annotations(reports: Iterable[CheckReport]) -> list[str]:
    """Problems as GitHub Actions shows them beside a file (workflow commands)."""

    def escaped(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def value(text: str) -> str:
        return escaped(text).replace(":", "%3A").replace(",", "%2C")

    return [
        f"::{problem.severity} file={value(report.path)},line={problem.line or 1},title={value(problem.code)}::"
        + escaped(f"{problem.message}; {problem.fix}")
        for report in reports
        for problem in report.problems
    ]
