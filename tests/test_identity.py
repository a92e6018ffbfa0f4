"""Microsoft Entra ID, by a token service of our own: found as azure-identity finds it, renewed, and seen nowhere."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from batchkit import Client, load_target
from batchkit.config.entra import credential, scope_for
from batchkit.emulator.settings import Pace
from batchkit.errors import CredentialError, Unauthorized

from .conftest import World, request_line, request_lines
from .tools.tokens import Tokens, serving

CLOSED = "http://127.0.0.1:9"
CLIENT = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No variable of Azure's, and a home of its own."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "OPENAI_", "BATCHKIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return monkeypatch


def managed(env: pytest.MonkeyPatch, world: World, tokens: Tokens) -> None:
    """The variables of a container with a managed identity."""
    env.setenv("IDENTITY_ENDPOINT", f"http://{tokens.netloc}/msi/token")
    env.setenv("IDENTITY_HEADER", "identity-header-5d1")
    written(world)


def written(world: World) -> None:
    """The targets file that asks for tokens at the emulator."""
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "batchkit" / "targets.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'[targets.env]\nendpoint = "{world.service.url}"\nentra = true\n')


def client_of(world: World) -> Client:
    return Client(load_target(), ledger=world.home / "ledger.sqlite3", clock=world.clock)


def kept(home: Path, tokens: Tokens) -> list[Path]:
    """The files that hold a token, or the start of one."""
    pieces = [token.encode() for token in tokens.issued]
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path for path in files if any(piece in path.read_bytes() for piece in pieces)]


def test_a_managed_identity_is_found_and_its_token_is_seen_nowhere(
    world: World, plain_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(world.service) as tokens:
        managed(plain_environment, world, tokens)
        plain_environment.setenv("AZURE_CLIENT_ID", CLIENT)
        with client_of(world) as client:
            results = client.run(request_lines(3), name="nightly")
        assert results.report.ok == 3
        assert len(tokens.issued) == 1
        assert tokens.asked[0]["resource"] == "https://cognitiveservices.azure.com"
        assert tokens.asked[0]["client_id"] == CLIENT
        assert len(world.batches()) == 1
        assert kept(world.home, tokens) == []
        assert not any(token in caplog.text for token in tokens.issued)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_token_that_runs_out_amid_a_job_is_renewed_and_one_batch_is_made(
    make_world: Callable[..., World], plain_environment: pytest.MonkeyPatch, calls: int
) -> None:
    # Each token is good for so few calls that every kind of call meets one that has just expired.
    world = make_world(fail_rate=0.0, pace=Pace(running_s=30 * 3600.0))
    plain_environment.setenv("BATCHKIT_POLL", str(6 * 3600))
    with serving(world.service, calls=calls) as tokens:
        managed(plain_environment, world, tokens)
        with client_of(world) as client:
            results = client.run(request_lines(3), name="nightly")
        assert results.report.ok == 3
        assert len(world.batches()) == 1
        refused = [call.name for call in world.service.calls if call.status == 401]
        assert set(refused) >= (
            {"upload", "create_batch", "list_batches", "content"} if calls == 1 else {"list_batches"}
        )
        assert len(tokens.issued) == len(refused) + 1
        assert kept(world.home, tokens) == []


def test_an_upload_that_is_refused_amid_its_bytes_is_sent_whole_with_another_token(
    world: World, plain_environment: pytest.MonkeyPatch
) -> None:
    lines = [request_line(number, text="x" * 100_000) for number in range(60)]
    with serving(world.service, calls=1) as tokens:
        managed(plain_environment, world, tokens)
        with client_of(world) as client:
            job = client.submit(lines, name="nightly")
        assert [call.status for call in world.service.calls if call.name == "upload"] == [401, 200]
        with world.http() as http:
            (file,) = http.get("/openai/v1/files").json()["data"]
        assert file["bytes"] == job.parts[0].bytes > 6_000_000


def test_a_token_is_asked_for_again_before_its_end(world: World, plain_environment: pytest.MonkeyPatch) -> None:
    with serving(world.service, lifetime_s=200) as tokens:
        managed(plain_environment, world, tokens)
        with client_of(world) as client:
            assert [client.files() for _ in range(3)] == [((), ())] * 3
        assert len(tokens.issued) > 1
        assert not [call for call in world.service.calls if call.status == 401]


def test_a_revoked_identity_is_renewed_once_and_then_told_which_roles_it_needs(
    world: World, plain_environment: pytest.MonkeyPatch
) -> None:
    with serving(world.service, calls=0) as tokens:
        managed(plain_environment, world, tokens)
        with client_of(world) as client, pytest.raises(Unauthorized) as caught:
            client.submit(request_lines(2), name="nightly")
        assert caught.value.exit == 5
        assert "Access token is missing" in str(caught.value)
        assert "Cognitive Services OpenAI User" in caught.value.hint
        assert "Cognitive Services OpenAI Contributor" in caught.value.hint
        assert len(tokens.issued) == 2
        assert len(world.service.calls) == 2
    assert world.batches() == []


def test_an_identity_service_that_is_away_for_a_while_only_moves_the_next_look(
    make_world: Callable[..., World], plain_environment: pytest.MonkeyPatch
) -> None:
    world = make_world(fail_rate=0.0)
    with serving(world.service, calls=6) as tokens:
        managed(plain_environment, world, tokens)
        seen: list[str] = []

        with client_of(world) as client:
            job = client.submit(request_lines(2), name="nightly")
            for name in tokens.issued:
                world.service.accept(name, 0)
            tokens.down = True
            for looks, snapshot in enumerate(client.track(job)):
                seen.append(snapshot.status)
                tokens.down = looks < 2
            assert client.fetch(job).report.ok == 2
        assert len(world.batches()) == 1


def test_no_identity_at_all_is_one_sentence_with_both_ways(world: World, plain_environment: pytest.MonkeyPatch) -> None:
    with serving(world.service) as tokens:
        managed(plain_environment, world, tokens)
        tokens.down = True
        with client_of(world) as client, pytest.raises(CredentialError) as caught:
            client.submit(request_lines(2), name="nightly")
        assert "ManagedIdentityCredential" in str(caught.value)
        assert "az login" in caught.value.hint
        assert "AZURE_OPENAI_API_KEY" in caught.value.hint
        assert "\n" not in str(caught.value)


def authority(env: pytest.MonkeyPatch, home: Path) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 from an authority that only this test trusts."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(home / "ca.pem")
    env.setenv("REQUESTS_CA_BUNDLE", str(home / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("kind", ["secret", "certificate", "workload", "az"])
def test_other_identities_are_found_as_azure_identity_finds_them(
    world: World, plain_environment: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    env = plain_environment
    with serving(world.service, tls=authority(env, tmp_path)) as tokens:
        written(world)
        env.setenv("BATCHKIT_SCOPE", "https://ai.azure.com/.default")
        if kind == "az":
            token = tokens.issue({})
            az = tmp_path / "bin" / "az"
            az.parent.mkdir()
            words = f'{{"accessToken": "{token}", "expires_on": 4102444800, "expiresOn": "2100-01-01 00:00:00.000000"}}'
            az.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path}/asked'\necho '{words}'\n")
            az.chmod(0o755)
            env.setenv("PATH", str(az.parent), prepend=os.pathsep)
            env.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
        else:
            env.setenv("AZURE_AUTHORITY_HOST", f"https://{tokens.netloc}")
            env.setenv("AZURE_TENANT_ID", "9188040d-6c67-4c5b-b112-36a304b66dad")
            env.setenv("AZURE_CLIENT_ID", CLIENT)
        if kind == "secret":
            env.setenv("AZURE_CLIENT_SECRET", "client-secret-77c1")
        if kind == "certificate":
            app = trustme.CA().issue_cert("app", key_type=trustme.KeyType.RSA)
            app.private_key_and_cert_chain_pem.write_to_path(tmp_path / "app.pem")
            env.setenv("AZURE_CLIENT_CERTIFICATE_PATH", str(tmp_path / "app.pem"))
        if kind == "workload":
            (tmp_path / "federated").write_text("federated-token")
            env.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "federated"))
        with client_of(world) as client:
            assert client.files() == ((), ())
        assert len(tokens.issued) == 1
        if kind == "az":
            assert "--resource https://ai.azure.com" in (tmp_path / "asked").read_text()
        else:
            asked = tokens.asked[0]
            assert asked["scope"].split()[0] == "https://ai.azure.com/.default"
            assert asked.get("client_secret") == ("client-secret-77c1" if kind == "secret" else None)
            proof = asked.get("client_assertion", "")
            assert proof == ("federated-token" if kind == "workload" else "") or kind == "certificate"
            assert proof.count(".") == (2 if kind == "certificate" else 0)


def test_the_command_line_shows_no_token_even_when_it_says_all(
    world: World, plain_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving(world.service, calls=2) as tokens:
        managed(plain_environment, world, tokens)
        env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
        command = [sys.executable, "-m", "batchkit", "targets", "test", "-v"]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "Microsoft Entra ID" in done.stdout
        assert tokens.issued
        assert not any(token in done.stdout + done.stderr for token in tokens.issued)
        assert kept(tmp_path, tokens) == []


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("name.openai.azure.us", "us"),
        ("usgovvirginia.api.cognitive.microsoft.us", "us"),
        ("name.openai.azure.cn", "cn"),
        ("name.openai.azure.com", "com"),
        ("gateway.contoso.us", "com"),
        ("gateway.contoso.cn", "com"),
        ("notazure.us", "com"),
    ],
)
def test_the_cloud_is_known_by_microsofts_own_hosts(host: str, cloud: str) -> None:
    scope = f"https://cognitiveservices.azure.{cloud}/.default"
    assert scope_for(host) == scope
    assert scope in credential(host, {}).origin


@pytest.mark.parametrize(
    "address",
    ["https://name.openai.azure.co", "https://name.openai.azure.com.example", "http://127.0.0.1:8765", "https://gw.us"],
)
def test_tokens_go_unasked_to_azure_alone(plain_environment: pytest.MonkeyPatch, address: str) -> None:
    plain_environment.setenv("AZURE_OPENAI_ENDPOINT", address)
    with pytest.raises(CredentialError, match="AZURE_OPENAI_API_KEY") as caught:
        load_target()
    assert "export AZURE_OPENAI_API_KEY=…" in caught.value.hint
    assert "--entra" in caught.value.hint


def test_nothing_heavy_is_imported_before_a_token_is_needed(tmp_path: Path) -> None:
    script = (
        "import sys, batchkit.cli, batchkit.client; from batchkit import load_target;"
        "env = {'AZURE_OPENAI_ENDPOINT': 'https://contoso.openai.azure.com', 'XDG_CONFIG_HOME': '/nowhere'};"
        "assert load_target(env=env).credential.entra;"
        "print(*sorted({'azure.identity', 'azure.core', 'msal', 'requests', 'keyring'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "\n"
