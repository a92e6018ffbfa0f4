"""Every broken setup, and the sentence that doctor prints about it."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from batchkit import AsyncClient, Target
from batchkit.cli import main
from batchkit.cli.doctor import doctor
from batchkit.cli.options import Where
from batchkit.cli.printer import Face
from batchkit.config import Limits, make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.config.facts import load_facts
from batchkit.disk import Workdir
from batchkit.doctor import judge
from batchkit.emulator.settings import Pace
from batchkit.engine.pump import Progress
from batchkit.errors import Interrupted, UsageError
from batchkit.model import Finding, Job, Part, Queue, RemoteFile, State

from .conftest import KEY, SMALL, World, request_lines
from .tools.loopback import AUTHORITY, serving
from .tools.shell import Shell, write_lines

OLD = 86_400 * 3


def env(url: str, **more: str) -> dict[str, str]:
    return {"AZURE_OPENAI_ENDPOINT": url, "AZURE_OPENAI_API_KEY": KEY, "NO_PROXY": "localhost", **more}


def said(shell: Shell, given: Mapping[str, str], *arguments: str, expected: int = 0) -> str:
    """What doctor prints with these variables set, its line ends made blanks. In this process: a new one for each would
    take longer than all it looks at."""
    out, code = io.StringIO(), 0
    with (
        patch.dict(os.environ, {**shell.env, **given}, clear=True),
        patch.object(sys, "argv", ["batchkit", "doctor", "--quiet", *arguments]),
        redirect_stdout(out),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == expected, out.getvalue()
    return re.sub(r"\s+", " ", out.getvalue())


def closed_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def azure(endpoint: str, **changes: Any) -> Target:
    version = changes.pop("api_version", None)
    credential = Credential(Secret("k"), bearer=False)
    made = make_target("t", endpoint, credential, dialect="dated" if version else "v1", api_version=version)
    return replace(made, **changes)


def test_all_is_well_on_the_emulator(shell: Shell, world: World) -> None:
    out = said(shell, env(world.service.url))
    for words in (
        "ok settings: env",
        f"ok endpoint: {world.service.url}/openai/v1 (v1), a service on this machine",
        "ok dns: 127.0.0.1 is 127.0.0.1",
        "is open",
        "ok credential: the environment variable AZURE_OPENAI_API_KEY: accepted by the service",
        "ok api-version: v1 has what is asked of it",
        "ok deployment: the target names none",
        "ok files: 0 input files",
        "ok clock: agrees with the service's to the minute",
        "ok ledger: none yet; the first job makes",
        "can be written",
        "GB free at",
        "ok package: batchkit 0.",
    ):
        assert words in out
    assert not (shell.home / "data/batchkit/ledger.sqlite3").exists()


# Settings, and the way to the service


def test_no_settings(shell: Shell) -> None:
    out = said(shell, {}, expected=4)
    assert (
        "problem settings: no service to talk to: no target is named and no endpoint is set export AZURE_OPENAI" in out
    )
    assert "package: batchkit" in out


def test_a_name_that_does_not_resolve(shell: Shell) -> None:
    out = said(shell, env("https://contoso.openai.azure.invalid"), expected=6)
    assert "warning endpoint:" in out and "not an address of Azure's own" in out
    assert "problem dns: contoso.openai.azure.invalid has no address (" in out
    assert "check the endpoint's name; a resource with a private endpoint only has one inside its own network" in out
    assert "credential" not in out


def test_a_name_that_does_not_resolve_is_tried_twice_and_sent_to_the_doctor(shell: Shell) -> None:
    write_lines(shell.home / "lines.jsonl", request_lines(1))
    given = env("https://nobody.invalid", NO_PROXY="*")
    code, _, err = shell("submit", "lines.jsonl", **given)
    with pytest.raises(socket.gaierror) as unknown:
        socket.getaddrinfo("nobody.invalid", 443)
    again = 1 if unknown.value.errno == socket.EAI_NONAME else 4  # a machine without a resolver cannot say so
    assert (code, err.count("trying again")) == (6, again), err
    assert "next:  batchkit doctor looks at each step of the way there; nothing is lost" in err


def test_a_port_that_refuses(shell: Shell) -> None:
    port = closed_port()
    out = said(shell, env(f"http://127.0.0.1:{port}"), expected=6)
    assert f"problem connection: 127.0.0.1, port {port}, refuses connections start the service: batchkit emulate" in out


def test_a_proxy_of_the_environment_is_named(shell: Shell) -> None:
    proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port()}"}
    out = said(shell, env("https://contoso.openai.azure.com", **proxy), expected=6)
    assert (
        "ok connection: by way of 127.0.0.1, the proxy of the environment, which finds contoso.openai.azure.com" in out
    )
    assert "problem service: https://contoso.openai.azure.com/openai/v1 cannot be reached" in out


def trusting(shell: Shell) -> dict[str, str]:
    """Variables that make the tests' authority one that this machine knows."""
    path = shell.home / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return {"SSL_CERT_FILE": str(path)}


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ("self-signed", True, "localhost: its certificate is self-signed, so nobody vouches for it"),
        ("good", False, "localhost: an authority that this machine does not know signed its certificate if a proxy of"),
        ("expired", True, "localhost: its certificate has expired check this machine's clock first"),
        ("other-name", True, "localhost: its certificate is for another name check the endpoint's name"),
    ],
)
def test_a_certificate_that_is_not_good(shell: Shell, certificate: str, trusted: bool, words: str) -> None:
    authority = trusting(shell) if trusted else {}
    with serving(certificate=certificate) as url:
        out = said(shell, env(url, **authority), expected=6)
    assert f"problem tls: {words}" in out
    assert "credential" not in out


