"""The conversations and messages that a client was told of; no I/O."""

from __future__ import annotations

from typing import Final, TypeVar

from msgspec.structs import replace

from chat_server.client_events import (
    ConversationDeleted,
    ConversationUpdated,
    MessageCreated,
    MessageDeleted,
)
from chat_server.client_values import DELETED, Conversation, Message

MAX_MESSAGES: Final = 1_000
MAX_CONVERSATIONS: Final = 1_000

Value = TypeVar("Value")


def keep(where: dict[str, Value], id_: str, value: Value, most: int) -> None:
    """Put *value* last, and forget the first where there are more than *most*."""
    where.pop(id_, None)
    where[id_] = value
    if len(where) > most:
        del where[next(iter(where))]


class Told:
    """The newest of them. What is told twice is there once, and what is deleted does not return
    with a word that comes late.
    """

    def __init__(self) -> None:
        self.conversations: dict[str, Conversation] = {}
        self.messages: dict[str, tuple[str, Message]] = {}
        """By id: the conversation, and the message."""
        self._deleted: dict[str, None] = {}

    def is_deleted(self, conversation: str | None) -> bool:
        """Whether it was told that *conversation* is gone."""
        return conversation in self._deleted

    def take(
        self, event: MessageCreated | MessageDeleted | ConversationUpdated | ConversationDeleted
    ) -> None:
        """Remember what *event* tells."""
        match event:
            case MessageCreated(message=message) | MessageDeleted(message=message):
                self.say(event.conversation, message, stored=message.stored)
            case ConversationUpdated(conversation=conversation):
                self._deleted.pop(conversation.id, None)
                keep(self.conversations, conversation.id, conversation, MAX_CONVERSATIONS)
            case ConversationDeleted(conversation=gone):
                self.conversations.pop(gone.id, None)
                keep(self._deleted, gone.id, None, MAX_CONVERSATIONS)
                for id_ in [id_ for id_, told in self.messages.items() if told[0] == gone.id]:
                    del self.messages[id_]

    def say(self, conversation: str, message: Message, *, stored: bool) -> None:
        """Remember *message*; once it is stored, it stays so, and so it does once it is deleted."""
        _, known = self.messages.get(message.id, ("", None))
        if self.is_deleted(conversation) or (known and known.stored and not stored):
            return
        if known and known.status == DELETED:
            return
        told = message if message.stored == stored else replace(message, stored=stored)
        keep(self.messages, message.id, (conversation, told), MAX_MESSAGES)
