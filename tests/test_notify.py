"""Who is told how a job stands: webhooks and commands, once each, through failures and crashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchkit.config import Webhook
from batchkit.config.credentials import Secret
from batchkit.config.targets import load_target
from batchkit.errors import ConfigError, CredentialError, LedgerBusy, UnsafeEndpoint
from batchkit.model import Event, Job, State
from batchkit.notify import Command, due, environment, name_of

from .conftest import KEY, World, request_lines
from .test_schemas import validate
from .tools.shell import Shell, emulating, rows, write_lines

SECRET = "whsec-5f20c9"
LOST = 0
"""Stands for no answer at all."""


@dataclass
class Receiver:
    """An address that notices are posted to: what came, and what is answered, the last answer for ever."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [204])
    came: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    on_post: Callable[[dict[str, Any]], None] = lambda _: None

    def hook(self, *on: str) -> Webhook:
        return Webhook(self.url, frozenset(on), Secret(SECRET))

    @property
    def words(self) -> list[str]:
        return [headers["X-Batchkit-Event"] for headers, _ in self.came]

    @property
    def keys(self) -> list[str]:
        return [headers["Idempotency-Key"] for headers, _ in self.came]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.came.append((dict(self.headers), body))
            found.on_post(orjson.loads(body))
            status = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
            if status == LOST:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Location", found.url + "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook/token-in-the-path"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def told(job: Job) -> list[str]:
    return [f"{event.kind} {event.detail.partition(': ')[2]}" for event in job.events if event.kind.endswith("told")]


def test_a_webhook_hears_each_change_and_the_end_once(world: World, receiver: Receiver) -> None:
    with world.client(notify=(receiver.hook("done", "change"),)) as client:
        client.run(request_lines(5), name="nightly")
        client.run(request_lines(5), name="nightly")
        client.fetch("nightly")
        shown = client.show("nightly")
    assert receiver.words == ["change"] * (len(receiver.came) - 1) + ["done"]
    assert len(receiver.came) >= 3
    assert len(set(receiver.keys)) == len(receiver.keys)
    for headers, body in receiver.came:
        expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Batchkit-Signature"] == f"sha256={expected}"
        assert headers["Content-Type"] == "application/json"
        validate("job", orjson.loads(body))
        assert not any(secret in body for secret in (KEY.encode(), SECRET.encode(), b"hello"))
    last = orjson.loads(receiver.came[-1][1])
    assert (last["name"], last["state"], last["status"]) == ("nightly", "settled", "completed")
    expected_end = {"total": 5, "ok": 5, "failed": 0, "missing": 0, "balanced": True, "pending": 0}
    assert last["outcome"] == last["so_far"] == expected_end
    assert {part["state"] for part in last["parts"]} == {"settled"}
    assert told(shown)[-1] == "told done 0"
    assert not any("token-in-the-path" in event.detail for event in shown.events)


def test_a_retried_job_ends_again(make_world: Callable[..., World], receiver: Receiver) -> None:
    world = make_world(fail_rate=0.5)
    with world.client(notify=(receiver.hook("done"),)) as client:
        client.run(request_lines(40), name="nightly")
        client.retry("nightly")
        client.run(request_lines(40), name="nightly")
    assert receiver.words == ["done", "done"]
    assert [key.partition("-done-")[2] for key in receiver.keys] == ["0", "1"]


@pytest.mark.parametrize(
    ("answers", "posts", "kind"),
    [
        ([503, 429, 204], 3, "told"),
        ([500], 5, "untold"),
        ([LOST, 408, 409, 200], 4, "told"),
        ([LOST], 5, "untold"),
        ([404], 1, "untold"),
        ([302], 1, "untold"),
        ([307, 204], 1, "untold"),
    ],
)
def test_failures_are_tried_again_by_the_table_and_never_end_the_job(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture, answers: list[int], posts: int, kind: str
) -> None:
    receiver.answers = answers
    with world.client(notify=(receiver.hook("done"),)) as client:
        assert client.run(request_lines(5), name="nightly").report.ok == 5
        client.run(request_lines(5), name="nightly")
        assert told(client.show("nightly")) == [f"{kind} done 0"]
    assert len(receiver.came) == posts
    assert len(set(receiver.keys)) == 1
    assert ("failed at 'done 0': 127.0.0.1 " in caplog.text) is (kind == "untold")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("batchkit")]
    assert not any("token-in-the-path" in words or SECRET in words for words in ours)


