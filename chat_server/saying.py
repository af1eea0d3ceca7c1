"""What a user says, and where: at the end of a conversation, behind a message, or in its place."""

from __future__ import annotations

from dataclasses import dataclass, field

from chat_server.errors import ChatError
from chat_server.protocol import Edit, Send
from memory.dual_memory import DualMemory
from memory.messages import (
    ConversationId,
    Message,
    MessageId,
    UserId,
    conversation_id,
    message_id,
    reply_id,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What is to be said under the id *id* of the client's own, which is safe to repeat for ever.

    ``parent`` names what it follows, or ``instead`` is the message in whose place it stands;
    where there is neither it goes to the end. ``opens``: the conversation's id was made just now,
    so nothing can stand there. ``known``: it may be stored already, and that is looked up first.
    """

    id: str
    text: str
    conversation: ConversationId
    author: str | None = None
    opens: bool = False
    parent: MessageId | None = None
    instead: Message | None = None
    known: bool = False
    use_memory: bool = True
    without: frozenset[MessageId] = field(default=frozenset())
    """What is not remembered for its reply: what it takes the place of."""


def sent(send: Send, user: UserId) -> Saying:
    """What *send* says."""
    return Saying(
        id=send.id,
        text=send.text,
        conversation=ConversationId(send.conversation or conversation_id(user, send.id)),
        author=send.author,
        opens=send.conversation is None,
        parent=MessageId(send.parent) if send.parent is not None else None,
        known=send.retry,
        use_memory=send.options.memory,
    )


async def edited(edit: Edit, user: UserId, memory: DualMemory) -> Saying:
    """What *edit* says, in the place of a message of *user*'s own.

    Raises:
        ChatError: ``unknown_message``.
        StoreError: that message cannot be read.
    """
    instead = MessageId(edit.message)
    found = await memory.long_term.by_ids(user, [instead])
    if not found or found[0].role != "user" or found[0].status == "deleted":
        raise ChatError("unknown_message", "no such message of yours", field="message")
    return Saying(
        id=edit.id,
        text=edit.text,
        conversation=found[0].conversation,
        author=found[0].author,
        instead=found[0],
        known=True,
        without=frozenset({instead, reply_id(instead, 0)}),
    )


def question_id(saying: Saying, user: UserId) -> MessageId:
    """The id under which it is stored."""
    return message_id(user, saying.id)
