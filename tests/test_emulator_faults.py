"""The emulator's scripted misbehaviour: every fault does what its line in the vocabulary says, where it is told."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.emulator import Fault
from batchkit.emulator.faults import CALLS, KINDS, Faults, load, parse

from .conftest import KEY, World
from .test_emulator import create, lines, run, upload

Make = Callable[..., World]


def test_the_readme_words_are_read() -> None:
    assert parse("lose_answer,call=create_batch,nth=1,how=500") == Fault("lose_answer", nth=1, how="500")
    assert parse("throttle 2.5 call=upload rate=0.5 seed=7") == Fault("throttle", 2.5, "upload", rate=0.5, seed=7)
    assert load('[[fault]]\nkind = "hide_for"\nvalue = 90\ntimes = 2\n') == [Fault("hide_for", 90, times=2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs a kind"),
        ("gremlins", "there is no fault 'gremlins'; there are lose_answer, "),
        ("slow,fast", "slow: its value is a number, not 'fast'"),
        ("slow,-1", "slow: its value is a number from 0 on"),
        ("forget_metadata,1", "its value is nothing, not 1"),
        ("lose_answer,call=nap", "there is no call 'nap'"),
        ("lose_answer,how=softly", "how is one of cut, 500, not 'softly'"),
        ("lose_answer,nth=0", "nth counts from 1"),
        ("lose_answer,rate=2", "rate is between 0 and 1"),
        ("lose_answer,when=now", "there is no 'when'"),
        ("lose_answer,nth=often", "nth cannot be 'often'"),
        ("no_errors,green", "its value is one of null, empty, zero, absent"),
    ],
)
def test_a_wrong_fault_is_told_what_is_right(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        parse(text)


@pytest.mark.parametrize("text", ['fault = "x"', "[[fault]]\nnth = 1", "[other]\n", "[[fault]", "[[fault]]\nkind = 1"])
def test_a_wrong_fault_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        load(text)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 30))
def test_a_fault_strikes_when_it_is_told(nth: int, times: int, calls: int) -> None:
    once, often, never = Fault("error", nth=nth), Fault("html", times=times), Fault("throttle", rate=0)
    faults = Faults([once, often, never])
    struck = Counter(kind for _ in range(calls) for kind in faults.strike("upload"))
    assert struck == Counter({"error": int(calls >= nth), "html": min(times, calls)})


def test_a_rate_is_drawn_by_its_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults([Fault("error", rate=0.3, seed=seed)])
        return [bool(faults.strike("upload")) for _ in range(1000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 200 < sum(drawn(1)) < 400


@pytest.mark.parametrize("how", ["cut", "500"])
def test_a_lost_answer_leaves_its_deed(make_world: Make, how: str) -> None:
    world = make_world(faults=[f"lose_answer,nth=2,how={how}"])
    with world.http() as http:
        file_id = upload(http, lines()).json()["id"]
        assert create(http, file_id).status_code == 201
        if how == "cut":
            with pytest.raises(httpx.RemoteProtocolError):
                create(http, file_id)
        else:
            assert create(http, file_id).status_code == 500
        assert create(http, file_id).status_code == 201
    assert len(world.batches()) == 3
    assert [call.status for call in world.service.calls if call.name == "create_batch"] == [201, None, 201]


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("html,502,call=list_files", 502, "<title>502 Bad Gateway</title>"),
        ("error,503,call=list_files", 503, "503"),
        ("throttle,7", 429, "Please retry after 7 seconds."),
    ],
)
def test_some_faults_answer_in_place_of_the_deed(make_world: Make, fault: str, status: int, words: str) -> None:
    world = make_world(faults=[fault])
    with world.http() as http:
        answer = http.get("/openai/v1/files")
    assert answer.status_code == status
    assert words in answer.text


def test_throttling_says_when_in_each_form(make_world: Make) -> None:
    world = make_world()
    with world.http() as http:

        def headers(how: str) -> httpx.Headers:
            world.service.mend()
            world.service.inject(f"throttle,7,how={how}")
            return http.get("/openai/v1/files").headers

        assert headers("seconds")["retry-after"] == "7"
        assert headers("ms")["retry-after-ms"] == "7000"
        assert parsedate_to_datetime(headers("date")["retry-after"]).timestamp() == int(world.clock.now() + 7)
        assert not {"retry-after", "retry-after-ms"} & headers("none").keys()


def test_a_connection_is_cut_at_any_byte_of_an_answer(make_world: Make) -> None:
    world = make_world()
    with world.http() as http:
        data = lines(3)
        file_id = upload(http, data).json()["id"]
        for at in (0, 1, len(data) // 2, len(data) - 1):
            world.service.mend()
            world.service.inject(f"reset_at,{at},call=content")
            got = bytearray()
            with (
                pytest.raises(httpx.RemoteProtocolError),
                http.stream("GET", f"/openai/v1/files/{file_id}/content") as answer,
            ):
                for piece in answer.iter_raw():
                    got += piece
            assert bytes(got) == data[:at]


def test_a_connection_is_cut_within_a_request(make_world: Make) -> None:
    world = make_world(faults=["reset_at,10,call=create_batch,how=request,nth=1"])
    with world.http() as http:
        file_id = upload(http, lines()).json()["id"]
        with pytest.raises(httpx.RemoteProtocolError):
            create(http, file_id)
        assert world.batches() == []
        assert create(http, file_id).status_code == 201


def test_a_truncated_answer_looks_whole(make_world: Make) -> None:
    world = make_world(faults=["truncate,50,call=content"])
    with world.http() as http:
        file_id = upload(http, lines()).json()["id"]
        answer = http.get(f"/openai/v1/files/{file_id}/content")
    assert answer.content == lines()[:50]
    assert "content-length" not in answer.headers


def test_a_slow_answer_comes_in_drops(make_world: Make) -> None:
    world = make_world(faults=["slow,4000,call=content"])
    with world.http() as http:
        file_id = upload(http, lines(2)).json()["id"]
        with http.stream("GET", f"/openai/v1/files/{file_id}/content") as answer:
            pieces = list(answer.iter_raw())
    assert b"".join(pieces) == lines(2)
    assert max(map(len, pieces)) <= 400


def test_a_batch_can_be_hidden_from_lists(make_world: Make) -> None:
    world = make_world(faults=["hide_for,300"])
    with world.http() as http:
        made = create(http, upload(http, lines()).json()["id"]).json()
        assert world.batches() == []
        assert http.get(f"/openai/v1/batches/{made['id']}").status_code == 200
        world.clock.advance(300)
        assert [batch["id"] for batch in world.batches()] == [made["id"]]


def test_lists_without_cursors_and_without_end(make_world: Make) -> None:
    world = make_world(faults=["bare_list,nth=1", "endless_list,nth=2"])
    with world.http() as http:
        create(http, upload(http, lines()).json()["id"])
        bare, endless = (http.get("/openai/v1/batches", params={"limit": 1}).json() for _ in range(2))
    assert set(bare) == {"object", "data", "has_more"}
    assert endless["has_more"] is True


def test_files_that_take_long_and_files_that_go_bad(make_world: Make) -> None:
    world = make_world(faults=["pending_for,100,nth=1", "spoil_file,nth=2"])
    with world.http() as http:
        slow, bad = (upload(http, lines()).json() for _ in range(2))
        seen = [slow["status"]]
        for _ in range(4):
            world.clock.advance(30)
            seen.append(http.get(f"/openai/v1/files/{slow['id']}").json()["status"])
        assert seen == ["pending", "pending", "running", "running", "processed"]
        assert (bad["status"], create(http, bad["id"]).status_code) == ("error", 400)


@pytest.mark.parametrize(("how", "status"), [("now", 400), ("late", 201)])
def test_quota_refusals_in_both_forms(make_world: Make, how: str, status: int) -> None:
    world = make_world(faults=[f"quota,how={how},nth=1"], fail_rate=0.0)
    with world.http() as http:
        refused = create(http, upload(http, lines()).json()["id"])
        assert refused.status_code == status
        world.clock.advance(60)
        if how == "late":
            batch = http.get(f"/openai/v1/batches/{refused.json()['id']}").json()
            assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "token_limit_exceeded")
    assert run(world, 3)[0]["status"] == "completed"


def test_rows_dropped_doubled_and_invented(make_world: Make) -> None:
    for share, count in ((0.01, 1), (1.0, 100)):
        for fault, seen in (
            ("drop_rows", {100 - count: {1}}),
            ("double_rows", {100: {1, 2} if count < 100 else {2}}),
            ("invent_rows", {100 + count: {1}}),
        ):
            world = make_world(faults=[f"{fault},{share}"], fail_rate=0.0)
            batch, results = run(world)
            ids = Counter(line["custom_id"] for line in results)
            assert batch["request_counts"] == {"total": 100, "completed": 100, "failed": 0}
            assert {len(ids): set(ids.values()) or {1}} == seen, (fault, share)
            if fault == "double_rows":
                assert len(results) == 100 + count


def test_expired_and_wholly_failed_batches(make_world: Make) -> None:
    batch, results = run(make_world(faults=["expire,0.3"], fail_rate=0.0))
    assert (batch["status"], batch["request_counts"]) == ("expired", {"total": 100, "completed": 30, "failed": 70})
    errors = Counter((line["error"] or {}).get("code") for line in results)
    assert errors == {None: 30, "batch_expired": 70}
    batch, results = run(make_world(faults=["fail_all,400"]))
    assert (batch["status"], batch["output_file_id"]) == ("completed", None)
    assert {line["response"]["status_code"] for line in results} == {400}


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        ("no_errors,null", "error_file_id", None),
        ("no_errors,empty", "error_file_id", ""),
        ("forget_metadata", "metadata", None),
        ("status,recased", "status", "Completed"),
        ("null_counts", "request_counts", {"total": 100, "completed": None, "failed": None}),
    ],
)
def test_how_a_batch_is_shown(make_world: Make, fault: str, field: str, value: Any) -> None:
    assert run(make_world(faults=[fault], fail_rate=0.0))[0][field] == value


def test_absent_and_empty_error_files_odd_statuses_late_names_and_old_times(make_world: Make) -> None:
    assert "error_file_id" not in run(make_world(faults=["no_errors,absent"], fail_rate=0.0))[0]
    batch, results = run(make_world(faults=["no_errors,zero"], fail_rate=0.0))
    assert batch["error_file_id"]
    assert len(results) == 100
    world = make_world(faults=["status,pondering", "iso_times", "late_output,500"], fail_rate=0.0)
    with world.http() as http:
        made = create(http, upload(http, lines()).json()["id"]).json()
        assert made["status"] == "pondering"
        assert made["created_at"].endswith(".0000000+00:00")
        world.clock.advance(600)
        done = http.get(f"/openai/v1/batches/{made['id']}").json()
        assert (done["status"], done["output_file_id"]) == ("completed", None)
        world.clock.advance(500)
        assert http.get(f"/openai/v1/batches/{made['id']}").json()["output_file_id"]


def test_what_befell_a_batch_stays_with_it_and_mending_helps_the_next(make_world: Make) -> None:
    world = make_world(faults=["forget_metadata"], fail_rate=0.0)
    assert run(world, 2)[0]["metadata"] is None
    world.service.mend()
    assert run(world, 2)[0]["metadata"] == {"a": "b"}


def test_every_kind_names_a_call_there_is() -> None:
    assert all(kind.call in CALLS | {"any"} and kind.does for kind in KINDS.values())


@given(st.binary(max_size=200))
def test_no_fault_line_breaks_the_reader(text: bytes) -> None:
    try:
        assert parse(text.decode("latin-1")).kind in KINDS
    except ValueError:
        return


METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW"])
PATHS = st.sampled_from(
    [
        "/openai/v1/files",
        "/openai/v1/batches",
        "/v1/batches/x/cancel",
        "/openai/files/import",
        "/blobs/a/b",
        "/",
        "//",
        "*",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["api-key", "authorization", "content-type", "content-length", "range", "transfer-encoding", "expect"]
    ),
    st.sampled_from(
        [KEY, f"Bearer {KEY}", "multipart/form-data; boundary=x", "multipart/form-data", "chunked", "5", "-1"]
    )
    | st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20),
    max_size=4,
)
QUERY = st.sampled_from(
    ["", "?", "?limit=", "?limit=٣", "?limit=1e9", "?$filter='", "?api-version=2025-04-01-preview&$filter=a eq"]
)
BODY = st.binary(max_size=80) | st.sampled_from(
    [
        b'{"input_file_id":{},"endpoint":[],"completion_window":"24h"}',
        b'{"endpoint":"","completion_window":"24h","metadata":{"a":1}}',
        b"--x\r\n\r\n\r\n--x--\r\n",
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="\xff"\r\n\r\n',
        b"[" * 2000,
    ]
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from batchkit.emulator import Emulator

    with Emulator(tmp_path_factory.mktemp("hostile"), key=KEY) as service:
        yield int(service.url.rpartition(":")[2])


@given(METHODS, PATHS, QUERY, HEADERS, BODY)
def test_hostile_requests_are_answered_or_cut_and_never_hang_or_break_it(
    port: int, method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    given_headers = {"host": "localhost", "content-length": str(len(body)), "connection": "close", **headers}
    head = f"{method} {path}{query} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in given_headers.items())
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        wire.sendall(head.encode("utf-8" if "٣" in query else "latin-1") + b"\r\n" + body)
        wire.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while piece := wire.recv(65536):
            answer += piece
    status = answer[9:12]
    assert not answer or (answer.startswith(b"HTTP/1.1 ") and status < b"500")