def test_an_address_where_nobody_listens_is_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    hook = Webhook("http://127.0.0.1:9/hook", frozenset(("done",)))
    with world.client(notify=(hook,)) as client:
        assert client.run(request_lines(2), name="nightly").report.ok == 2
    assert "127.0.0.1 cannot be reached" in caplog.text


def test_an_end_that_nobody_was_told_of_is_told_to_who_names_the_job(world: World, receiver: Receiver) -> None:
    with world.client() as client:
        for name in ("nightly", "older"):
            client.run(request_lines(2), name=name)
    with world.client(notify=(receiver.hook("done", "change"),)) as client:
        client.run_due()
        assert receiver.came == []
        for _ in range(2):
            client.run(request_lines(2), name="nightly")
    assert [orjson.loads(body)["name"] for _, body in receiver.came] == ["nightly"]
    assert receiver.words == ["done"]


def test_what_cron_ends_is_told_too(world: World, receiver: Receiver) -> None:
    with world.client(notify=(receiver.hook("done"),)) as client:
        client.submit(request_lines(2), name="nightly")
        for _ in range(20):
            world.clock.advance(120)
            client.run_due()
    assert receiver.words == ["done"]


def settings(shell: Shell, env: Mapping[str, str], receiver: Receiver) -> tuple[str, ...]:
    key = shell.home / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    config = shell.home / "targets.toml"
    config.write_text(
        f'[targets.local]\nendpoint = "{env["AZURE_OPENAI_ENDPOINT"]}"\nkey_file = "{key}"\npoll_interval_s = 0.1\n'
        f'notify = {{ url = "{receiver.url}", secret_env = "HOOK_SECRET", on = ["done"] }}\n'
    )
    write_lines(shell.home / "lines.jsonl", request_lines(5))
    return "--config", str(config), "-t", "local"


def test_a_crash_between_the_notice_and_its_record_tells_again_with_the_same_key(
    shell: Shell, receiver: Receiver
) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        run = ("run", "lines.jsonl", "-o", "out.csv", "--name", "nightly", *settings(shell, env, receiver))
        process = shell.start(*run, HOOK_SECRET=SECRET)
        receiver.on_post = lambda _: process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        receiver.on_post = lambda _: None
        assert len(receiver.came) == 1
        assert shell(*run, HOOK_SECRET=SECRET)[0] == 0
        assert shell(*run, HOOK_SECRET=SECRET)[0] == 0
    assert receiver.words == ["done", "done"]
    assert len(set(receiver.keys)) == 1
    assert len(rows(shell.home / "out.csv")) == 5


def test_a_crash_after_the_record_tells_nobody_twice(shell: Shell, receiver: Receiver) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        run = ("run", "lines.jsonl", "-o", "out.csv", "--name", "nightly", *settings(shell, env, receiver))
        process = shell.start(*run, "--on-done", "kill -9 $PPID", HOOK_SECRET=SECRET)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert receiver.words == ["done"]
        for _ in range(2):
            assert shell(*run, "--on-done", "echo >> ends", HOOK_SECRET=SECRET)[0] == 0
    assert receiver.words == ["done"]
    assert (shell.home / "ends").read_text() == "\n"


