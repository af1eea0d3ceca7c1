from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server.transfer_lines import (
    MAX_LINE_BYTES,
    MAX_TEXT_BYTES,
    BadLine,
    Line,
    Lines,
    NumberedLine,
    encode_line,
    line_of,
    moment,
    parse_line,
)
from memory.messages import Conversation, ConversationId, Message, MessageId, UserId

ids = st.text("abcXYZ019_-", min_size=1, max_size=64)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
lines = st.builds(
    Line,
    id=ids,
    conversation=ids,
    role=st.sampled_from(["user", "assistant"]),
    text=words.filter(str.strip),
    timestamp=st.none() | st.floats(0, 4e9) | st.just("2024-05-01T10:00:00Z"),
    parent=st.none() | ids,
    author=st.none() | st.text("äöü A", min_size=1, max_size=80),
    title=st.none() | words,
    head=st.none() | ids,
    model=st.none() | st.just("m"),
    forgotten=st.booleans(),
)


def raw(**changes: Any) -> bytes:
    fields = {"id": "a", "conversation": "c", "role": "user", "text": "hello", **changes}
    return json.dumps({key: it for key, it in fields.items() if it != "left out"}).encode()


@given(line=lines)
def test_what_is_written_is_read_again(line: Line) -> None:
    written = encode_line(line)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert parse_line(written) == line


@given(content=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_line_or_a_bad_line(content: bytes) -> None:
    try:
        parse_line(content)
    except BadLine as wrong:
        assert wrong.code in {"bad_request", "empty_text", "text_too_long"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "left out"}, "id"),
        ({"id": "a b"}, "id"),
        ({"id": 3}, "id"),
        ({"conversation": "left out"}, "conversation"),
        ({"conversation": ""}, "conversation"),
        ({"role": "system"}, "role"),
        ({"text": "left out"}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "x" * (MAX_TEXT_BYTES + 1)}, "text"),
        ({"timestamp": True}, "timestamp"),
        ({"parent": "no/id"}, "parent"),
        ({"author": ""}, "author"),
        ({"author": "x" * 81}, "author"),
        ({"title": "x" * 201}, "title"),
        ({"status": "stopped"}, "status"),
        ({"status": "well"}, "status"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_line(raw(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null", b'"\xed\xa0\x80"'])
def test_what_is_no_object_is_a_bad_line(content: bytes) -> None:
    with pytest.raises(BadLine):
        parse_line(content)


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_deleted_message_comes_without_words_and_only_so(role: str) -> None:
    line = parse_line(raw(role=role, text="", status="deleted"))
    assert (line.text, line.status) == ("", "deleted")
    for extra in ({"text": "words"}, {"author": "Ann"}, {"model": "m"}):
        with pytest.raises(BadLine):
            parse_line(raw(**{"role": role, "text": "", "status": "deleted", **extra}))


def test_a_reply_may_have_ended_otherwise_and_without_words() -> None:
    line = parse_line(raw(role="assistant", text="", status="failed", model="m", more=1))
    assert (line.text, line.status, line.model) == ("", "failed", "m")


@pytest.mark.parametrize(
    ("given_time", "seconds"),
    [
        (12.5, 12.5),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC).timestamp()),
    ],
)
def test_times_are_numbers_or_iso_8601(given_time: float | str, seconds: float) -> None:
    assert moment(given_time) == seconds


@pytest.mark.parametrize("given_time", [-1.0, 1e15, float("inf"), "yesterday", "1960-01-01", ""])
def test_what_is_no_time_is_refused(given_time: float | str) -> None:
    with pytest.raises(BadLine) as caught:
        moment(given_time)
    assert caught.value.field == "timestamp"


@given(
    content=st.lists(st.sampled_from([b"{}", b" x ", b"", b"  "]), max_size=20).map(b"\n".join),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_lines_are_the_same_however_the_stream_is_cut(content: bytes, cuts: list[int]) -> None:
    cutter, start = Lines(), 0
    found: list[NumberedLine] = []
    for cut in [*sorted(cuts), len(content)]:
        found += cutter.feed(content[start:cut])
        start = max(start, cut)
    found += cutter.end()
    expected = [
        NumberedLine(number, part)
        for number, part in enumerate(content.split(b"\n"), 1)
        if part.strip()
    ]
    assert found == expected


def test_a_line_that_is_too_long_is_left_out_and_those_after_it_are_not() -> None:
    cutter = Lines()
    found = list(cutter.feed(b"a\n"))
    for _ in range(3):
        found += cutter.feed(b"x" * (MAX_LINE_BYTES // 2))
    found += cutter.feed(b"x\nb\n" + b"y" * MAX_LINE_BYTES + b"\n")
    found += cutter.feed(b"z" * (MAX_LINE_BYTES + 1))
    found += cutter.end()
    assert found == [
        (1, b"a"),
        (2, None),
        (3, b"b"),
        (4, b"y" * MAX_LINE_BYTES),
        (5, None),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    cutter = Lines()
    assert list(cutter.feed("\ufeffa\r\n\ufeffb\n".encode())) == [
        (1, b"a\r"),
        (2, "\ufeffb".encode()),
    ]


def test_a_conversations_first_line_says_its_title_and_where_it_is_shown() -> None:
    message = Message(
        id=MessageId("m1"),
        user=UserId("ann"),
        conversation=ConversationId("c"),
        role="assistant",
        text="Hi",
        timestamp=2.5,
        depth=3,
        parent=MessageId("m0"),
        author="Bo",
        status="stopped",
        model="m",
    )
    conversation = Conversation(
        id=message.conversation,
        user=message.user,
        title="",
        created_at=1,
        updated_at=2,
        head=MessageId("m7"),
    )
    line = line_of(message)
    assert json.loads(encode_line(line)) == {
        "id": "m1",
        "conversation": "c",
        "role": "assistant",
        "text": "Hi",
        "timestamp": 2.5,
        "parent": "m0",
        "author": "Bo",
        "status": "stopped",
        "model": "m",
    }
    first = json.loads(encode_line(line_of(message, conversation)))
    assert (first["title"], first["head"]) == ("", "m7")
