"""The table of what is published: whole, dated, what the code goes by too, readable, and the user's to override."""

from __future__ import annotations

import os
import pty
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from batchkit import ConfigError, Limits, check
from batchkit.cli.limits import limits
from batchkit.cli.printer import Face
from batchkit.config import MIN_POLL_S, Dialect, Target, make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.config.facts import load_facts
from batchkit.emulator.settings import Limits as EmulatorLimits

from .test_request_kinds import lines
from .test_schemas import validate
from .tools.shell import Shell

FACTS = load_facts(env={"XDG_CONFIG_HOME": "/nowhere"})
VERSIONS = (
    "2023-05-15", "2024-07-01-preview", "2024-10-01-preview", "2024-10-21", "2025-01-01-preview",
    "2025-03-01-preview", "2025-04-01-preview",
)  # fmt: skip


def azure(version: str | None = None) -> Target:
    credential = Credential(Secret("k"), bearer=False)
    dialect: Dialect = "dated" if version else "v1"
    return make_target("t", "https://contoso.openai.azure.com", credential, dialect=dialect, api_version=version)


def test_the_code_goes_by_the_same_numbers() -> None:
    ours, number = Limits(), FACTS.number
    assert (ours.max_lines, ours.max_bytes) == (number("requests_per_file"), number("file_bytes"))
    assert number("poll") == MIN_POLL_S
    target = azure()
    assert number("expiry_least") <= target.expires_s <= number("expiry_most")
    assert target.max_files == number("files_expiring")
    assert replace(target, expires_s=0).max_files == number("files_lasting")
    emulated = EmulatorLimits()
    assert (emulated.max_lines, emulated.max_bytes) == (ours.max_lines, ours.max_bytes)
    assert (emulated.files, emulated.expiring_files) == (number("files_lasting"), number("files_expiring"))


@pytest.mark.parametrize("version", [None, *VERSIONS])
def test_the_code_goes_by_the_same_versions(version: str | None) -> None:
    target = azure(version)
    assert FACTS.features["output_expiry"].known(target.dialect, version) == target.output_expiry
    assert FACTS.features["filter"].known(target.dialect, version) == target.filters
    assert FACTS.features["batches"].known(target.dialect, version) == (version != "2023-05-15")
    expiring = version in (None, "2025-03-01-preview", "2025-04-01-preview")
    assert FACTS.features["file_expiry"].known(target.dialect, version) == expiring


def test_every_name_in_the_table_is_one() -> None:
    groups = [(offer.models, offer.type) for offer in FACTS.offers.values()]
    groups += [(quota.models, quota.type) for quota in FACTS.quotas.values()]
    for models, kind in groups:
        assert set(models) <= set(FACTS.models)
        assert kind in ("GlobalBatch", "DataZoneBatch")
    assert {model.family for model in FACTS.models.values()} - {""} == set(FACTS.families)
    assert all(source.url.startswith("https://") for source in FACTS.sources.values())
    assert all(FACTS.model_of(f"my-{name}-batch") == name for name in FACTS.models)


def test_limits_prints_all_of_a_model_and_of_a_region(shell: Shell) -> None:
    code, out, _ = shell("limits")
    assert code == 0
    for words in (
        "100,000        requests  in one input file",
        "5B          200M     50M",
        "file_expiry",
        "22 regions",
    ):
        assert words in out
    code, out, err = shell("limits", "gpt-4.1-batch", "--region", "Sweden Central")
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == [
        "gpt-4.1: 2025-04-14",
        "  GlobalBatch in swedencentral, as of 2026-01-27",
        "  DataZoneBatch in swedencentral, as of 2026-01-27",
        "  over quota a batch is refused at once there",
    ]
    code, out, _ = shell("limits", "o3", "--region", "swedencentral", "--json")
    document = orjson.loads(out)
    validate("limits", document)
    assert (document["model"], [*document["models"]], document["warnings"]) == ("o3", ["o3"], [])
    assert {offer["type"] for offer in document["offers"].values()} == {"GlobalBatch", "DataZoneBatch"}
    assert "max_tokens" in document["families"]["reasoning"]["refuses"]