def test_a_command_gets_the_document_and_no_key(shell: Shell) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        write_lines(shell.home / "lines.jsonl", request_lines(5))
        command = "cat > done.json; env > env; echo finished; echo late >&2"
        changes = 'echo "$BATCHKIT_JOB $BATCHKIT_JOB_ID $BATCHKIT_JOB_STATE $BATCHKIT_JOB_STATUS" >> changes'
        run = ("run", "lines.jsonl", "-o", "out.csv", "--name", "nightly", "--every", "0.1")
        code, out, _ = shell(*run, "--json", "--on-done", command, "--on-change", changes, **env, OTHER=f"x{KEY}")
        assert code == 0
        validate("report", orjson.loads(out))
        document = orjson.loads((shell.home / "done.json").read_bytes())
        validate("job", document)
        assert (document["name"], document["state"], document["outcome"]["ok"]) == ("nightly", "settled", 5)
        given = (shell.home / "env").read_text()
        assert KEY not in given
        assert "BATCHKIT_JOB=nightly\n" in given
        assert f"BATCHKIT_JOB_ID={document['id']}\n" in given
        seen = (shell.home / "changes").read_text().splitlines()
        assert all(line.startswith(f"nightly {document['id']} ") for line in seen)
        assert seen[-1].endswith("settled completed")
        assert len(seen) == len(set(seen)) >= 3
        assert shell(*run, "--on-done", "touch again", **env)[0] == 0
        assert not (shell.home / "again").exists()  # it was settled before


def test_a_command_that_fails_is_a_warning_and_its_words_are_talk(shell: Shell) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        write_lines(shell.home / "lines.jsonl", request_lines(5))
        run = ("run", "lines.jsonl", "--name", "nightly", "--every", "0.1")
        code, out, err = shell(*run, "--on-done", "echo no such queue; exit 3", **env)
    assert code == 0
    assert len(out.splitlines()) == 5
    assert "--on-done: no such queue" in err
    assert "it ended with exit code 3" in err


def test_a_command_may_fetch_the_job_it_is_told_of(shell: Shell, receiver: Receiver) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        flags = settings(shell, env, receiver)
        fetch = f'{sys.executable} -m batchkit fetch "$BATCHKIT_JOB" -o late.csv ' + " ".join(flags)
        run = ("run", "lines.jsonl", "-o", "out.csv", "--name", "nightly", *flags)
        env_for_it = {"HOOK_SECRET": SECRET}
        code, _, err = shell(*run, "--on-done", f"HOOK_SECRET={SECRET} {fetch}", **env_for_it)
        assert (code, "failed at" in err) == (0, False), err
        _, out, _ = shell("show", "nightly", "--json")
        job = orjson.loads(out)
    assert len(rows(shell.home / "late.csv")) == 5
    assert [event["kind"] for event in job["events"]].count("settled") == 1
    assert receiver.words == ["done"]


def test_while_the_end_is_told_others_may_read_the_job_and_nobody_ends_it_or_asks_again(
    make_world: Callable[..., World], receiver: Receiver
) -> None:
    world, seen = make_world(fail_rate=0.5), list[object]()

    def meanwhile(_: dict[str, Any]) -> None:
        with world.client() as other:
            seen.extend(other.run_due())
            seen.append(other.fetch("nightly").report.total)
            seen.append(other.show("nightly").state)
            with pytest.raises(LedgerBusy, match="is being worked on by another call in this process"):
                other.retry("nightly", only=["4xx", "5xx"])

    receiver.on_post = meanwhile
    with world.client(notify=(receiver.hook("done"),)) as client:
        client.submit(request_lines(8), name="nightly")
        world.clock.advance(3000)
        assert [job.state for job in client.run_due()] == [State.SETTLED]
    assert seen == [8, State.FETCHED]
    assert receiver.words == ["done"]


def test_an_interrupt_stops_a_command_and_the_end_is_told_later(shell: Shell) -> None:
    with emulating(shell, "--fail-rate", "0") as env:
        write_lines(shell.home / "lines.jsonl", request_lines(5))
        run = ("run", "lines.jsonl", "-o", "out.csv", "--name", "nightly", "--every", "0.1")
        process = shell.start(*run, "--on-done", "echo $$ > pid; sleep 100", **env)
        assert process.stderr is not None
        while not (shell.home / "pid").exists() or not (shell.home / "pid").read_text():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 143
        assert b"nothing runs at the service; fetched" in err
        assert b"the same command again tells it and ends it" in err
        with pytest.raises(ProcessLookupError):
            os.kill(int((shell.home / "pid").read_text()), 0)
        assert shell(*run, "--on-done", "echo >> ends", **env)[0] == 0
    assert (shell.home / "ends").read_text() == "\n"