def test_a_good_certificate_and_one_that_is_none(shell: Shell) -> None:
    with serving(certificate="good") as url:
        out = said(shell, env(url, **trusting(shell)))
    assert re.search(r"ok tls: TLSv1.3, certificate good until \w+ +\d+ \d\d:\d\d:\d\d \d{4} GMT", out)
    with serving() as url:
        out = said(shell, env(url.replace("http:", "https:")), expected=6)
    assert "does not speak TLS (" in out
    assert "check the port, and whether the endpoint is http:// on this machine" in out


# Credential, api-version, files, clock


def test_a_wrong_key_names_the_roles(shell: Shell, world: World) -> None:
    out = said(shell, {**env(world.service.url), "AZURE_OPENAI_API_KEY": "wrong"}, expected=5)
    assert "problem credential: not accepted (HTTP 401): 127.0.0.1" in out
    assert judge.USER in out and judge.CONTRIBUTOR in out
    assert "api-version: v1 has what is asked of it" in out


def test_a_missing_role_names_the_roles(shell: Shell) -> None:
    with serving(status=403) as url:
        out = said(shell, env(url), expected=5)
    assert "problem credential: not accepted (HTTP 403)" in out
    assert f"give the identity the role '{judge.USER}' on the resource, or '{judge.CONTRIBUTOR}' if" in out


def test_batches_that_are_not_there(shell: Shell, world: World) -> None:
    wrong = {"OPENAI_BASE_URL": world.service.url + "/v2", "OPENAI_API_KEY": KEY}
    out = said(shell, wrong, expected=5)
    assert f"problem service: there are no batches at {world.service.url}/v2" in out
    assert "an OpenAI base URL ends in /v1" in out
    with serving(status=404) as url:
        out = said(shell, env(url, OPENAI_API_VERSION="2023-05-15"), expected=5)
    assert "problem api-version: 2023-05-15 has no batches; they came with 2024-07-01-preview" in out
    assert "batches need api-version 2024-07-01-preview or later, or leave it away for v1" in out


def test_an_old_api_version_says_what_to_set_instead(shell: Shell, world: World) -> None:
    old = env(world.service.url, OPENAI_API_VERSION="2024-10-21", AZURE_OPENAI_DEPLOYMENT="o3-mini-batch")
    out = said(shell, old)
    assert (
        "warning api-version: 2024-10-21 lets no input file expire, so that only 500 fit (from 2025-03-01-preview on "
        "they do); and may not serve o3-mini (as of 2026-03-19) export OPENAI_API_VERSION=2025-04-01-preview "
        "(api_version in the targets file), or leave it away for v1"
    ) in out
    half = said(shell, env(world.service.url, OPENAI_API_VERSION="2025-03-01-preview"))
    assert "2025-03-01-preview lets no output file expire (from 2025-04-01-preview on they do)" in half
    assert "ok api-version: 2025-04-01-preview" in said(
        shell, env(world.service.url, OPENAI_API_VERSION="2025-04-01-preview")
    )


