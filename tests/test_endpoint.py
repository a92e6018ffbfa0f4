"""What people paste as an endpoint: understood, or refused with the right form spelled out."""

from __future__ import annotations

import pytest

from batchkit import ConfigError, Target, load_target
from batchkit.config import make_target
from batchkit.config.credentials import Credential, Secret
from batchkit.config.endpoint import DIALECTS, Dialect, read

V1 = "https://contoso.openai.azure.com/openai/v1"
DATED = "https://contoso.openai.azure.com/openai"
VERSION = "2025-04-01-preview"


@pytest.mark.parametrize(
    ("pasted", "base_url"),
    [
        ("https://contoso.openai.azure.com", V1),
        ("https://contoso.openai.azure.com/", V1),
        ("https://contoso.openai.azure.com/openai", V1),
        ("https://contoso.openai.azure.com/openai/", V1),
        ("https://contoso.openai.azure.com/openai/v1", V1),
        ("https://contoso.openai.azure.com/openai/v1/", V1),
        ("https://contoso.openai.azure.com/openai/v1/chat/completions", V1),
        ("https://contoso.openai.azure.com/openai/v1/batches", V1),
        ("https://CONTOSO.openai.azure.com/", V1),
        ("  https://contoso.openai.azure.com/ \n", V1),
        ('"https://contoso.openai.azure.com/"', V1),
        ("“https://contoso.openai.azure.com/”,", V1),
        ("<https://contoso.openai.azure.com>", V1),
        ("contoso.openai.azure.com", V1),
        ("contoso.openai.azure.com/openai/v1/", V1),
        ("https://contoso.services.ai.azure.com/", "https://contoso.services.ai.azure.com/openai/v1"),
        ("https://contoso.services.ai.azure.com/models", "https://contoso.services.ai.azure.com/openai/v1"),
        (
            "https://contoso.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
            "https://contoso.services.ai.azure.com/openai/v1",
        ),
        ("https://contoso.services.ai.azure.com/api/projects/X", "https://contoso.services.ai.azure.com/openai/v1"),
        (
            "https://contoso.services.ai.azure.com/api/projects/X/openai/v1/",
            "https://contoso.services.ai.azure.com/openai/v1",
        ),
        ("https://contoso.cognitiveservices.azure.com/", "https://contoso.cognitiveservices.azure.com/openai/v1"),
        ("https://contoso.openai.azure.us/", "https://contoso.openai.azure.us/openai/v1"),
        ("https://contoso.openai.azure.cn/", "https://contoso.openai.azure.cn/openai/v1"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765/openai/v1"),
        ("localhost:8765", "http://localhost:8765/openai/v1"),
        ("https://gate.example/team/openai", "https://gate.example/team/openai/v1"),
        ("https://gate.example/team/openai/v1", "https://gate.example/team/openai/v1"),
    ],
)
def test_what_is_understood_as_v1(pasted: str, base_url: str) -> None:
    found = read(pasted)
    assert (found.base_url, found.dialect, found.api_version, found.remarks) == (base_url, "v1", None, ())


@pytest.mark.parametrize(
    ("pasted", "given", "version"),
    [
        ("https://contoso.openai.azure.com", VERSION, VERSION),
        ("https://contoso.openai.azure.com/openai", VERSION, VERSION),
        ("https://contoso.openai.azure.com/openai/batches?api-version=2025-03-01-preview", None, "2025-03-01-preview"),
        ("https://contoso.openai.azure.com/?api-version=2025-03-01-preview", VERSION, VERSION),
    ],
)
def test_what_is_understood_as_dated(pasted: str, given: str | None, version: str) -> None:
    found = read(pasted, api_version=given)
    assert (found.base_url, found.dialect, found.api_version) == (DATED, "dated", version)


def test_a_portals_address_of_a_deployment_gives_deployment_and_version() -> None:
    pasted = "https://contoso.openai.azure.com/openai/deployments/gpt%2D4o/chat/completions?api-version="
    found = read(pasted + VERSION)
    assert (found.base_url, found.dialect, found.api_version, found.deployment) == (DATED, "dated", VERSION, "gpt-4o")
    assert found.remarks == (
        "the address names the deployment 'gpt-4o': it must be a Global-Batch or Data-Zone-Batch one",
    )
    old = read(pasted + "2024-02-01")
    assert (old.base_url, old.api_version, old.deployment) == (V1, None, "gpt-4o")
    assert old.remarks[0] == "the address names api-version 2024-02-01, which has no batches: the v1 API is used"


@pytest.mark.parametrize(
    ("pasted", "base_url"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
        ("https://api.portkey.ai/v1", "https://api.portkey.ai/v1"),
    ],
)
def test_what_is_understood_as_openai(pasted: str, base_url: str) -> None:
    assert read(pasted, dialect="openai").base_url == base_url


@pytest.mark.parametrize(
    ("pasted", "dialect", "says", "hint"),
    [
        ("contoso", None, "'contoso' is not an endpoint", "https://contoso.openai.azure.com"),
        ("", None, "is not an endpoint", "it looks like https://NAME.openai.azure.com"),
        ("https://con toso.openai.azure.com", None, "is not an endpoint", "https://NAME.openai.azure.com"),
        ("gate.example/openai", None, "is not an endpoint", "https://NAME.openai.azure.com"),
        ("https://contoso.openai.azure.com:99999", None, "is not an endpoint", "https://NAME.openai.azure.com"),
        ("https://me:pw-71@contoso.openai.azure.com", None, "user name or password", "give the address alone"),
        ("http://contoso.openai.azure.com", None, "unencrypted", "https://contoso.openai.azure.com"),
        ("http://gate.example", None, "unencrypted", "use https://"),
        ("https://portal.azure.com/#view/x", None, "portal.azure.com is the portal's address", "Keys and Endpoint"),
        ("https://portal.azure.com/#@x.com/resource/y", None, "the portal's address", "Keys and Endpoint"),
        ("portal.azure.com/#@x.com/resource/y", None, "the portal's address", "Keys and Endpoint"),
        ("https://me:pw-71@portal.azure.com", None, "user name or password", "give the address alone"),
        ("https://me:pw#71@contoso.openai.azure.com", None, "user name or password", "give the address alone"),
        ("https://ai.azure.com/build", None, "ai.azure.com is the portal's address", "Keys and Endpoint"),
        ("https://oai.azure.com/resource", None, "oai.azure.com is the portal's address", "Keys and Endpoint"),
        ("https://api.openai.com/v1", None, "api.openai.com is OpenAI, not Azure", "--dialect openai"),
        ("https://contoso.openai.azure.com/x", None, "path that does not belong", "contoso.openai.azure.com alone"),
        ("https://contoso.openai.azure.com/x?key=k-8812", None, "path that does not belong", ""),
        ("https://YOUR-RESOURCE.openai.azure.com", None, "is a placeholder", "Keys and Endpoint"),
        ("https://your-resource-name.openai.azure.com/openai/v1/", None, "is a placeholder", "Keys and Endpoint"),
        ("https://my-resource.openai.azure.com", None, "is a placeholder", "Keys and Endpoint"),
        ("https://<resource>.openai.azure.com", None, "is a placeholder", "Keys and Endpoint"),
        ("https://{resource}.openai.azure.com", None, "is a placeholder", "Keys and Endpoint"),
        ("https://NAME.openai.azure.com", None, "is a placeholder", "Keys and Endpoint"),
        ("https://example.com/v1", "openai", "is a placeholder", "Keys and Endpoint"),
        ("$AZURE_OPENAI_ENDPOINT", None, "is a placeholder", "Keys and Endpoint"),
        ("https://contoso.openai.azure.com", "dated", "the dated API needs an api-version", "--api-version 2025"),
    ],
)
def test_what_is_refused_says_the_right_form(pasted: str, dialect: Dialect | None, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(pasted, dialect=dialect)
    assert says in str(caught.value)
    assert hint in caught.value.hint
    assert "pw-71" not in str(caught.value) + caught.value.hint
    assert "k-8812" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("version", ["lately", "2025-13-01", "2025-04-01-beta", "2025-4-1"])
@pytest.mark.parametrize("dialect", [*DIALECTS, None])
def test_a_version_that_is_none(version: str, dialect: Dialect | None) -> None:
    with pytest.raises(ConfigError, match=f"'{version}' is no api-version"):
        read("https://contoso.openai.azure.com", dialect=dialect, api_version=version)


@pytest.mark.parametrize("version", ["latest", "v1"])
def test_the_latest_of_v1_is_the_one_without_any(version: str) -> None:
    found = read("https://contoso.openai.azure.com", api_version=version)
    assert (found.base_url, found.api_version) == (V1, None)


def test_names_that_only_look_like_a_documentations() -> None:
    for name in ("contoso-name", "my-team-openai", "resource1", "ai", "names", "myname-ai"):
        assert read(f"https://{name}.openai.azure.com").base_url == f"https://{name}.openai.azure.com/openai/v1"


def target(**env: str) -> Target:
    return load_target(env={"XDG_CONFIG_HOME": "/nowhere", "AZURE_OPENAI_API_KEY": "k", **env})


def test_a_v1_address_with_a_dated_version_is_v1_and_says_so() -> None:
    found = target(AZURE_OPENAI_ENDPOINT=V1 + "/", OPENAI_API_VERSION="2024-10-21")
    assert (found.base_url, found.dialect, found.api_version) == (V1, "v1", None)
    assert found.remarks[0].startswith("api-version 2024-10-21 is not used: the endpoint is the v1 API's")
    for version in ("v1", "preview", ""):
        assert target(AZURE_OPENAI_ENDPOINT=V1, OPENAI_API_VERSION=version).remarks == ()


def test_a_regions_address_is_a_trap() -> None:
    address = "https://eastus.api.cognitive.microsoft.com/"
    found = target(AZURE_OPENAI_ENDPOINT=address)
    assert "does not run batches" in found.remarks[0]
    assert "az cognitiveservices account update" in found.remarks[0]
    assert "--custom-domain" in found.remarks[0]
    with pytest.raises(ConfigError, match="takes no Entra ID tokens") as caught:
        target(AZURE_OPENAI_ENDPOINT=address, AZURE_OPENAI_API_KEY="")
    assert "--custom-domain" in caught.value.hint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://openai-east.openai.azure.com", "https://openai-west.openai.azure.com"),
        ("https://gate.test/openai/east/openai/v1", "https://gate.test/openai/west/openai/v1"),
    ],
)
def test_two_resources_are_two_services_whatever_they_are_called(one: str, other: str) -> None:
    key = Credential(Secret("k"), bearer=False)
    services = [make_target("t", url, key, dialect="v1").service for url in (one, other)]
    assert services == [one.removesuffix("/openai/v1"), other.removesuffix("/openai/v1")]
