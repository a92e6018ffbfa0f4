"""A ledger that cannot be had: by the exit code, cron tells a slip of the settings from an outage and a held job."""

from __future__ import annotations

import secrets
from pathlib import Path

import psycopg
import pytest

from batchkit.config import config_file, data_home
from batchkit.ledger.postgres import PostgresStore

from .tools.postgres import database
from .tools.shell import Shell


def test_a_server_that_lets_nobody_in_is_a_setting_and_none_an_outage(shell: Shell, postgres: str) -> None:
    role = f"cron{secrets.token_hex(4)}"
    url = database(postgres, role)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'".encode())
        (place,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        rule = f"host {role},none {role} 127.0.0.1/32 scram-sha-256"
        rules = f"SELECT '{rule}' AS line UNION ALL SELECT string_to_table(pg_read_file('{place}'), chr(10))"
        connection.execute(f"CREATE TEMPORARY TABLE rules AS {rules}".encode())
        connection.execute(f"COPY rules TO '{place}'".encode())
        connection.execute("SELECT pg_reload_conf()")
    ours = url.replace("batchkit@", f"{role}@")
    assert shell("list", BATCHKIT_LEDGER=url)[0] == 0
    for words, code, said in (
        ({"BATCHKIT_LEDGER": ours}, 4, "password"),
        ({"BATCHKIT_LEDGER": ours, "PGPASSWORD": "wrong"}, 4, "password authentication failed"),
        ({"BATCHKIT_LEDGER": ours.replace(f"/{role}", "/none"), "PGPASSWORD": "right"}, 4, "does not exist"),
        ({"BATCHKIT_LEDGER": ours, "PGPASSWORD": "right"}, 4, "this role has no permission there"),
        ({"BATCHKIT_LEDGER": "postgresql://me@127.0.0.1:9/none"}, 6, "cannot be reached"),
        ({"BATCHKIT_LEDGER": "postgresql://me@nowhere.invalid/none"}, 6, "cannot be reached"),
    ):
        ended = shell("run", "--once", "--quiet", **words)
        assert (ended[0], said in ended[2]) == (code, True), ended
        assert "right" not in ended[2]


def test_a_file_that_is_no_ledger_is_a_setting(shell: Shell) -> None:
    (shell.home / "rows.csv").write_text("a,b\n" * 400)
    code, _, err = shell("run", "--once", "--quiet", "--ledger", "rows.csv")
    assert (code, "is no ledger; it was left untouched" in err) == (4, True), err


@pytest.mark.parametrize("given", ["", "here"])
def test_a_home_that_is_empty_or_relative_is_none(shell: Shell, given: str) -> None:
    assert shell("list", XDG_DATA_HOME=given, XDG_CONFIG_HOME=given)[0] == 0
    env = {"XDG_DATA_HOME": given, "XDG_CONFIG_HOME": given}
    assert Path.home() in data_home(env).parents
    assert Path.home() in config_file(env).parents
    assert sorted(path.name for path in shell.home.iterdir()) == [".local"]


@pytest.mark.parametrize(
    ("said", "exit"),
    [
        ("the database system is not yet accepting connections", 6),
        ("no more connections allowed (max_client_conn)", 6),
        ("query_wait_timeout", 6),
        ('password authentication failed for user "me"', 4),
        ('database "db" does not exist', 4),
    ],
)
def test_what_a_server_says_passes_unless_a_setting_is_wrong(said: str, exit: int) -> None:
    error = psycopg.OperationalError(f'connection to server at "10.0.0.1", port 5432 failed: FATAL:  {said}')
    assert PostgresStore("postgresql://me@host/db")._unopened(error).exit == exit
