"""Commands on rows and request lines, without a service: build, check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from batchkit.builder.check import check as check_file
from batchkit.builder.lines import encode, lines
from batchkit.builder.rows import read_rows
from batchkit.cli import documents
from batchkit.cli.printer import Face, write_bytes
from batchkit.disk import reading, replacing
from batchkit.errors import InputError, UsageError
from batchkit.model import CHAT, Line

Deployment = Annotated[
    str | None,
    typer.Option("--deployment", "-d", help="The Global-Batch deployment. Needed for rows. [default: the target's]"),
]
CustomId = Annotated[str | None, typer.Option("--custom-id", help="The column that names a row. [default: row-N]")]
Prompt = Annotated[
    str | None, typer.Option("--prompt", "-p", help="The prompt, with {column} fields. Needed for rows.")
]
TemplateFile = Annotated[Path | None, typer.Option("--template", help="A file with the prompt, instead of --prompt.")]
System = Annotated[str | None, typer.Option("--system", help="A system prompt.")]
Url = Annotated[str, typer.Option("--url", help="What rows are sent to: chat, responses, embeddings, or a url.")]
Param = Annotated[
    list[str] | None, typer.Option("--param", help="key=value for every body, such as max_tokens=200; repeatable.")
]
Lines = Path | Iterator[Line]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write. [default: stdout]")]
Results = Annotated[
    Path | None, typer.Option("--out", "-o", help="Where to write: .csv, .parquet or .jsonl. [default: stdout]")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that holds something else.")]


def build(
    face: Face,
    rows: Annotated[Path, typer.Argument(help="A table: .csv, .tsv, or .jsonl with one object a row.", metavar="ROWS")],
    out: Out = None,
    deployment: Deployment = None,
    custom_id: CustomId = None,
    prompt: Prompt = None,
    template: TemplateFile = None,
    system: System = None,
    url: Url = CHAT,
    param: Param = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn rows into request lines.

    Example: batchkit build rows.csv -o lines.jsonl -d gpt-4o-batch --custom-id sku -p 'Classify: {description}'
    """
    if deployment is None:
        raise UsageError("no deployment is named", hint="add --deployment NAME")
    out = place(out)
    if out is not None and out.resolve() == rows.resolve():
        raise UsageError("the lines would overwrite the rows", hint="choose another -o")
    if out is None and face.as_json:
        raise UsageError("--json needs a place for the lines", hint="add -o LINES")
    made = encode(build_lines(rows, deployment, custom_id, prompt, template, system, url, param))
    count = 0
    if out is None:
        for piece in made:
            write_bytes(piece)
        return
    with replacing(out, mode=0o666, replaceable=None if overwrite else ()) as file:
        for piece in made:
            file.write(piece)
            count += 1
        if not count:
            raise InputError(f"{rows} has no rows")
    face.data(documents.built(out, count, deployment, url), [f"{out}: {count} request lines for {deployment}"])
    face.next(f"batchkit check {out}")


def check(
    face: Face,
    files: Annotated[list[Path], typer.Argument(help="JSONL files of request lines.", metavar="LINES...")],
    max_problems: Annotated[int, typer.Option("--max-problems", min=1, help="How many problems to print a file.")] = 20,
) -> None:
    """Judge request lines before the service does: every problem with line, byte, reason and remedy.

    Example: batchkit check lines.jsonl
    """
    reports = [check_file(path, max_problems=max_problems) for path in files]
    words: list[str] = []
    for report in reports:
        for problem in report.problems:
            place = f":{problem.line} (byte {problem.byte})" if problem.line else ""
            words.append(f"{report.path}{place}: {problem.severity}: {problem.code}: {problem.message}; {problem.fix}")
        if report.total > len(report.problems):
            words.append(f"{report.path}: {report.total - len(report.problems)} more problems")
        if report.ok:
            words.append(
                f"{report.path}: good: {report.lines} requests, {report.bytes} bytes, {report.url}, "
                f"deployment {report.deployment}"
            )
    face.data(documents.check(reports), words)
    bad = [report for report in reports if not report.ok]
    if bad:
        errors = sum(report.errors for report in bad)
        noun = "problem" if errors == 1 else "problems"
        raise InputError(
            f"{errors} {noun} in {', '.join(report.path for report in bad)}", hint="mend them, check again"
        )


def build_lines(
    rows: Path,
    deployment: str,
    custom_id: str | None,
    prompt: str | None,
    template: Path | None,
    system: str | None,
    url: str,
    param: list[str] | None,
) -> Iterator[Line]:
    """The lines that the flags of build ask for."""
    if not url.startswith("/"):
        url = f"/v1/{'chat/completions' if url == 'chat' else url}"
    return lines(
        read_rows(rows),
        deployment=deployment,
        body=_prompt(prompt, template),
        custom_id=custom_id,
        url=url,
        system=system,
        params=dict(map(parameter, param or [])),
    )


def place(out: Path | None) -> Path | None:
    """Where to write; `-` is stdout, as everywhere."""
    return None if out == Path("-") else out


def _prompt(prompt: str | None, template: Path | None) -> str:
    if (prompt is None) == (template is None):
        raise UsageError("give either --prompt or --template", hint="--prompt 'Classify: {description}'")
    if template is None:
        return prompt or ""
    with reading(template):
        try:
            return template.read_text("utf-8-sig").rstrip("\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{template}, byte {error.start}: not UTF-8", hint="save it as UTF-8") from None


def parameter(text: str) -> tuple[str, Any]:
    """`key=value`, with the value as JSON where it is JSON and as text otherwise."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--param {text!r} is not key=value", hint="--param max_tokens=200")
    try:
        return key, orjson.loads(value)
    except orjson.JSONDecodeError:
        return key, value
