"""The targets file: written without touching what is not ours, read value by value, and shown without a secret."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import keyring
import keyring.backend
import orjson
import pytest

from batchkit import AsyncClient, Client, ConfigError, load_target
from batchkit.config.credentials import Credential, Fetched, Secret
from batchkit.config.tables import line_of, removed, replaced
from batchkit.config.targets import plan
from batchkit.errors import BatchkitError, CredentialError, Unavailable
from batchkit.hints import in_python

from .conftest import KEY, World, request_lines
from .test_schemas import validate
from .tools.processes import Zygote

WRITTEN = """\
# what I know of our services
default = "prod"   # used by cron

[targets.prod]  # the first
# ask Kim before this is changed
endpoint = "https://contoso.openai.azure.com"
key_env = "CONTOSO"
limits = { enqueued_tokens = 5 }

# the second
[targets."eu west"]
endpoint = "https://eu.openai.azure.com"
key_command = [
  "pass",
  "show",
]
[targets."eu west".limits]
files = 7
"""


def test_a_table_is_replaced_where_it_stands_and_all_else_is_kept() -> None:
    text = replaced(WRITTEN, ("targets", "prod"), {"endpoint": "https://x.openai.azure.com", "entra": True})
    assert text == WRITTEN.replace(
        '[targets.prod]  # the first\n# ask Kim before this is changed\nendpoint = "https://contoso.openai.azure.com"\n'
        'key_env = "CONTOSO"\nlimits = { enqueued_tokens = 5 }\n',
        '[targets.prod]\n# ask Kim before this is changed\nendpoint = "https://x.openai.azure.com"\nentra = true\n',
    )
    text = replaced(WRITTEN, ("targets", "eu west"), {"endpoint": 'https://y.example/é"\\'})
    assert text.startswith(WRITTEN.partition('[targets."eu west"]')[0])
    assert tomllib.loads(text)["targets"]["eu west"] == {"endpoint": 'https://y.example/é"\\'}


def test_a_new_table_comes_last_and_a_removed_one_takes_nothing_along() -> None:
    text = replaced(WRITTEN, ("targets", "new"), {"endpoint": "https://x.openai.azure.com"})
    assert text == WRITTEN + '\n[targets.new]\nendpoint = "https://x.openai.azure.com"\n'
    assert removed(text, ("targets", "new")).rstrip() == WRITTEN.rstrip()
    without = removed(WRITTEN, ("targets", "prod"))
    assert "# the second" in without
    assert list(tomllib.loads(without)["targets"]) == ["eu west"]
    assert tomllib.loads(removed(removed(WRITTEN, ("targets", "prod")), ("targets", "eu west"))) == {"default": "prod"}
    assert replaced("", ("targets", "a"), {"endpoint": "x"}) == '[targets.a]\nendpoint = "x"\n'


@pytest.mark.parametrize(
    "text",
    [
        'targets.prod = { endpoint = "x" }\n',
        '[targets]\nprod = { endpoint = "x" }\n',
        '[targets]\nprod.endpoint = "x"\n[targets.other]\nendpoint = "y"\n',
        'note = """\n[targets.prod]\n"""\n[targets.prod]\nendpoint = "x"\n',
    ],
)
def test_what_only_its_author_can_change_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigError, match="only its author can change"):
        replaced(text, ("targets", "prod"), {"endpoint": "z"})
    with pytest.raises(ConfigError, match="only its author can change"):
        removed(text, ("targets", "prod"))


def test_the_line_of_a_value() -> None:
    lines = WRITTEN.splitlines()
    for table, key, words in [
        ("prod", "endpoint", "contoso"),
        ("prod", "limits.enqueued_tokens", "enqueued_tokens"),
        ("eu west", "key_command", "key_command"),
        ("eu west", "limits.files", "files = 7"),
    ]:
        number = line_of(WRITTEN, ("targets", table), key)
        assert number is not None
        assert words in lines[number - 1]
    assert line_of(WRITTEN, ("targets", "prod"), "deployment") is None


@pytest.fixture
def batchkit(tmp_path: Path, commands: Zygote) -> Callable[..., tuple[int, str, str]]:
    """The command line as a user has it: exit code, stdout, stderr."""

    def run(*arguments: str, **env: str) -> tuple[int, str, str]:
        kept = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200"}
        code, out, err = commands.call([*arguments], tmp_path, kept | env, timeout_s=120)
        assert "Traceback" not in err
        assert KEY not in out + err
        return code, out, err

    return run


def test_the_life_of_a_target(world: World, tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]) -> None:
    path = tmp_path / ".config" / "batchkit" / "targets.toml"
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    code, out, err = batchkit(
        *("targets", "add", "prod", "--endpoint", f"{world.service.url}/openai/v1/", "-d", "gpt-4o-batch"),
        *("--key-command", f"cat '{tmp_path}/key'", "--header-env", "x-gate=GATE", "--enqueued-tokens", "5000"),
    )
    assert (code, "next:  batchkit targets test prod" in err) == (0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("# mine\n" + path.read_text())
    code, out, err = batchkit("targets", "test", "prod", GATE="gate-secret-31")
    assert (code, out.split()[:2]) == (0, ["ok", "prod:"]), out
    code, out, _ = batchkit("targets", "show", "--json", GATE="gate-secret-31", BATCHKIT_DEPLOYMENT="other")
    document = orjson.loads(out)
    validate("target", document)
    values = {value["name"]: (value["value"], value["from"]) for value in document["targets"][0]["values"]}
    assert values["endpoint"] == (world.service.url, f"{path}:5")
    assert values["deployment"] == ("other", "environment variable BATCHKIT_DEPLOYMENT")
    assert values["limits.enqueued_tokens"] == ("5000", f"{path}:9")
    assert values["expires_s"] == ("1209600", "default")
    assert values["headers_env"][0] == "x-gate"
    assert "gate-secret-31" not in out
    code, _, err = batchkit("targets", "add", "prod", "--endpoint", "https://contoso.openai.azure.com")
    assert (code, "--overwrite" in err) == (4, True)
    code, out, _ = batchkit("targets", "list", "--json")
    validate("target-list", orjson.loads(out))
    assert [(item["name"], item["used"]) for item in orjson.loads(out)["targets"]] == [("prod", True)]
    code, _, err = batchkit("targets", "remove", "prod")
    assert (code, "needs your word" in err) == (2, True)
    assert batchkit("targets", "remove", "prod", "--yes")[0] == 0
    assert path.read_text() == "# mine\n"


def test_the_first_target_is_the_default_until_it_goes(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / ".config" / "batchkit" / "targets.toml"
    add = ("targets", "add", "--endpoint", "https://contoso.openai.azure.com", "--key-env", "K")
    code, _, err = batchkit(*add, "east")
    assert (code, "east is used where no target is named" in err) == (0, True)
    code, _, err = batchkit(*add, "west")
    assert (code, "west is used with -t west; where no target is named, east is" in err) == (0, True)
    assert tomllib.loads(path.read_text())["default"] == "east"
    assert load_target(config=path, env={"K": "k"}).name == "east"
    assert batchkit(*add, "north")[0] == 0
    code, _, err = batchkit("targets", "remove", "east", "--yes")
    assert (code, "no target is the default now\nnext:  -t west, or default = 'west' at the top" in err) == (0, True), (
        err
    )
    assert "default" not in tomllib.loads(path.read_text())
    code, _, err = batchkit("targets", "show")
    assert (code, "none is the default (there are: west, north)" in err, "next:  -t west" in err) == (4, True, True)
    path.write_text('default = "west"\n' + path.read_text())
    _, _, err = batchkit("targets", "remove", "west", "--yes")
    assert err == "north is used where no target is named\n"
    path.write_text('default = "north"\n' + path.read_text())
    _, _, err = batchkit("targets", "remove", "north", "--yes")
    assert "next:  batchkit targets add NAME --endpoint https://NAME.openai.azure.com\n" in err
    code, _, err = batchkit("targets", "show")
    assert (code, "batchkit targets add NAME --endpoint URL" in err) == (4, True), err
    code, out, _ = batchkit("targets", "test")
    assert (code, "batchkit targets add NAME --endpoint URL" in out) == (4, True), out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[targets.all]\npool = "east"\n', 'pool must be a list\nnext:  write pool = ["…", "…"], or leave it away'),
        ("[targets.all]\npool = 5\n", "pool must be a list"),
        ('[targets.all]\npool = [["east"]]\n', "a pool lists other targets of this file"),
        ('default = ["all"]\n[targets.all]\n', "default is no target's name"),
    ],
)
def test_a_pool_or_default_of_the_wrong_kind_is_said_and_can_be_removed(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]], text: str, says: str
) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text + EAST)
    config = ("--config", str(path))
    code, _, err = batchkit("targets", "show", "all", *config)
    assert (code, says in err) == (4, True), err
    assert batchkit("targets", "list", *config)[0] == (4 if "default" in text else 0)
    if "pool" in text:
        assert batchkit("targets", "remove", "east", "--yes", *config)[0] == 0
        assert batchkit("targets", "remove", "all", "--yes", *config)[0] == 0


def test_a_name_in_a_hint_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text("".join(f"[targets.{name!r}]\n" for name in ("my east", "west")))
    with pytest.raises(ConfigError) as refused:
        load_target(config=path, env={})
    assert refused.value.hint == f"-t 'my east', or default = 'my east' at the top of {path}"
    assert in_python(refused.value.hint) == f"target='my east', or default = 'my east' at the top of {path}"


def test_what_is_wrong_with_a_flag_is_said_in_flags(batchkit: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = batchkit("targets", "add", "o", "--endpoint", "https://api.openai.com/v1")
    assert (code, "--dialect openai" in err) == (4, True), err
    add = ("targets", "add", "o", "--endpoint", "https://contoso.openai.azure.com")
    code, _, err = batchkit(*add, "--key-env", "sk-live-51")
    assert (code, "--key-env NAME" in err, "sk-live-51" in err) == (4, True, False), err
    code, _, err = batchkit(*add, "--dialect", "dated")
    assert (code, "--api-version 2025" in err) == (4, True), err


EAST = '[targets.east]\nendpoint = "https://contoso.openai.azure.com"\nkey_env = "K"\n'


def test_what_is_said_of_another_file_is_about_that_file(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "other.toml").write_text(EAST + '[targets."all of them"]\npool = ["east"]\n[targets.west]\n')
    config = ("--config", "other.toml")
    _, _, err = batchkit("targets", "remove", "west", *config)
    assert "next:  batchkit targets remove west --yes --config other.toml\n" in err
    _, _, err = batchkit("targets", "remove", "east", "--yes", *config)
    assert "next:  batchkit targets remove 'all of them' --config other.toml\n" in err
    _, _, err = batchkit("targets", "remove", "north", "--yes", *config)
    assert "next:  batchkit targets list --config other.toml\n" in err
    (tmp_path / "other.toml").write_text("")
    _, _, err = batchkit("targets", "list", *config)
    assert err.endswith("--endpoint https://NAME.openai.azure.com --config other.toml\n")


def test_a_removed_target_leaves_the_others_and_takes_what_was_said_of_it(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "targets.toml"
    west = EAST.replace("east", "west")
    path.write_text(f"# ours\n\n{EAST}\n# about west\n# (Kim's)\n{west}# its quota\n[targets.west.limits]\nfiles = 7\n")
    text = path.read_text() + "\n# about north\n" + EAST.replace("east", "north")
    path.write_text(text)
    code, out, _ = batchkit("targets", "remove", "west", "--yes", "--json", "--config", str(path))
    assert (code, [entry["name"] for entry in orjson.loads(out)["targets"]]) == (0, ["east", "north"])
    validate("target-list", orjson.loads(out))
    assert path.read_text() == f"# ours\n\n{EAST}\n\n# about north\n" + EAST.replace("east", "north")


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o640])
def test_the_mode_and_the_line_ends_of_a_file_stay(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]], mode: int
) -> None:
    path = tmp_path / "targets.toml"
    before = f"# ours\n{EAST}".replace("\n", "\r\n").encode()
    path.write_bytes(before)
    path.chmod(mode)
    endpoint = ("--endpoint", "https://contoso.openai.azure.com", "--key-env", "K", "--config", str(path))
    assert batchkit("targets", "add", "west", *endpoint)[0] == 0
    after = path.read_bytes()
    assert (before in after, after.count(b"\n")) == (True, after.count(b"\r\n"))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert batchkit("targets", "remove", "west", "--yes", "--config", str(path))[0] == 0
    assert before in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_no_flag_can_give_stays_when_a_target_is_replaced(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "targets.toml"
    more = 'create_endpoint = "/v1/x"\ndeployment = "d"\nlimits = { files = 7, enqueued_tokens = 5 }\n'
    path.write_text(f'{EAST}{more}[[targets.east.notify]]\nurl = "https://hooks.test/x"\n')
    add = ("targets", "add", "east", "--overwrite", "--endpoint", "https://x1.openai.azure.com", "--key-env", "K")
    assert batchkit(*add, "--config", str(path))[0] == 0
    kept = {"create_endpoint": "/v1/x", "notify": [{"url": "https://hooks.test/x"}], "limits": {"files": 7}}
    own = {"endpoint": "https://x1.openai.azure.com", "key_env": "K"}
    assert tomllib.loads(path.read_text())["targets"]["east"] == kept | own
    assert batchkit(*add, "--enqueued-tokens", "9", "--config", str(path))[0] == 0
    assert tomllib.loads(path.read_text())["targets"]["east"]["limits"] == {"files": 7, "enqueued_tokens": 9}
    path.write_text(f'{EAST}[targets.all]\npool = ["east"]\n')
    assert batchkit("targets", "add", "all", *add[3:], "--config", str(path))[0] == 0
    assert tomllib.loads(path.read_text())["targets"]["all"] == own


def test_the_only_target_of_a_file_stays_the_default(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "targets.toml"
    path.write_text('# ours\n[targets.east]\nendpoint = "https://contoso.openai.azure.com"\n')
    add = ("targets", "add", "west", "--endpoint", "https://contoso.openai.azure.com", "--config", str(path))
    assert batchkit(*add)[0] == 0
    assert path.read_text().startswith('default = "east"\n# ours\n[targets.east]\n')


def test_plain_http_beyond_this_machine_is_ones_own_word(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    add = ("targets", "add", "gpu", "--endpoint", "http://10.0.0.5:8000/v1", "--dialect", "openai")
    code, _, err = batchkit(*add)
    assert (code, "would send the key unencrypted" in err, "--plain-http" in err) == (4, True, True)
    code, out, _ = batchkit(*add, "--plain-http", "--key-env", "K")
    assert (code, "plain_http        true" in out) == (0, True), out
    found = load_target("gpu", config=tmp_path / ".config" / "batchkit" / "targets.toml", env={"K": "k"})
    assert found.base_url == "http://10.0.0.5:8000/v1"
    code, _, err = batchkit(*add[:3], "--overwrite", "--endpoint", "http://contoso.openai.azure.com", "--plain-http")
    assert (code, "next:  https://contoso.openai.azure.com" in err) == (4, True)


def test_a_port_that_goes_without_saying_is_left_away(batchkit: Callable[..., tuple[int, str, str]]) -> None:
    add = ("targets", "add", "us", "--endpoint", "https://contoso.openai.azure.us:443", "--entra")
    code, out, _ = batchkit(*add)
    assert (code, "https://cognitiveservices.azure.us/.default" in out, ":443" in out) == (0, True, False), out


def test_a_flag_given_twice_and_a_password_without_a_host_are_refused(
    batchkit: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, err = batchkit("targets", "add", "a", "--endpoint", "https://a.openai.azure.com", "--endpoint", "b")
    assert (code, "--endpoint is given twice" in err) == (2, True)
    code, _, err = batchkit("list", "--ledger", "postgresql://me:pw-seven/db")
    assert (code, "pw-seven" in err) == (2, False)


def test_a_targets_file_that_is_no_text_is_refused_and_kept(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    path = tmp_path / "targets.toml"
    path.write_bytes(b"# caf\xe9\n")
    add = ("targets", "add", "a", "--endpoint", "https://a.openai.azure.com", "--config", str(path))
    code, _, err = batchkit(*add)
    assert (code, "is not valid TOML" in err, "a bug" in err) == (4, True, False), err
    assert path.read_bytes() == b"# caf\xe9\n"


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_time_is_a_finite_number(tmp_path: Path, number: str) -> None:
    with pytest.raises(ConfigError, match="poll_interval_s must be more than 0"):
        loaded(tmp_path, f'key_env = "K"\npoll_interval_s = {number}\n', K="k")
    with pytest.raises(ConfigError, match="BATCHKIT_POLL must be more than 0"):
        loaded(tmp_path, 'key_env = "K"\n', K="k", BATCHKIT_POLL=number)


def test_a_key_file_that_is_none_does_not_hang(tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    path = tmp_path / "targets.toml"
    path.write_text(f'[targets.a]\nendpoint = "https://a.openai.azure.com"\nkey_file = "{tmp_path}/key"\n')
    code, out, _ = batchkit("targets", "test", "--config", str(path))
    assert (code, "key is no regular file" in out) == (4, True), out


def test_a_key_command_that_is_none_is_not_repeated(batchkit: Callable[..., tuple[int, str, str]]) -> None:
    add = ("targets", "add", "a", "--endpoint", "https://a.openai.azure.com", "--key-command")
    for text in (f"echo {KEY} | tr -d x", f"echo '{KEY}"):
        code, _, err = batchkit(*add, text)
        assert (code, "not one command with its arguments" in err, KEY in err) == (4, True, False)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("api-key", ()),
        ("api-key", ("--auth", "bearer")),
        ("Authorization", ()),
        ("Authorization", ("--entra",)),
        ("Cookie", ()),
        ("X-Api-Key", ()),
        ("Ocp-Apim-Subscription-Key", ()),
    ],
)
def test_a_header_that_is_a_secret_is_not_written_down(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]], name: str, flags: tuple[str, ...]
) -> None:
    add = ("targets", "add", "a", "--endpoint", "https://a.openai.azure.com", *flags, "--header", f"{name}={KEY}")
    code, _, err = batchkit(*add)
    assert (code, "--header-env" in err) == (4, True), err
    assert not (tmp_path / ".config" / "batchkit" / "targets.toml").exists()


def test_a_key_in_the_place_of_its_variable_is_neither_written_nor_repeated(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    add = ("targets", "add", "a", "--endpoint", "https://a.openai.azure.com", "--key-env", "sk-abc-123")
    code, out, err = batchkit(*add)
    assert (code, "is no variable's name" in err, "sk-abc" in out + err) == (4, True, False)
    assert not (tmp_path / ".config" / "batchkit" / "targets.toml").exists()


def test_a_header_whose_value_is_elsewhere_is_written_down_though_its_variable_is_not_set(
    tmp_path: Path, batchkit: Callable[..., tuple[int, str, str]]
) -> None:
    add = ("targets", "add", "a", "--endpoint", "https://a.openai.azure.com")
    assert batchkit(*add, "--header-env", "ocp-apim-subscription-key=GATE", "--header", "x-team=red")[0] == 0
    code, _, err = batchkit(*add, "--overwrite", "--header-env", "api-key=GATE")
    assert (code, "batchkit itself sends" in err) == (4, True)


def loaded(tmp_path: Path, table: str, **env: str) -> Any:
    path = tmp_path / "targets.toml"
    path.write_text('[targets.a]\nendpoint = "https://contoso.openai.azure.com"\n' + table)
    return load_target("a", config=path, env=env)


def test_a_variable_beats_the_file_value_by_value_but_never_the_endpoint_or_its_key(tmp_path: Path) -> None:
    table = 'key_env = "K"\ndeployment = "file"\npoll_interval_s = 90\n'
    env = {"K": "k", "AZURE_OPENAI_ENDPOINT": "https://other.openai.azure.com", "AZURE_OPENAI_API_KEY": "other"}
    found = loaded(tmp_path, table, **env, BATCHKIT_DEPLOYMENT="b", BATCHKIT_API_VERSION="2025-04-01-preview")
    assert (found.base_url, found.dialect, found.deployment) == (
        "https://contoso.openai.azure.com/openai",
        "dated",
        "b",
    )
    assert found.poll_interval_s == 90
    assert [secret.reveal() for secret in found.credential.known] == ["k"]
    assert loaded(tmp_path, table, **env, BATCHKIT_ENQUEUED_TOKENS="7").limits.enqueued_tokens == 7
    for variable in ("BATCHKIT_POLL", "BATCHKIT_ENQUEUED_TOKENS"):
        with pytest.raises(ConfigError, match=variable):
            loaded(tmp_path, table, **env, **{variable: "soon"})
        with pytest.raises(ConfigError, match=variable):
            loaded(tmp_path, table, **env, **{variable: "-1"})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('key_env = "K"\nentra = true\n', "has key_env and entra"),
        ('key_command = "pass show key"\n', "key_command must be a list"),
        ("key_command = []\n", "lists a command and its arguments"),
        ("entra = 1\n", "entra must be true or false"),
        ('keyring = "one"\n', "SERVICE/USER"),
        ('key_env = "K"\nheaders = { "a b" = "x" }\n', "no header's name"),
        ('key_env = "K"\nheaders = { api-key = "x" }\n', "is a secret"),
        ('key_env = "K"\nheaders = { Host = "x" }\n', "batchkit itself sends"),
        ('key_env = "K"\nheaders = { x = "a\\nb" }\n', "no plain text"),
        ('key_env = "K"\nheaders = { Authorization = "Bearer x" }\n', "is a secret"),
        ('key_env = "K"\nheaders = { Ocp-Apim-Subscription-Key = "x" }\n', "is a secret"),
        ('key_env = "K"\nheaders_env = { api-key = "K" }\n', "batchkit itself sends"),
        ('key_env = "K"\nheaders_env = { x = "NONE" }\n', "environment variable NONE"),
        ('key_env = "NONE"\n', "environment variable NONE"),
        ('key_file = "~nobody-here/key"\n', "in the home of nobody"),
        ('key_env = "K"\nexpires_s = -5\n', "expires_s must be more than 0"),
    ],
)
def test_what_a_target_cannot_say(tmp_path: Path, table: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, table, K="k")


def test_headers_for_a_gateway_go_with_every_request_and_are_seen_nowhere(tmp_path: Path) -> None:
    table = 'key_env = "K"\nheaders = { x-a = "plain-9" }\nheaders_env = { x-b = "B" }\n'
    found = loaded(tmp_path, table, K="key-9", B="secret-9")
    sent: list[httpx.Headers] = []

    class Gateway(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request.headers)
            body = b'{"error": {"code": "no", "message": "not with secret-9 nor key-9"}}'
            return httpx.Response(403, stream=httpx.ByteStream(body))

    client = AsyncClient(found, ledger=tmp_path / "ledger.sqlite3", transport=Gateway())
    findings = asyncio.run(client.doctor())
    assert {(heads["x-a"], heads["x-b"], heads["api-key"]) for heads in sent} == {("plain-9", "secret-9", "key-9")}
    assert "not with *** nor ***" in str(findings)
    assert not any(secret in repr(found) + str(findings) for secret in ("plain-9", "secret-9", "key-9"))


def test_a_plan_names_where_its_credential_comes_from_without_asking_for_it(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text('[targets.a]\nendpoint = "https://contoso.openai.azure.com"\nkey_command = ["/nowhere/x"]\n')
    assert plan("a", config=path, env={}).get("key_command") == ["/nowhere/x"]


class Keys:
    """A command that prints a key, as a script: what it prints, and how often it ran."""

    def __init__(self, home: Path, world: World, script: str) -> None:
        self.ran, path = home / "ran", home / "keys.sh"
        path.write_text(f"#!/bin/sh\necho x >> '{self.ran}'\n{script}")
        path.chmod(0o755)
        config = home / "targets.toml"
        config.write_text(f'[targets.a]\nendpoint = "{world.service.url}"\nkey_command = ["{path}"]\n')
        self.target = load_target("a", config=config, env={})

    @property
    def times(self) -> int:
        return len(self.ran.read_text().splitlines()) if self.ran.exists() else 0


def client_of(world: World, keys: Keys) -> Client:
    return Client(keys.target, ledger=world.home / "ledger.sqlite3", clock=world.clock)


def test_a_key_command_is_run_when_a_key_is_needed_and_again_when_it_is_refused(world: World, tmp_path: Path) -> None:
    keys = Keys(tmp_path, world, f"[ $(wc -l < '{tmp_path}/ran') = 1 ] && echo old-key || echo {KEY}\n")
    assert keys.times == 0
    with client_of(world, keys) as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert keys.times == 2
    assert [call.status for call in world.service.calls].count(401) == 1
    assert len(world.batches()) == 1


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (f"echo the vault is sealed, {KEY} >&2; exit 3\n", "ended with exit code 3"),
        (f"set -x\nkey={KEY}\nexit 3\n", "ended with exit code 3"),
        ("exit 0\n", "no key found in what key_command"),
        ("echo two; echo lines\n", "characters no key has"),
    ],
)
def test_a_key_command_that_fails_says_why_without_the_key(
    world: World, tmp_path: Path, script: str, says: str
) -> None:
    keys = Keys(tmp_path, world, script)
    with client_of(world, keys) as client, pytest.raises(CredentialError) as caught:
        client.submit(request_lines(2), name="nightly")
    assert says in str(caught.value)
    assert KEY not in str(caught.value)
    assert world.batches() == []


def test_a_key_file_is_read_again_when_its_key_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    path = tmp_path / "targets.toml"
    path.write_text(f'[targets.a]\nendpoint = "{world.service.url}"\nkey_file = "{tmp_path}/key"\n')
    (tmp_path / "key").write_text("old-key")
    target = load_target("a", config=path, env={})
    (tmp_path / "key").write_text(KEY)
    with Client(target, ledger=world.home / "ledger.sqlite3", clock=world.clock) as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2


class Store(keyring.backend.KeyringBackend):
    """An operating system's keyring, with one key; asked for another user's it hangs."""

    priority = 1

    def __init__(self) -> None:
        self.released = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        if username == "hangs":
            self.released.wait()
        if username == "breaks":
            raise RuntimeError("the keychain is locked")
        return KEY if (service, username) == ("batchkit/team", "prod") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


@pytest.fixture
def store() -> Iterator[Store]:
    before, store = keyring.get_keyring(), Store()
    keyring.set_keyring(store)
    yield store
    store.released.set()
    keyring.set_keyring(before)


def kept_under(entry: str, world: World, home: Path) -> Client:
    path = home / "targets.toml"
    path.write_text(f'[targets.a]\nendpoint = "{world.service.url}"\nkeyring = "{entry}"\nauth = "bearer"\n')
    target = load_target("a", config=path, env={})
    return Client(target, ledger=world.home / "ledger.sqlite3", clock=world.clock)


def test_a_key_in_the_keyring_goes_as_a_bearer_where_that_is_said(world: World, tmp_path: Path, store: Store) -> None:
    with kept_under("batchkit/team/prod", world, tmp_path) as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2


@pytest.mark.parametrize(
    ("entry", "says"),
    [("batchkit/nobody", "no key found in the keyring"), ("batchkit/breaks", "RuntimeError: the keychain is locked")],
)
def test_a_keyring_without_the_key_says_so(world: World, tmp_path: Path, store: Store, entry: str, says: str) -> None:
    with kept_under(entry, world, tmp_path) as client, pytest.raises(CredentialError, match=says):
        client.submit(request_lines(2), name="nightly")


@pytest.mark.deep
def test_a_keyring_that_hangs_is_left_after_three_seconds(world: World, tmp_path: Path, store: Store) -> None:
    with kept_under("batchkit/hangs", world, tmp_path) as client, pytest.raises(CredentialError, match="within 3 s"):
        client.submit(request_lines(2), name="nightly")


@pytest.mark.deep
def test_a_key_command_that_hangs_is_ended_with_all_it_started(world: World, tmp_path: Path) -> None:
    keys = Keys(tmp_path, world, f"sleep 1000 & echo $! > '{tmp_path}/child'; wait\n")
    with client_of(world, keys) as client, pytest.raises(CredentialError, match="printed no key within 30 s"):
        client.submit(request_lines(2), name="nightly")
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_many_calls_at_once_ask_for_one_secret() -> None:
    asked: list[bool] = []

    async def fetch(refused: bool) -> Fetched:
        asked.append(refused)
        await asyncio.sleep(0)
        return Fetched(Secret(f"secret-{len(asked)}"))

    async def work() -> None:
        credential = Credential(None, bearer=True, fetch=fetch)
        first = await asyncio.gather(*[credential.secret() for _ in range(9)])
        second = await asyncio.gather(*[credential.secret(refused=first[0]) for _ in range(9)])
        assert {secret.reveal() for secret in first} == {"secret-1"}
        assert {secret.reveal() for secret in second} == {"secret-2"}
        assert asked == [False, True]

    for _ in range(2):  # in a loop of its own each
        asked.clear()
        asyncio.run(work())


@pytest.mark.parametrize("outage", [CredentialError("no token"), Unavailable("no token")])
def test_a_secret_that_cannot_be_renewed_is_used_until_its_end(outage: BatchkitError) -> None:
    asked: list[bool] = []

    async def work(until: float) -> None:
        async def fetch(refused: bool) -> Fetched:
            asked.append(refused)
            if len(asked) > 1:
                raise outage
            return Fetched(Secret("held"), renew_at=time.time() - 1, until=until)

        asked.clear()
        credential = Credential(None, bearer=True, fetch=fetch)
        held = await credential.secret()
        if until > time.time():
            assert {(await credential.secret()).reveal() for _ in range(3)} == {"held"}
            assert asked == [False, False]  # a service that is away is not asked for every call
            with pytest.raises(Unavailable, match="no token"):
                await credential.secret(refused=held)
        else:
            with pytest.raises(Unavailable, match="no token"):
                await credential.secret()

    asyncio.run(work(time.time() + 300))
    asyncio.run(work(time.time() - 1))


@pytest.mark.parametrize(
    ("absent", "env", "table", "says"),
    [
        ("azure", {}, "entra = true", "pip install '.[entra]'"),
        ("keyring", {}, 'keyring = "batchkit/prod"', "pip install '.[keyring]'"),
        (
            "azure",
            {"AZURE_OPENAI_ENDPOINT": "https://contoso.openai.azure.com"},
            "",
            "pip install '.[entra]' and az login",
        ),
    ],
)
def test_an_extra_that_is_missing_is_named(
    tmp_path: Path, absent: str, env: dict[str, str], table: str, says: str
) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(f'[targets.a]\nendpoint = "https://contoso.openai.azure.com"\n{table}\n')
    flags = [] if env else ["a", "--config", str(path)]
    script = f"import sys; sys.modules[{absent!r}] = None; from batchkit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "targets", "test", *flags],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4
    assert says in done.stdout
    assert "Traceback" not in done.stderr
    if env:
        assert "AZURE_OPENAI_API_KEY" in done.stdout