def test_four_hundred_and_fifty_files(shell: Shell) -> None:
    files = [{"id": f"file-{n}", "object": "file", "status": "processed", "purpose": "batch"} for n in range(500)]
    with serving(files=files[:450]) as url:
        out = said(shell, env(url))
    assert (
        "warning files: 450 of 500 input files without expiry that the resource may hold batchkit files --sweep" in out
    )
    with serving(files=files) as url:
        out = said(shell, env(url), expected=6)
    assert "problem files: 500 of 500 input files without expiry" in out


@pytest.mark.parametrize(
    ("ahead_s", "expected", "words"),
    [
        (130, 0, "warning clock: this machine's clock is 2 min behind: there it is"),
        (-7200, 12, "problem clock: this machine's clock is 2 h 00 min ahead: there it is"),
    ],
)
def test_a_clock_that_is_wrong(shell: Shell, ahead_s: float, expected: int, words: str) -> None:
    with serving(ahead_s=ahead_s) as url:
        out = said(shell, env(url), expected=expected)
    assert words in out
    assert "timedatectl set-ntp true" in out


# The ledger, and this machine


def test_a_directory_that_cannot_be_written(shell: Shell, world: World) -> None:
    (shell.home / "file").write_text("")
    ledger = str(shell.home / "file" / "ledger.sqlite3")
    out = said(shell, env(world.service.url, BATCHKIT_LEDGER=ledger), expected=12)
    assert f"problem directory: working files cannot be written: {shell.home}/file is not a directory" in out
    assert "use --ledger (or BATCHKIT_LEDGER) to keep it elsewhere" in out


def test_a_damaged_ledger(shell: Shell, world: World) -> None:
    ledger = shell.home / "ledger.sqlite3"
    ledger.write_bytes(b"no ledger at all" * 512)
    out = said(shell, env(world.service.url, BATCHKIT_LEDGER=str(ledger)), expected=4)
    assert f"problem ledger: {ledger} is no ledger; it was left untouched" in out
    connection = sqlite3.connect(shell.home / "new.sqlite3")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    out = said(shell, env(world.service.url, BATCHKIT_LEDGER=str(shell.home / "new.sqlite3")), expected=4)
    assert "has format 999, this batchkit knows" in out


def test_what_is_local_is_mended(shell: Shell, world: World) -> None:
    config = shell.home / ".config/batchkit/targets.toml"
    config.parent.mkdir(parents=True)
    key = shell.home / "key"
    key.write_text(KEY)
    config.write_text(f'[targets.prod]\nendpoint = "{world.service.url}"\nkey_file = "{key}"\n')
    key.chmod(0o644)
    config.chmod(0o666)
    out = said(shell, {}, expected=4)
    assert f"warning settings: {config} can be changed by others (mode 0666), and it says where your key goes" in out
    assert f"problem settings: {key} can be read by others (mode 0644) chmod 600 {key}" in out
    out = said(shell, {}, "--fix")
    assert f"ok fix: {key} can be read by you alone now" in out
    assert f"ok fix: {config} can be changed by you alone now" in out
    assert "ok settings: prod" in out
    home = shell.home / "data/batchkit"
    lines = shell.home / "lines.jsonl"
    lines.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in request_lines(2)))
    assert shell("submit", str(lines), "--name", "nightly")[0] == 0
    orphan = Workdir(home / "ledger.jobs").job("0123456789ab")
    orphan.mkdir()
    (orphan / "0-000.lines.jsonl").write_text("{}")
    os.utime(orphan, (time.time() - OLD,) * 2)
    (home / "ledger.sqlite3").chmod(0o644)
    (home / "ledger.jobs").chmod(0o755)
    out = said(shell, {})
    assert f"{home}/ledger.jobs can be read by others (mode 0755), and prompts lie there" in out
    assert f"{home}/ledger.sqlite3 can be read by others (mode 0644)" in out
    assert "working directories that no job knows" in out
    assert "1 job," in out and "whole" in out
    out = said(shell, {}, "--fix")
    assert "1 working directory that no job knows removed" in out
    assert f"{home}/ledger.sqlite3 compacted, from" in out
    assert not orphan.exists()
    assert "warning" not in said(shell, {})


