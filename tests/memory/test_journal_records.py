"""Whatever becomes of a segment's bytes, only what was written is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory.journal_records import (
    MARK,
    SEGMENT_HEADER,
    Record,
    ReplyBegan,
    ReplyEnded,
    ReplyGrew,
    ReplySettled,
    frame,
    scan,
    unsettled,
)
from memory.messages import ConversationId, Message, MessageId, UserId

ids = st.sampled_from([MessageId("r1"), MessageId("r2"), MessageId("r3")])
texts = st.text(st.characters(codec="utf-8"), max_size=40)


def began(reply: str = "r1", user: str = "ana") -> ReplyBegan:
    return ReplyBegan(
        reply=MessageId(reply),
        user=UserId(user),
        conversation=ConversationId("talk"),
        question=MessageId("m1"),
        timestamp=1_750_000_000.5,
        model="gpt-4o-mini",
    )


def ended(reply: str = "r1", text: str = "All of it.", user: str = "ana") -> Message:
    return Message(
        id=MessageId(reply),
        user=UserId(user),
        conversation=ConversationId("talk"),
        role="assistant",
        text=text,
        timestamp=1_750_000_001.5,
        depth=1,
        parent=MessageId("m1"),
        reply_to=MessageId("m1"),
    )


records = st.one_of(
    st.builds(began, ids),
    st.builds(ReplyGrew, ids, st.integers(0, 50), texts),
    st.builds(ReplyEnded, st.builds(ended, ids, texts)),
    st.builds(ReplySettled, ids),
)


def segment(written: list[Record]) -> bytes:
    return SEGMENT_HEADER + b"".join(frame(record) for record in written)


def frames_before(written: list[Record], position: int) -> int:
    """How many frames end at or before *position*."""
    end, count = len(SEGMENT_HEADER), 0
    for record in written:
        end += len(frame(record))
        if end > position:
            break
        count += 1
    return count


@given(st.lists(records))
def test_what_was_written_is_read_in_order(written: list[Record]) -> None:
    found = scan(segment(written))
    assert list(found.records) == written
    assert (found.damaged_bytes, found.torn) == (0, False)


@given(st.lists(records, min_size=1), st.data())
def test_of_a_torn_segment_all_whole_records_are_read(
    written: list[Record], data: st.DataObject
) -> None:
    whole = segment(written)
    length = data.draw(st.integers(0, len(whole)))
    found = scan(whole[:length])
    count = frames_before(written, length)
    assert list(found.records) == written[:count]
    assert found.torn == bool(found.damaged_bytes)


@given(st.lists(records, min_size=1), st.data())
def test_a_flipped_bit_costs_one_record_and_makes_no_other(
    written: list[Record], data: st.DataObject
) -> None:
    damaged = bytearray(segment(written))
    bit = data.draw(st.integers(len(SEGMENT_HEADER) * 8, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    hit = frames_before(written, bit // 8)
    found = scan(bytes(damaged))
    assert list(found.records) == written[:hit] + written[hit + 1 :]
    assert found.damaged_bytes == len(frame(written[hit]))
    assert found.torn == (hit == len(written) - 1)


@given(st.lists(records, max_size=5), st.binary(max_size=60), st.lists(records, max_size=5))
def test_rubbish_between_records_is_passed_over(
    before: list[Record], rubbish: bytes, after: list[Record]
) -> None:
    whole = segment(before) + rubbish + b"".join(frame(record) for record in after)
    assert list(scan(whole).records) == before + after


@given(st.binary(max_size=200))
def test_rubbish_alone_is_no_record(rubbish: bytes) -> None:
    assert scan(rubbish).records == ()


def test_words_that_look_like_a_record_are_words() -> None:
    forged = frame(ReplyEnded(ended("r9", "forged"))).decode("utf-8", errors="surrogateescape")
    words = forged.encode("utf-8", errors="replace").decode()
    whole = bytearray(segment([ReplyEnded(ended("r1", words)), ReplySettled(MessageId("r2"))]))
    whole[len(SEGMENT_HEADER)] ^= 0xFF
    assert MARK not in words.encode()
    assert list(scan(bytes(whole)).records) == [ReplySettled(MessageId("r2"))]


def test_a_reply_grows_from_its_pieces_up_to_a_gap() -> None:
    r1 = MessageId("r1")
    grown: list[Record] = [
        began(),
        ReplyGrew(r1, 0, "Grüße "),
        ReplyGrew(r1, 6, "👩‍🚀!"),
        ReplyGrew(r1, 99, "no"),
    ]
    message = unsettled(grown)[r1].as_message()
    assert message is not None
    assert message.text == "Grüße 👩‍🚀!"
    assert (message.status, message.reply_to, message.role) == ("interrupted", "m1", "assistant")
    assert message.timestamp == began().timestamp


def test_a_reply_that_ended_is_what_it_ended_as() -> None:
    grew = ReplyGrew(MessageId("r1"), 0, "All")
    left = unsettled([began(), grew, ReplyEnded(ended())])
    assert left[MessageId("r1")].as_message() == ended()


def test_of_a_reply_whose_beginning_is_unknown_or_silent_nothing_is_left() -> None:
    assert unsettled([ReplyGrew(MessageId("r1"), 0, "x")])[MessageId("r1")].as_message() is None
    assert unsettled([began()])[MessageId("r1")].as_message() is None


@given(st.lists(records))
def test_reading_all_twice_is_reading_it_once(written: list[Record]) -> None:
    growing: list[Record] = [
        record for record in written if not isinstance(record, ReplyBegan | ReplySettled)
    ]
    settled: list[Record] = [ReplySettled(MessageId("r2"))]
    once = unsettled([*growing, *settled])
    twice = unsettled([*growing, *settled, *growing, *settled])
    assert set(once) == set(twice)


def test_what_is_settled_is_left_out_and_may_begin_again() -> None:
    r1 = MessageId("r1")
    past: list[Record] = [began(), ReplyGrew(r1, 0, "Old"), ReplySettled(r1)]
    assert unsettled(past) == {}
    message = unsettled([*past, began(), ReplyGrew(r1, 0, "New")])[r1].as_message()
    assert message is not None
    assert message.text == "New"
