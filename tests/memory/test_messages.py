from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.messages import (
    OFFLINE_MODEL,
    ConversationId,
    Message,
    MessageId,
    UserId,
    conversation_id,
    is_reply_id,
    is_user_id,
    message_id,
    reply_id,
    stands_beside,
    user_key,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
users = texts.map(UserId)


def message(text: str, model: str | None = None) -> Message:
    return Message(
        id=MessageId("m"),
        user=UserId("ann"),
        conversation=ConversationId("c"),
        role="assistant",
        text=text,
        timestamp=1.0,
        depth=0,
        model=model,
    )


@given(users, texts)
def test_ids_are_short_plain_and_the_same_for_ever(user: UserId, client_id: str) -> None:
    for made in (message_id(user, client_id), conversation_id(user, client_id)):
        assert re.fullmatch(r"[mc][a-z2-7]{26}", made)
    assert message_id(user, client_id) == message_id(user, client_id)
    assert reply_id(message_id(user, client_id), 0)[1:] != message_id(user, client_id)[1:]


@given(st.tuples(users, texts), st.tuples(users, texts))
def test_ids_differ_where_anything_differs(
    one: tuple[UserId, str], other: tuple[UserId, str]
) -> None:
    assert (message_id(*one) == message_id(*other)) == (one == other)
    assert (conversation_id(*one) == conversation_id(*other)) == (one == other)


def test_where_a_user_ends_and_an_id_begins_makes_a_difference() -> None:
    assert message_id(UserId("ab"), "c") != message_id(UserId("a"), "bc")


def test_ids_stay_as_they_are() -> None:
    question = message_id(UserId("ann"), "first")
    assert question == "mxygzpmkwhecj7apdfzykc7j44a"
    assert conversation_id(UserId("ann"), "first") == "cuy772ikspo6q6346i2mglygzfu"
    assert reply_id(question, 0) == "rtbtfkv3v3ttxju2guehxydp6j4"


@given(st.integers(0, 5), st.integers(0, 5))
def test_each_attempt_is_a_reply_of_its_own(one: int, other: int) -> None:
    question = message_id(UserId("ann"), "first")
    assert (reply_id(question, one) == reply_id(question, other)) == (one == other)


def test_a_reply_that_was_asked_for_anew_is_known_by_its_id() -> None:
    question = MessageId("mq")
    ids = [reply_id(question, attempt) for attempt in (0, "0", "again", "again-2", 1)]
    assert len(set(ids)) == len(ids)
    assert all(is_reply_id(id_) for id_ in ids)
    replies = [
        Message(
            id=id_, user=UserId("ann"), conversation=ConversationId("c"), role="assistant",
            text="", timestamp=1.0, depth=1, reply_to=question,
        )
        for id_ in ids
    ]  # fmt: skip
    assert [stands_beside(reply) for reply in replies] == [False, True, True, True, True]
    assert not stands_beside(msgspec.structs.replace(replies[1], reply_to=None))
    assert not stands_beside(msgspec.structs.replace(replies[1], id=MessageId("imported")))


@given(users, users)
def test_a_user_s_key_is_one_segment_and_nobody_else_s(one: UserId, other: UserId) -> None:
    assert not set(user_key(one)) & set("/{}: ")
    assert (user_key(one) == user_key(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "model", "recallable"),
    [
        ("I live in Lisbon", None, True),
        ("You live in Lisbon", "gpt-4o-mini", True),
        ("You told me: Lisbon", OFFLINE_MODEL, False),
        ("", None, False),
        (" \n", None, False),
    ],
)
def test_what_has_no_words_or_repeats_memory_is_not_recalled(
    text: str,
    model: str | None,
    recallable: bool,  # noqa: FBT001  # a column of the table
) -> None:
    assert message(text, model).recallable is recallable


def test_what_was_said_never_changes() -> None:
    with pytest.raises(AttributeError):
        message("hello").text = "other"  # type: ignore[misc]  # that is the point


@given(texts, st.none() | texts)
def test_a_message_survives_being_written_down(text: str, author: str | None) -> None:
    written = msgspec.structs.replace(message(text), author=author)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=Message) == written
    assert msgspec.json.decode(msgspec.json.encode(written), type=Message) == written


def test_a_user_s_id_can_be_written_down_anywhere() -> None:
    assert all(is_user_id(text) for text in ("a", "bot-1", "Ann_B.c", "x" * 64))
    assert not any(is_user_id(text) for text in ("", "two words", "a/b", "x" * 65, "käse", "a\n"))