def test_what_hangs_in_the_ledger(world: World) -> None:
    part = Part("p", "j", 0, 0, State.SUBMITTING, 1, 9, "ab" * 32)
    job = Job("j", "nightly", "ab" * 32, "s", "t", "/v1/chat/completions", "d", 0.0, parts=(part,))
    (stuck,) = judge.jobs([job])
    assert stuck.message == "a request of nightly was announced, and its answer never written down"
    held = replace(part, state=State.UPLOADED, held="waiting for quota: full")
    (waiting,) = judge.jobs([replace(job, parts=(held,))])
    assert waiting.message == "1 part held, such as part 0 of 'nightly': waiting for quota: full"
    assert judge.jobs([replace(job, parts=(replace(part, state=State.RUNNING),))]) == []


# Endpoints, quota, a pool


@pytest.mark.parametrize(
    ("target", "verdict", "words"),
    [
        (azure("https://contoso.openai.azure.com"), "ok", "https://contoso.openai.azure.com/openai/v1 (v1)"),
        (azure("https://contoso.services.ai.azure.com"), "ok", "(v1)"),
        (azure("https://contoso.services.ai.azure.com", api_version="2025-04-01-preview"), "warning", "for v1 only"),
        (azure("https://contoso.cognitiveservices.azure.com"), "warning", "not the address that Azure's guide gives"),
        (azure("https://gateway.contoso.com"), "warning", "not an address of Azure's own"),
        (azure("https://westeurope.api.cognitive.microsoft.com"), "problem", "batches need a custom subdomain"),
    ],
)
def test_the_shape_of_an_endpoint(target: Target, verdict: str, words: str) -> None:
    found = judge.endpoint(target)
    assert (found.verdict, words in found.message) == (verdict, True), found
    assert bool(found.hint) == (verdict != "ok")


def test_the_trap_of_a_resource_made_by_the_azure_cli(shell: Shell) -> None:
    proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port()}"}  # nothing leaves this machine
    out = said(shell, env("https://westeurope.api.cognitive.microsoft.com", **proxy), expected=4)
    assert (
        "problem endpoint: westeurope.api.cognitive.microsoft.com is the region's address, as the Azure CLI makes"
        in out
    )
    assert "az cognitiveservices account update --name NAME --resource-group GROUP --custom-domain NAME" in out


def test_the_quota(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, deployments=["gpt-4o-batch:gpt-4o:GlobalBatch:50M"])
    with world.client("dated", deployment="gpt-4o-batch") as client:
        client.submit(request_lines(3), name="nightly")
        findings = {finding.what: finding for finding in client.doctor()}
    assert (
        findings["quota"].message
        == "about 111 tokens of ours are enqueued, of a limit of 50,000,000 as the service last said"
    )
    target = replace(world.target(), deployment="gpt-4o", limits=Limits(enqueued_tokens=1000))
    for why, said in (
        ("waiting for quota: no room", "the queue is full, and tried again"),
        ("the service asks to wait: busy", "nothing is sent now, and it is tried again"),
        ("the target refuses this key or address: 401", "the target is set aside, and has its next turn"),
        ("https://x cannot be reached", "the target is set aside, and has its next turn"),
    ):
        full = judge.quota(target, Queue(bytes=8000, next_try_at=160.0, why=why), load_facts(), 100.0)
        assert full is not None
        when = "in 1 min, at 1970-01-01 00:02 UTC"
        assert full.message == f"about 2,000 tokens of ours are enqueued; {said} {when}: {why}"
    fresh = judge.quota(replace(target, limits=Limits()), Queue(), load_facts(), 0.0)
    assert fresh is not None and fresh.hint == "batchkit limits gpt-4o"


def test_every_target_of_a_pool_is_looked_at(shell: Shell, world: World) -> None:
    port = closed_port()
    config = shell.home / "targets.toml"
    config.write_text(f"""
        [targets.east]
        endpoint = "{world.service.url}"
        [targets.west]
        endpoint = "http://127.0.0.1:{port}"
        [targets.both]
        pool = ["east", "west"]
    """)
    out = said(shell, {"AZURE_OPENAI_API_KEY": KEY}, "-t", "both", "--config", str(config), expected=6)
    assert "ok settings: both, a pool of 2 targets" in out
    assert "ok east: credential: the environment variable AZURE_OPENAI_API_KEY: accepted by the service" in out
    assert f"problem west: connection: 127.0.0.1, port {port}, refuses connections" in out


