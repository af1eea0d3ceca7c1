from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from memory.conversation_tree import Node
from memory.errors import CorruptRecord, IdConflict
from memory.messages import Appended, Conversation, ConversationId, Message, MessageId, UserId
from memory.records import (
    FIRST_MONTH,
    LAST_MONTH,
    conversation_record,
    conversation_record_id,
    message_record,
    month_key,
    month_of,
    page_key,
    page_of,
    settled,
    stored_conversation,
    stored_message,
    stored_node,
)

ANN = UserId("ann")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.one_of(st.sampled_from(["", "a", "a/1", "a/1/2", "1", "/", "%2F", "2026-05"]), texts)
times = st.floats(0, 4e9, allow_nan=False)
messages = st.builds(
    Message,
    id=texts,
    user=texts,
    conversation=texts,
    role=st.sampled_from(["user", "assistant"]),
    text=texts,
    timestamp=times,
    depth=st.integers(0, 100_000),
    parent=st.none() | texts.filter(bool),
    client_id=st.none() | texts,
    author=st.none() | texts,
    status=st.sampled_from(["completed", "stopped", "interrupted", "failed"]),
    model=st.none() | texts,
    reply_to=st.none() | texts.filter(bool),
)
conversations = st.builds(
    Conversation,
    id=texts,
    user=texts,
    title=texts,
    created_at=times,
    updated_at=times,
    head=st.none() | texts.filter(bool),
)


def hello(**changes: Any) -> Message:
    message = Message(
        id=MessageId("m1"),
        user=ANN,
        conversation=ConversationId("tea"),
        role="user",
        text="hello",
        timestamp=1_700_000_000.5,
        depth=17,
        parent=MessageId("m0"),
    )
    return msgspec.structs.replace(message, **changes)


@given(messages)
def test_a_message_survives_being_a_record(message: Message) -> None:
    record = message_record(message)
    assert stored_message(message.user, record.id, record.document, record.metadata) == message
    place = Node(message.id, message.parent, message.depth)
    assert stored_node(message.user, record.id, record.metadata) == place


@given(conversations)
def test_a_conversation_survives_being_a_record(conversation: Conversation) -> None:
    record = conversation_record(conversation)
    assert stored_conversation(conversation.user, record.id, record.metadata) == conversation
    assert record.document == conversation.title


def test_a_plain_message_has_no_keys_that_say_nothing() -> None:
    record = message_record(hello())
    assert (record.id, record.document) == ("m1", "hello")
    assert record.metadata == {
        "v": 1,
        "user_id": "ann",
        "type": "user",
        "timestamp": 1_700_000_000.5,
        "conversation_id": "tea",
        "parent": "m0",
        "depth": 17,
        "page": "ann/tea/1",
        "month": "ann/2023-11",
    }


def test_integers_are_times_too() -> None:
    record = message_record(hello())
    found = stored_message(ANN, "m1", "hello", record.metadata | {"timestamp": 17})
    assert found.timestamp == 17.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_id", "eve"),
        ("user_id", None),
        ("type", "system"),
        ("type", None),
        ("timestamp", "yesterday"),
        ("timestamp", True),
        ("conversation_id", 3),
        ("parent", None),
        ("depth", 1.5),
        ("depth", False),
        ("client_id", 3),
        ("author", 3),
        ("status", "lost"),
        ("model", 3),
        ("reply_to", 3),
    ],
)
def test_a_record_that_is_not_ours_is_named_with_its_field(field: str, value: object) -> None:
    metadata = message_record(hello()).metadata | {field: value}
    with pytest.raises(CorruptRecord) as caught:
        stored_message(ANN, "m1", "hello", metadata)
    assert (caught.value.record_id, caught.value.field) == ("m1", field)


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_record_without_metadata_is_not_ours(metadata: dict[str, object] | None) -> None:
    for read in (stored_node, stored_conversation):
        with pytest.raises(CorruptRecord):
            read(ANN, "m1", metadata)


def test_a_record_without_a_document_is_not_ours() -> None:
    with pytest.raises(CorruptRecord):
        stored_message(ANN, "m1", None, message_record(hello()).metadata)


@pytest.mark.parametrize("field", ["title", "created_at", "updated_at", "head", "user_id"])
def test_a_conversation_that_lacks_a_field_is_not_ours(field: str) -> None:
    metadata = conversation_record(
        Conversation(id=ConversationId("tea"), user=ANN, title="", created_at=1, updated_at=2)
    ).metadata
    del metadata[field]
    with pytest.raises(CorruptRecord):
        stored_conversation(ANN, "c", metadata)


@given(names, names, names, names, st.integers(0, 3), st.integers(0, 3))
def test_no_two_places_share_a_key(
    user: str, conversation: str, other_user: str, other: str, page: int, other_page: int
) -> None:
    here = (UserId(user), ConversationId(conversation))
    there = (UserId(other_user), ConversationId(other))
    same = here == there
    assert (conversation_record_id(*here) == conversation_record_id(*there)) == same
    same_page = same and page == other_page
    assert (page_key(*here, page) == page_key(*there, other_page)) == same_page
    assume(user != other_user)
    assert month_key(here[0], page) != month_key(there[0], page)


def test_sixteen_depths_share_a_page() -> None:
    assert [page_of(depth) for depth in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]


def test_months_are_counted_in_utc_and_within_bounds() -> None:
    assert month_of(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC).timestamp()) == 2026 * 12 + 1
    assert month_of(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) == 2026 * 12 + 2
    assert month_key(ANN, 2026 * 12 + 2) == "ann/2026-03"
    assert month_of(-1) == month_of(0) == month_of(math.nan) == FIRST_MONTH
    assert month_of(1e300) == LAST_MONTH


@given(conversations)
def test_the_id_of_a_conversation_is_short_enough_for_any_store(it: Conversation) -> None:
    assert len(conversation_record(it).id.encode()) <= 128


def test_what_was_said_decides_whether_it_is_a_duplicate() -> None:
    stored = hello()
    again = hello(timestamp=1.0, parent=None)
    assert settled(again, stored) == Appended(stored, duplicate=True)
    for change in ({"text": "hi"}, {"role": "assistant"}, {"conversation": "x"}, {"user": "eve"}):
        assert isinstance(settled(hello(**change), stored), IdConflict)
