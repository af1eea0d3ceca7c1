from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory import open_replies
from memory.journal_records import SEGMENT_HEADER, Record, ReplySettled, scan, unsettled
from memory.messages import MessageId, UserId
from memory.open_replies import OpenReplies
from tests.memory.test_journal_records import began, ended

R1, R2 = MessageId("r1"), MessageId("r2")


class Spoken:
    """A reply that grows when it is told to."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    @property
    def chars(self) -> int:
        return len(self.text)


def records(data: bytes) -> list[Record]:
    found = scan(SEGMENT_HEADER + data)
    assert found.damaged_bytes == 0
    return list(found.records)


def texts(data: bytes) -> dict[str, str]:
    left = {reply: found.as_message() for reply, found in unsettled(records(data)).items()}
    return {reply: message.text for reply, message in left.items() if message is not None}


def test_each_piece_is_given_out_once_with_its_offset() -> None:
    replies, spoken = OpenReplies(), Spoken()
    assert replies.follow(began(), spoken)
    assert replies.changes() == (b"", False), "nothing was said yet"
    spoken.text = "Grüße"
    first, must_sync = replies.changes()
    assert must_sync
    assert replies.changes() == (b"", False)
    spoken.text = "Grüße 👩‍🚀"
    second, _ = replies.changes()
    assert "Grüße".encode() not in second
    assert texts(first + second) == {"r1": "Grüße 👩‍🚀"}


def test_what_was_never_written_needs_no_settling() -> None:
    replies = OpenReplies()
    replies.follow(began(), Spoken("Short."))
    assert not replies.settle(R1)
    assert replies.changes() == (b"", False)
    assert not replies


def test_what_was_written_is_settled_without_haste() -> None:
    replies = OpenReplies()
    replies.follow(began(), Spoken("Long."))
    before, _ = replies.changes()
    assert replies.settle(R1)
    data, must_sync = replies.changes()
    assert (records(data), must_sync) == ([ReplySettled(R1)], False)
    assert texts(before + data) == {}
    assert not replies.growing


def test_a_reply_that_ended_is_followed_no_more() -> None:
    replies = OpenReplies()
    replies.follow(began(), Spoken("All"))
    before, _ = replies.changes()
    assert replies.keep(ended(text="All of it."))
    assert not replies.growing
    data, must_sync = replies.changes()
    assert must_sync
    assert texts(before + data) == {"r1": "All of it."}
    assert replies.keep(ended(text="All of it.")), "twice is once"
    assert replies.changes() == (b"", False)
    assert [message.text for message in replies.kept] == ["All of it."]


def test_everything_is_what_a_reader_needs_who_knows_nothing() -> None:
    replies = OpenReplies()
    replies.follow(began("r1"), Spoken("One"))
    replies.follow(began("r2"), Spoken("Two"))
    replies.follow(began("r3"), Spoken("Three"))
    replies.changes()
    replies.keep(ended("r2", "Two."))
    replies.settle(MessageId("r3"))
    assert texts(replies.everything()) == {"r1": "One", "r2": "Two."}
    assert replies.changes() == (b"", False)


def test_forgetting_takes_one_users_replies_and_no_others() -> None:
    replies = OpenReplies()
    replies.follow(began("r1", "ana"), Spoken("Ana's"))
    replies.keep(ended("r2", "Ana's too", "ana"))
    replies.follow(began("r3", "bo"), Spoken("Bo's"))
    replies.forget(UserId("ana"))
    assert texts(replies.everything()) == {"r3": "Bo's"}
    replies.forget_messages([MessageId("r3")])
    assert replies.everything() == b""
    assert (len(replies), replies.growing) == (0, False)


def test_what_is_dropped_before_it_was_given_out_is_not_written() -> None:
    replies = OpenReplies()
    replies.keep(ended("r1", "Secret", "ana"))
    replies.forget(UserId("ana"))
    assert replies.changes() == (b"", False)


def test_there_is_a_bound_on_replies_and_on_their_words() -> None:
    replies = OpenReplies()
    for n in range(open_replies.MAX_OPEN):
        assert replies.follow(began(f"r{n}"), Spoken())
    assert not replies.follow(began("one-more"), Spoken())
    assert not replies.keep(ended("one-more"))
    assert replies.keep(ended("r1")), "one that is followed already takes no place"
    assert not replies.keep(ended("r2", "x" * open_replies.MAX_KEPT_CHARS))
    replies.settle(R1)
    assert replies.keep(ended("r2", "x" * open_replies.MAX_KEPT_CHARS))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(st.characters(codec="utf-8")))))
def test_pieces_add_up_to_what_was_said(said: list[tuple[str, str]]) -> None:
    replies = OpenReplies()
    spoken = {name: Spoken() for name in "abc"}
    for name, source in spoken.items():
        replies.follow(began(name), source)
    written = b""
    for name, piece in said:
        spoken[name].text += piece
        written += replies.changes()[0]
    assert texts(written) == {name: it.text for name, it in spoken.items() if it.text}