def job(**changes: Any) -> Job:
    words: dict[str, Any] = dict.fromkeys("id name sha256 service target url deployment".split(), "x")
    return replace(Job(**words, created_at=1.0), **changes)


def test_what_is_due_follows_from_the_job_and_its_diary() -> None:
    both, done, change = (Command("done", "a"), Command("change", "b")), Command("done", "a"), Command("change", "b")
    first = due(job(), (), both)
    assert [(notice.word, notice.channel) for notice in first] == [("change", change)]
    diary = [Event(1.0, "told", f"{name_of(change)}: {first[0].mark}")]
    assert due(job(), diary, both) == []
    ended = job(settled_at=2.0)
    assert [notice.word for notice in due(ended, diary, [done])] == ["done"]
    assert due(ended, [Event(1.0, "untold", f"{name_of(done)}: done 0")], [done]) == []
    assert [notice.word for notice in due(ended, [Event(1.0, "told", "another: done 0")], [done])] == ["done"]
    hook = Webhook("https://hooks.example.com/a", frozenset(("done", "change")))
    assert [notice.word for notice in due(ended, (), [hook])] == ["done"]
    other = replace(hook, url="https://hooks.example.com/b")
    assert name_of(hook) != name_of(other)


def test_the_environment_of_a_command_has_no_secret_under_any_name() -> None:
    env = {"A": KEY, "B": f"Bearer {KEY}", "OPENAI_API_KEY": "another", "BATCHKIT_ON_DONE": "me", "PATH": "/bin"}
    found = environment(env, job(name="nightly"), [Secret(KEY)])
    assert {name for name in found if not name.startswith("BATCHKIT_")} == {"PATH"}
    assert "BATCHKIT_ON_DONE" not in found
    assert found["BATCHKIT_JOB"] == "nightly"


@pytest.mark.parametrize(
    ("notify", "error", "words"),
    [
        ('{ url = "http://hooks.example.com/a" }', UnsafeEndpoint, "hooks.example.com would be told unencrypted"),
        ('{ url = "https://me:pw-7@hooks.example.com" }', ConfigError, "url is not an address"),
        ('{ url = "hooks.example.com" }', ConfigError, "url is not an address"),
        ("{ }", ConfigError, "url is not an address"),
        ('{ url = "https://a.example", on = ["ended"] }', ConfigError, "on lists done, change or both"),
        ('{ url = "https://a.example", on = [] }', ConfigError, "on lists done, change or both"),
        ('{ url = "https://a.example", secret = "x" }', ConfigError, "unknown key 'secret'"),
        ('{ url = "https://a.example", secret_env = "NOWHERE" }', CredentialError, "NOWHERE"),
        ('[{ url = "https://a.example" }, 3]', ConfigError, "is not a table"),
    ],
)
def test_a_wrong_webhook_is_refused_before_anything_is_sent(
    tmp_path: Path, notify: str, error: type[ConfigError], words: str
) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(f'[targets.a]\nendpoint = "https://contoso.openai.azure.com"\nkey_env = "K"\nnotify = {notify}\n')
    with pytest.raises(error) as caught:
        load_target("a", config=path, env={"K": KEY})
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert "pw-7" not in str(caught.value)


def test_webhooks_of_a_targets_file(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    text = """
        [targets.a]
        endpoint = "https://contoso.openai.azure.com"
        key_env = "K"
        notify = { url = "https://a.example/x", secret_env = "S", on = ["done", "change"] }
        [targets.b]
        endpoint = "https://fabrikam.openai.azure.com"
        key_env = "K"
        notify = [{ url = "https://a.example/x", secret_env = "S", on = ["change", "done"] }, { url = "http://[::1]" }]
        [targets.both]
        pool = ["a", "b"]
    """
    path.write_text(text)
    found = load_target("both", config=path, env={"K": KEY, "S": SECRET})
    assert [(hook.host, sorted(hook.on)) for hook in found.notify] == [
        ("a.example", ["change", "done"]),
        ("::1", ["done"]),
    ]
    assert SECRET not in repr(found) and "a.example/x" not in repr(found)