def test_the_tables_fit_a_narrow_terminal_and_are_not_folded_for_others(shell: Shell) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        words = [sys.executable, "-m", "batchkit", "limits"]
        os.execve(sys.executable, words, {**shell.env, "TERM": "xterm", "COLUMNS": "80"})
    seen = b""
    with suppress(OSError):
        while piece := os.read(terminal, 65536):
            seen += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    lines = seen.decode().splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith("  https://")] == []
    folded = " ".join(" ".join(lines).split())
    plain = shell("limits", COLUMNS="80")[1]
    for limit in FACTS.limits.values():
        assert limit.about in plain
        assert limit.about.split()[0] in folded


@pytest.mark.parametrize(
    ("model", "region", "words"),
    [
        ("gpt-99", None, "gpt-99 is not in the table; the table is of 2026-01-27 and may have aged"),
        ("gpt-5-mini", None, "gpt-5-mini is not offered for batches, as far as is published"),
        ("gpt-5", "italynorth", "gpt-5 is not offered for batches in italynorth"),
        (None, "moonbase1", "the region moonbase1 is not in the table"),
    ],
)
def test_what_the_table_does_not_know_is_a_warning(
    capsysbinary: pytest.CaptureFixture[bytes], model: str | None, region: str | None, words: str
) -> None:
    limits(Face(as_json=True, quiet=True), model, region)
    document = orjson.loads(capsysbinary.readouterr().out)
    validate("limits", document)
    assert document["warnings"][0].startswith(words)


OWN = """
date = 2026-11-20
[limits.requests_per_file]
value = 50_000
[models."llama-9"]
family = "plain"
[families.plain]
refuses = ["seed"]
instead = {}
"""


def test_a_file_of_the_users_own_overrides_entry_by_entry(tmp_path: Path, shell: Shell) -> None:
    own = tmp_path / "facts.toml"
    own.write_text(OWN)
    facts = load_facts(own)
    assert facts.number("requests_per_file") == 50_000
    assert facts.limits["requests_per_file"].about == FACTS.limits["requests_per_file"].about
    assert facts.dated(facts.limits["requests_per_file"]) == "2026-11-20"
    assert facts.number("file_bytes") == FACTS.number("file_bytes")
    (problem,) = check(lines(tmp_path / "lines.jsonl", {"model": "llama-9", "seed": 1}), facts=facts).problems
    assert "llama-9 refuses as a plain model (published 2026-11-20)" in problem.message
    assert load_facts(env={"BATCHKIT_FACTS": str(own)}) == facts
    beside = shell.home / ".config/batchkit/facts.toml"
    beside.parent.mkdir(parents=True)
    beside.write_text(OWN)
    code, out, err = shell("limits", "llama-9")
    assert "refuses seed, as of 2026-11-20" in out
    assert (code, "warning: llama-9 is not offered for batches" in err) == (0, True)
    assert "llama-9 refuses" in shell("check", str(tmp_path / "lines.jsonl"))[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits", "is not valid TOML"),
        ("", "has no date of its facts"),
        ("date = 2026-11-20\nlimit = 3", "'limit' is no table of facts"),
        ("date = 2026-11-20\n[limits]\nx = 3", "[limits.x] is not a table"),
        ("date = 2026-11-20\n[limits.x]\nvalue = 3", "[limits.x] is not whole"),
        ("date = 2026-11-20\n[limits.poll]\nvalue = '60'", "[limits.poll] value must be a whole number"),
        ("date = 2026-11-20\n[models.x]\nversions = [1]", "[models.x] has a key it cannot have, or of the wrong type"),
        ("date = 2026-11-20\n[models.x]\nsource = 'y'", "[models.x] names a source that is not there"),
    ],
)
def test_what_is_wrong_with_it_is_told(tmp_path: Path, text: str, words: str) -> None:
    own = tmp_path / "facts.toml"
    own.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_facts(own)
    assert words in str(caught.value)