def test_files_with_a_cap_of_the_users_own(world: World) -> None:
    found = [RemoteFile(str(n), expires_at=1.0) for n in range(9)]
    finding = judge.files(replace(world.target(), limits=Limits(files=10)), found, load_facts())
    assert (finding.verdict, finding.message) == ("warning", "9 of 10 input files that the resource may hold")
    other = judge.files(world.target("openai"), found, load_facts())
    assert (other.verdict, other.message) == ("ok", "9 input files, 0 without expiry")


# The deployment


def by_what(findings: tuple[Finding, ...]) -> Mapping[str, Finding]:
    return {finding.what: finding for finding in findings}


@pytest.mark.parametrize(
    ("deployment", "words"),
    [
        (
            "gpt-4o-standard",
            "it is not of type Global Batch or Data Zone Batch, or the line was refused (invalid_request: ",
        ),
        ("gpt-4o-missing", "there is no deployment of this name at the resource (model_not_found: "),
    ],
)
def test_a_probe_of_a_deployment_that_runs_no_batches(
    make_world: Callable[..., World], deployment: str, words: str
) -> None:
    world = make_world(fail_rate=0.0, deployments=["gpt-4o-batch", "gpt-4o-standard:gpt-4o:Standard"])
    with world.client(deployment=deployment) as client:
        before = by_what(client.doctor())
        assert "shows only when a batch is made" in before["deployment"].message
        found = by_what(client.doctor(probe=True))
        assert (found["probe"].verdict, found["probe"].exit) == ("problem", 5)
        assert f"{deployment}: the service refused the batch: {words}" in found["probe"].message
        assert found["probe"].hint == judge.MAKE
        known = by_what(client.doctor())["deployment"]
        assert (known.verdict, words in known.message) == ("problem", True)
        assert client.files()[0] == ()


def test_a_probe_of_a_deployment_that_does_is_cancelled_and_leaves_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, deployments=["gpt-4o-batch"], pace=Pace(running_s=50_000.0))
    with world.client(deployment="gpt-4o-batch") as client:
        found = by_what(client.doctor(probe=True))
        assert found["probe"].message == "gpt-4o-batch runs batches: the service took one of a single request"
        (batch,) = world.batches()
        assert batch["status"] == "cancelled"
        (job,) = client.list()
        assert job.settled_at is not None
        assert client.files()[0] == ()
        again = by_what(client.doctor())["deployment"]
        assert again.message == f"gpt-4o-batch runs batches, as job {job.name!r} showed"


def test_a_deployment_that_was_mended_is_asked_anew(make_world: Callable[..., World]) -> None:
    for options, verdict in (({"deployments": ["d:gpt-4o:Standard"]}, "problem"), ({"deployments": ["d"]}, "ok")):
        world = make_world(fail_rate=0.0, **options)
        with world.client(deployment="d", identity="the resource") as client:
            assert by_what(client.doctor(probe=True))["probe"].verdict == verdict
            assert by_what(client.doctor())["deployment"].verdict == verdict
            world.clock.advance(100.0)


def test_a_probe_that_is_under_way_is_gone_on_with(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, pace=Pace(validating_s=1500.0))
    with world.client(poll_interval_s=300.0) as client:
        found = by_what(client.doctor(probe=True, deployment="gpt-4o-batch"))
        assert "the service has not judged the batch yet (validating, after 20 min)" in found["probe"].message
        found = by_what(client.doctor(probe=True, deployment="gpt-4o-batch"))
        assert found["probe"].verdict == "ok"
    assert len(world.batches()) == 1


