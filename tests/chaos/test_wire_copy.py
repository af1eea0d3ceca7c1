"""A tab's copy follows the protocol page: two cursors, what is doubled, what is missing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.wire_copy import Copy, Frame, Wish, digest

WELCOME: Frame = {"type": "welcome", "epoch": "e1", "seq": 4, "resumed": False}


def begun() -> Copy:
    copy = Copy()
    assert copy.welcome(WELCOME)
    return copy


def delta(offset: int, text: str) -> Frame:
    return {"type": "run.delta", "run": "r1", "offset": offset, "text": text}


def done(text: str, seq: int | None = None, **more: Any) -> Frame:
    message = {"id": "r1", "role": "assistant", "text": text, "status": "completed"}
    frame: Frame = {"type": "run.done", "run": "r1", "conversation": "c1", "message": message}
    frame |= {"chars": len(text), "sha256": digest(text), **more}
    return frame if seq is None else frame | {"seq": seq}


def started(seq: int) -> Frame:
    return {"type": "run.started", "seq": seq, "run": "r1", "conversation": "c1", "message": "m1"}


def created(seq: int, text: str = "Hello") -> Frame:
    message = {"id": "m1", "role": "user", "text": text, "status": "completed"}
    return {"type": "message.created", "seq": seq, "conversation": "c1", "message": message}


def test_a_hello_carries_both_cursors() -> None:
    copy = begun()
    assert "resume" in copy.hello("t")
    copy.heard(started(5))
    copy.heard(delta(0, "é🙂"))
    hello = copy.hello("t")
    assert hello["resume"] == {"epoch": "e1", "seq": 5}
    assert hello["runs"] == [{"run": "r1", "offset": 2}]
    copy.heard(done("é🙂", 6))
    assert copy.hello("t")["runs"] == []


def test_the_first_hello_resumes_nothing() -> None:
    assert Copy().hello("t") == {"type": "hello", "v": 1, "token": "t", "client": "chaos"}


def test_what_was_seen_is_dropped_and_a_missing_event_needs_a_new_connection() -> None:
    copy = begun()
    assert copy.heard(created(5)) == []
    assert copy.heard(created(5)) == []
    assert copy.counts.repeats == 1
    assert copy.heard(started(7)) == [("resume", "")]
    assert copy.seq == 5
    assert "r1" not in copy.replies


def test_a_hole_in_a_reply_is_attached_and_an_overlap_dropped() -> None:
    copy = begun()
    copy.heard(delta(0, "Noted"))
    assert copy.heard(delta(7, "Biscuit")) == [("attach", "r1")]
    assert copy.heard(delta(3, "ed: ")) == []
    assert copy.replies["r1"].text == "Noted: "
    assert copy.complaints == []


def test_text_that_contradicts_what_was_shown_is_complained_of() -> None:
    copy = begun()
    copy.heard(delta(0, "Noted"))
    copy.heard(delta(2, "xy"))
    copy.heard(done("Other words", 5))
    assert [complaint.partition(":")[0] for complaint in copy.complaints] == ["contradicted"] * 2
    assert copy.replies["r1"].text == "Other words"


def test_a_wrong_digest_and_two_different_ends_are_complained_of() -> None:
    copy = begun()
    copy.heard(done("Noted", 5, sha256="00"))
    copy.heard(done("Noted", 6, chars=4))
    copy.heard(done("Noted twice"))
    kinds = [complaint.partition(":")[0] for complaint in copy.complaints]
    assert kinds == ["wrong digest", "wrong digest", "changed"]


def test_an_end_that_is_told_again_without_a_place_changes_nothing() -> None:
    copy = begun()
    copy.heard(delta(0, "Noted"))
    copy.heard(done("Noted."))
    copy.heard(done("Noted.", 5))
    reply = copy.replies["r1"]
    assert (reply.text, reply.done, reply.mended, copy.complaints) == ("Noted.", True, True, [])


def test_a_fresh_start_and_a_reset_ask_for_the_history() -> None:
    copy = begun()
    assert not copy.welcome(WELCOME | {"resumed": True, "seq": 9})
    assert copy.seq == 4, "the missed events follow"
    assert copy.heard({"type": "reset", "epoch": "e2", "seq": 1}) == [("read", "")]
    assert (copy.epoch, copy.seq) == ("e2", 1)
    assert copy.heard(created(2)) == []


def test_the_history_ends_replies_and_never_shortens_what_is_shown() -> None:
    copy = begun()
    copy.heard(delta(0, "Noted: Bis"))
    copy.read("c1", [created(0)["message"]], [{"run": "r1", "message": "m1", "text": "Noted"}])
    assert copy.replies["r1"].text == "Noted: Bis"
    copy.read("c1", [done("Noted: Biscuit.")["message"]], [])
    assert copy.replies["r1"].done
    assert copy.said["m1"].text == "Hello"
    assert copy.complaints == []


@given(
    st.text(min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=20),
)
def test_whatever_pieces_come_there_is_never_a_hole(
    reply: str, pieces: list[tuple[int, int]]
) -> None:
    copy = begun()
    for offset, length in pieces:
        if piece := reply[offset : offset + length]:
            wishes: list[tuple[Wish, str]] = copy.heard(delta(offset, piece))
            shown = copy.replies["r1"].text
            assert reply.startswith(shown)
            assert bool(wishes) == (offset > len(shown))
    copy.heard(done(reply, 5))
    assert copy.replies["r1"].text == reply
    assert copy.complaints == []


def test_a_deleted_message_is_dropped_and_an_older_answer_does_not_bring_it_back() -> None:
    copy = begun()
    copy.heard(created(5))
    copy.heard(started(6))
    copy.heard(done("Hi", 7))
    for seq, id_ in ((8, "m1"), (9, "r1")):
        left = {"id": id_, "role": "user", "text": "", "status": "deleted"}
        copy.heard({"type": "message.deleted", "seq": seq, "conversation": "c1", "message": left})
    assert (copy.said, copy.replies) == ({}, {})
    copy.heard(done("Hi"))
    copy.read("c1", [created(5)["message"], done("Hi")["message"]], [])
    assert (copy.said, copy.replies, copy.complaints) == ({}, {}, [])
    copy.heard(created(10))
    assert copy.said == {}
    assert copy.complaints == ["undeleted: message m1 was told of once more"]
