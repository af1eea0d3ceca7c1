from __future__ import annotations

from chat_server.client_events import (
    ConversationDeleted,
    ConversationGone,
    ConversationUpdated,
    MessageCreated,
    MessageDeleted,
)
from chat_server.client_told import MAX_MESSAGES, Told, keep
from chat_server.client_values import DELETED, Conversation, Message


def created(id_: str, conversation: str = "c1") -> MessageCreated:
    message = Message(id=id_, role="user", text=id_, timestamp=1.0)
    return MessageCreated(conversation=conversation, message=message)


def updated(id_: str) -> ConversationUpdated:
    conversation = Conversation(id=id_, title="Hi", created_at=1.0, updated_at=1.0)
    return ConversationUpdated(conversation=conversation)


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    kept: dict[str, int] = {}
    for number in range(5):
        keep(kept, str(number), number, 3)
    keep(kept, "2", 20, 3)
    assert kept == {"3": 3, "4": 4, "2": 20}
    told = Told()
    for number in range(MAX_MESSAGES + 10):
        told.take(created(f"m{number}"))
    assert len(told.messages) == MAX_MESSAGES
    assert "m0" not in told.messages


def test_a_deleted_conversation_takes_its_messages_along_and_no_others() -> None:
    told = Told()
    for event in (updated("c1"), updated("c2"), created("m1"), created("m2", "c2")):
        told.take(event)
    told.take(ConversationDeleted(conversation=ConversationGone("c1")))
    told.take(created("late"))
    assert set(told.conversations) == {"c2"}
    assert set(told.messages) == {"m2"}
    assert told.is_deleted("c1")
    told.take(updated("c1"))
    assert not told.is_deleted("c1")


def test_what_is_stored_does_not_become_unstored() -> None:
    told = Told()
    message = Message(id="r", role="assistant", text="Hi", timestamp=1.0)
    told.say("c1", message, stored=False)
    assert not told.messages["r"][1].stored
    told.say("c1", message, stored=True)
    told.say("c1", message, stored=False)
    assert told.messages["r"][1].stored


def test_a_deleted_message_keeps_its_place_without_words() -> None:
    told = Told()
    told.take(created("m1"))
    left = Message(id="m1", role="user", text="", timestamp=1.0, status=DELETED)
    told.take(MessageDeleted(conversation="c1", message=left))
    told.take(created("m1"))
    assert told.messages == {"m1": ("c1", left)}