def test_a_probe_is_waited_for_as_long_as_is_said(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "batchkit")
    world = make_world(fail_rate=0.0, pace=Pace(validating_s=9000.0, cancelling_s=9000.0))
    with world.client(deployment="gpt-4o-batch") as client:
        began = world.clock.now()
        probe = by_what(client.doctor(probe=True, timeout_s=300.0))["probe"]
        assert world.clock.now() - began < 400.0
        assert "waiting up to 5 min for the service to judge a batch" in caplog.text
        (job,) = client.list()
        assert (probe.verdict, "validating, after 5 min" in probe.message) == ("warning", True)
        assert f"batchkit cancel {job.name} --give-up ends it" in probe.hint
        world.clock.advance(8800.0)  # it is judged while somebody looks again, and then takes long to be cancelled
        probe = by_what(client.doctor(probe=True, timeout_s=600.0))["probe"]
        assert (probe.verdict, f"which it has not cancelled yet: job {job.name}" in probe.message) == ("ok", True)
        assert probe.hint.endswith(f"batchkit cancel {job.name} --give-up ends it at once")
    assert len(world.batches()) == 1


def test_a_probe_that_may_not_upload_names_the_role_and_leaves_no_job(make_world: Callable[..., World]) -> None:
    world = make_world(fail_rate=0.0, faults=["error,403,call=upload"])
    with world.client(deployment="gpt-4o-batch") as client:
        found = by_what(client.doctor(probe=True))["probe"]
        assert (found.verdict, found.exit) == ("problem", 5)
        assert judge.CONTRIBUTOR in found.hint
        (job,) = client.list()
        assert job.state is State.DROPPED
        assert client.run_due() == []
    assert world.batches() == []


def test_each_target_of_a_pool_is_probed(make_world: Callable[..., World], tmp_path: Path) -> None:
    east = make_world(fail_rate=0.0, deployments=["gpt-4o-batch"])
    west = make_world(fail_rate=0.0, deployments=["other"])
    members = tuple(
        replace(world.target(limits=SMALL), name=name, deployment="gpt-4o-batch")
        for name, world in (("east", east), ("west", west))
    )
    with replace(east, home=tmp_path).client(pool=members) as client:
        probes = [finding for finding in client.doctor(probe=True) if finding.what == "probe"]
    assert [(finding.target, finding.verdict) for finding in probes] == [("east", "ok"), ("west", "problem")]


def test_a_probe_asks_first_and_is_not_made_where_all_is_not_well(shell: Shell, world: World) -> None:
    code, _, err = shell("doctor", "--probe", **env(world.service.url))
    assert (code, "a probe costs a request, and needs your word" in err) == (2, True)
    assert "batchkit doctor --probe --yes" in err
    out = said(shell, env(world.service.url), "--probe", "--yes", expected=2)
    assert "problem probe: no deployment to probe batchkit doctor --probe -d NAME" in out
    wrong = {**env(world.service.url), "AZURE_OPENAI_API_KEY": "wrong"}
    out = said(shell, wrong, "--probe", "--yes", "-d", "gpt-4o-batch", expected=5)
    assert "warning probe: no batch was made: what is wrong above comes first" in out
    assert world.batches() == []
    with pytest.raises(UsageError):
        doctor(Face(), Where(), probe=True)


def test_a_probe_leaves_that_of_a_deployment_alone_whose_name_begins_alike(make_world: Callable[..., World]) -> None:
    world = make_world(deployments=("gpt-4o", "gpt-4o-batch"), pace=Pace(validating_s=5000.0))
    with world.client() as client:
        for deployment in ("gpt-4o-batch", "gpt-4o"):
            client.doctor(probe=True, deployment=deployment)
        jobs = client.list().jobs
    assert (len(jobs), [job.cancelled_at for job in jobs]) == (2, [None, None])


def test_whoever_stops_a_probe_starts_no_other_one(make_world: Callable[..., World]) -> None:
    slow, other = make_world(pace=Pace(validating_s=300.0)), make_world()
    east, west = (
        replace(world.target(), name=name, deployment="gpt-4o-batch")
        for world, name in ((slow, "east"), (other, "west"))
    )

    async def work() -> None:
        def seen(progress: Progress) -> None:
            if progress.job.status == "validating":
                client.interrupt()

        client = AsyncClient(
            replace(east, name="pool", pool=(east, west)),
            ledger=slow.home / "ledger.sqlite3",
            clock=slow.clock,
            on_progress=seen,
        )
        async with client:
            with pytest.raises(Interrupted):
                await client.doctor(probe=True)

    asyncio.run(work())
    assert (len(slow.batches()), other.batches()) == (1, [])
