"""What became of a request whose answer was lost, and whose a batch is: the borders, the orders and the words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchkit import Settings
from batchkit.model import Batch, Part, RemoteFile, State
from batchkit.uploader import reconcile
from batchkit.uploader.reconcile import Fate, Judgement, Twins

SHA = "ab" * 32
PART = Part("01" * 8, "j1", 0, 0, State.SUBMITTING, 1, 90, SHA, file_id="file-1", intent="i", intent_at=1000.0)
SETTINGS = Settings(read_timeout_s=60.0, settle_window_s=180.0, relist_after_s=30.0)
SURE = 1000.0 + 60.0 + 180.0


def batch(name: str, status: str = "validating", at: float | None = None, **changes: object) -> Batch:
    return replace(Batch(name, status, "file-1", created_at=at), **changes)  # type: ignore[arg-type]


def test_reconcile_waits_for_the_window_and_two_looks() -> None:
    """Each border with its moment: until the window is over, then once more a while later."""

    def judged(part: Part, at: float) -> Judgement:
        return reconcile.judge(part, at, SETTINGS)

    assert judged(PART, SURE - 1) == Judgement(Fate.WAIT, at=SURE)
    assert judged(PART, SURE) == Judgement(Fate.RELIST, at=SURE + 30)
    once = replace(PART, clean_at=SURE)
    assert judged(once, SURE + 29) == Judgement(Fate.WAIT, at=SURE + 30)
    assert judged(once, SURE + 30) == Judgement(Fate.NOT_MADE)
    unknown = replace(PART, intent_at=None)
    assert judged(unknown, 239) == Judgement(Fate.WAIT, at=240.0)
    assert judged(unknown, 240).fate is Fate.RELIST


def test_reconcile_marks_a_batch_by_these_names() -> None:
    """They are at the service when the next version looks for them."""
    marks = {"batchkit_job": "j1", "batchkit_part": "01" * 8, "batchkit_sha": SHA, "batchkit_intent": "i"}
    assert reconcile.marks(PART, "i") == marks
    assert reconcile.is_ours(PART, batch("b", metadata={"batchkit_part": "01" * 8}))
    assert not reconcile.is_ours(PART, batch("b", metadata={"batchkit_part": "01" * 8, "batchkit_sha": "cd"}))
    assert reconcile.witness(PART, batch("b")) == "known by its input file"
    assert reconcile.witness(PART, batch("b", metadata=marks)) == "known by its intent"
    assert (
        reconcile.witness(replace(PART, intent="k"), batch("b", metadata=marks))
        == "known by its part, of an earlier intent"
    )


def test_reconcile_orders_the_living_before_the_dead_and_the_earlier_before_the_later() -> None:
    late, early, dateless = batch("b-1", at=3.0), batch("b-2", at=2.0), batch("b-9")
    dead, same = batch("b-0", "failed", at=1.0), batch("b-3", at=2.0)
    assert reconcile.ours(PART, [dead, late, same, early, dateless]) == [dateless, early, same, late, dead]
    zero = batch("b-5", at=0.5)
    assert reconcile.ours(PART, [zero, dateless]) == [dateless, zero]


@pytest.mark.parametrize("status", ["failed", "cancelling", "cancelled"])
def test_reconcile_calls_dead_what_ended_without_its_work(status: str) -> None:
    assert reconcile.dead(batch("b", status))
    assert {"failed", "cancelling", "cancelled"} == reconcile.DEAD


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "completed", "expired", "new"])
def test_reconcile_calls_nothing_else_dead(status: str) -> None:
    """What expired did some of its work, and that is paid for."""
    assert not reconcile.dead(batch("b", status))


def test_reconcile_knows_the_same_rows_of_another_ledger() -> None:
    def theirs(name: str, status: str = "validating", **marks: str) -> Batch:
        return Batch(name, status, "file-7", metadata=marks)

    other = theirs("b-1", batchkit_job="j7", batchkit_sha=SHA)
    listed = [
        other,
        theirs("b-2", batchkit_job="j1", batchkit_sha=SHA),
        theirs("b-3", batchkit_job="j2", batchkit_sha=SHA),
        theirs("b-4", batchkit_sha=SHA),
        theirs("b-5", batchkit_job="j7", batchkit_sha="cd"),
        theirs("b-6", "failed", batchkit_job="j7", batchkit_sha=SHA),
        theirs("b-7", batchkit_job="j7"),
        theirs("b-8"),
    ]
    assert reconcile.strangers(PART, iter(["j1", "j2"]), listed) == [other]
    assert reconcile.strangers(PART, [], listed) == [listed[0], listed[1], listed[2], listed[3]]


def with_batch(known: Batch) -> Part:
    return replace(PART, state=State.RUNNING, batches=(known,))


def test_reconcile_keeps_of_living_twins_the_one_created_first() -> None:
    known, early, late = batch("b-k", at=2.0), batch("b-e", at=1.0), batch("b-l", at=3.0)
    part = with_batch(known)
    assert reconcile.twins(part, [late, known]) == Twins(known, (late,))
    assert reconcile.twins(part, [early, known, late]) == Twins(early, (known, late))
    assert reconcile.twins(part, [late]) == Twins(known, (late,)), "the known one need not be listed"
    assert reconcile.twins(part, [known, batch("b-d", "failed", at=1.0)]) is None


def test_reconcile_keeps_what_ended_with_results_since_it_is_paid_for() -> None:
    done, other = batch("b-k", "completed", at=2.0), batch("b-e", at=1.0)
    assert reconcile.twins(with_batch(done), [other, done]) == Twins(done, (other,))
    finished = replace(other, status="completed")
    assert reconcile.twins(with_batch(batch("b-k", at=0.0)), [finished]) == Twins(finished, (batch("b-k", at=0.0),))


def test_reconcile_believes_the_listing_of_what_we_knew_earlier() -> None:
    """Known as running, listed as dead: it is out. Known as dead, the living one is in."""
    known, other = batch("b-k", at=1.0), batch("b-o", at=2.0)
    assert reconcile.twins(with_batch(known), [other, replace(known, status="cancelled")]) == Twins(other, ())
    assert reconcile.twins(with_batch(replace(known, status="failed")), [other]) == Twins(other, ())


def test_reconcile_takes_an_upload_of_either_spelling_of_its_purpose() -> None:
    file = RemoteFile("file-2", PART.file_name, 90, "processed", "")
    assert reconcile.uploaded(PART, [file]) == (file, [])
    assert reconcile.uploaded(PART, [replace(file, purpose="batch")])[0] is not None
    assert reconcile.uploaded(PART, [replace(file, purpose="assistants")]) == (None, [])
    assert Judgement(Fate.NOT_MADE).at == 0.0
