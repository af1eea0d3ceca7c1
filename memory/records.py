"""Messages and conversations as Chroma records, and back; pure.

A record is an id, a document (the words) and flat metadata. Two keys of the metadata exist
for look-ups only: each is made of the user and something of that user's, so that one equality
finds what is asked for and can find nothing of anybody else (decision 3)::

    page   <user>/<conversation>/<depth // 16>    a stretch of a conversation
    month  <user>/<yyyy-mm>                       what was said in a month, UTC

A conversation's record has one of the kind, ``listed``, for the month of its last update. Two keys
stand in few records. ``unembedded`` marks, for a time, those whose words could not be embedded yet:
they have a placeholder for a vector, which is never compared with anything. ``forgotten`` is the
``<user>`` where something is not to be recalled: one equality finds all that a user has forgotten.
Records of earlier versions have a key ``conv`` besides, which nothing reads.

``<user>`` is :func:`memory.messages.user_key` and holds no slash, so everything up to the first
slash is the user and everything after the last one the number: no two owners share a key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

import numpy as np

from memory.conversation_tree import Node
from memory.errors import CorruptRecord, IdConflict
from memory.messages import (
    Appended,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    MessageStatus,
    Role,
    UserId,
    Vector,
    sha256_of_parts,
    user_key,
)

RECORD_VERSION: Final = 1
PAGE_DEPTHS: Final = 16
"""So many depths of a conversation share a page: the default window and a few more."""

UNEMBEDDED: Final = "unembedded"
IS_UNEMBEDDED: Final = "1"
"""The one value of that key: a string, for those are looked up in an index."""
FORGOTTEN: Final = "forgotten"

ROLES: Final[tuple[Role, ...]] = ("user", "assistant")
STATUSES: Final[tuple[MessageStatus, ...]] = (
    "completed",
    "stopped",
    "interrupted",
    "failed",
    "deleted",
)

FIRST_MONTH: Final = 1970 * 12
LAST_MONTH: Final = 9999 * 12 + 11
LISTED: Final = "listed"
LAST_LISTED_MONTH: Final = 2049 * 12 + 11
"""Conversations updated later, which a wrong clock may have said, stand in this month's list."""
_LAST_SECOND: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()

MetadataValue = str | int | float
_Choice = TypeVar("_Choice", bound=str)


class Record(NamedTuple):
    """What the store keeps of one message or conversation, without its vector."""

    id: str
    document: str
    metadata: dict[str, MetadataValue]


def page_of(depth: int) -> int:
    """The page on which a message of that depth stands."""
    return depth // PAGE_DEPTHS


def page_key(user: UserId, conversation: ConversationId, page: int) -> str:
    """The value of ``page`` in the records of one page of a conversation."""
    return f"{user_key(user)}/{conversation}/{page}"


def month_of(timestamp: float) -> int:
    """The month (UTC) of a time, counted from the year 0: ``year * 12 + month - 1``.

    Times outside 1970..9999 count as the nearest month within.
    """
    seconds = min(max(timestamp, 0.0), _LAST_SECOND) if math.isfinite(timestamp) else 0.0
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.year * 12 + moment.month - 1


def month_key(user: UserId, month: int) -> str:
    """The value of ``month`` in the records of a user's month."""
    return f"{user_key(user)}/{month // 12:04d}-{month % 12 + 1:02d}"


def listed_month(month: int) -> int:
    """The month in whose list a conversation stands that was updated in *month*."""
    return min(month, LAST_LISTED_MONTH)


def conversation_record_id(user: UserId, conversation: ConversationId) -> str:
    """The id of a conversation's record: 65 characters for ids of any length, injective."""
    return "c" + sha256_of_parts(user, conversation).hex()


def is_conversation_record_id(record_id: str) -> bool:
    """Whether *record_id* has the shape of a conversation's: no message's id has."""
    return re.fullmatch(r"c[0-9a-f]{64}", record_id) is not None


def placeholder(dimension: int) -> Vector:
    """What stands in Chroma for the vector of an unembedded message: it has to have one."""
    vector: Vector = np.zeros(dimension, dtype=np.float32)
    vector[0] = 1
    return vector


def is_unembedded(metadata: Mapping[str, object] | None) -> bool:
    """Whether a record's vector is a placeholder."""
    return UNEMBEDDED in (metadata or {})


def forgotten_key(user: UserId) -> str:
    """The value of ``forgotten`` in the records of what *user* has forgotten."""
    return user_key(user)


def message_record(message: Message) -> Record:
    """*message* as a record. What has its default value is left out: each key costs."""
    metadata: dict[str, MetadataValue] = {
        "v": RECORD_VERSION,
        "user_id": message.user,
        "type": message.role,
        "timestamp": message.timestamp,
        "conversation_id": message.conversation,
        "parent": message.parent or "",
        "depth": message.depth,
        "page": page_key(message.user, message.conversation, page_of(message.depth)),
        "month": month_key(message.user, month_of(message.timestamp)),
    }
    optional = {
        "client_id": message.client_id,
        "author": message.author,
        "status": message.status if message.status != "completed" else None,
        "model": message.model,
        "reply_to": message.reply_to,
        FORGOTTEN: forgotten_key(message.user) if message.forgotten else None,
    }
    metadata.update({name: value for name, value in optional.items() if value is not None})
    return Record(message.id, message.text, metadata)


def stored_message(
    user: UserId, record_id: str, document: object, metadata: Mapping[str, object] | None
) -> Message:
    """The message of a record that was read for *user*.

    Raises:
        CorruptRecord: a field is missing or has the wrong type, or the record is another
            user's.
    """
    fields = _Fields(record_id, metadata or {})
    fields.check_owner(user)
    return Message(
        id=MessageId(record_id),
        user=user,
        conversation=ConversationId(fields.text("conversation_id")),
        role=fields.choice("type", ROLES),
        text=fields.document(document),
        timestamp=fields.number("timestamp"),
        depth=fields.whole("depth"),
        parent=_message_id(fields.text("parent")),
        client_id=fields.optional_text("client_id"),
        author=fields.optional_text("author"),
        status=fields.choice(
            "status",
            STATUSES,
            default="completed",
        ),
        model=fields.optional_text("model"),
        reply_to=_message_id(fields.optional_text("reply_to")),
        forgotten=FORGOTTEN in (metadata or {}),
    )


def stored_node(user: UserId, record_id: str, metadata: Mapping[str, object] | None) -> Node:
    """The place in its conversation of a message that was read for *user* without its words;
    ``CorruptRecord`` as above.
    """
    fields = _Fields(record_id, metadata or {})
    fields.check_owner(user)
    return Node(MessageId(record_id), _message_id(fields.text("parent")), fields.whole("depth"))


def conversation_record(conversation: Conversation) -> Record:
    """*conversation* as a record of the conversations' own collection."""
    return Record(
        conversation_record_id(conversation.user, conversation.id),
        conversation.title,
        {
            "v": RECORD_VERSION,
            "user_id": conversation.user,
            "conversation_id": conversation.id,
            "title": conversation.title,
            "created_at": conversation.created_at,
            "updated_at": conversation.updated_at,
            "head": conversation.head or "",
            LISTED: month_key(conversation.user, listed_month(month_of(conversation.updated_at))),
        },
    )


def stored_conversation(
    user: UserId, record_id: str, metadata: Mapping[str, object] | None
) -> Conversation:
    """The conversation of a record that was read for *user*; ``CorruptRecord`` as above."""
    fields = _Fields(record_id, metadata or {})
    fields.check_owner(user)
    return Conversation(
        id=ConversationId(fields.text("conversation_id")),
        user=user,
        title=fields.text("title"),
        created_at=fields.number("created_at"),
        updated_at=fields.number("updated_at"),
        head=_message_id(fields.text("head")),
    )


def settled(message: Message, stored: Message) -> Appended | IdConflict:
    """What became of appending *message* where *stored* stands under its id."""
    same = (
        stored.user == message.user
        and stored.text == message.text
        and stored.role == message.role
        and stored.conversation == message.conversation
    )
    return Appended(stored, duplicate=True) if same else IdConflict(message.id)


def _message_id(value: str | None) -> MessageId | None:
    return MessageId(value) if value else None


class _Fields:
    """One record's metadata, each field checked as it is taken."""

    def __init__(self, record_id: str, metadata: Mapping[str, object]) -> None:
        self._record_id = record_id
        self._metadata = metadata

    def check_owner(self, user: UserId) -> None:
        if self.text("user_id") != user:
            raise CorruptRecord(self._record_id, "user_id")

    def document(self, value: object) -> str:
        if not isinstance(value, str):
            raise CorruptRecord(self._record_id, "document")
        return value

    def text(self, name: str) -> str:
        value = self._metadata.get(name)
        if not isinstance(value, str):
            raise CorruptRecord(self._record_id, name)
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self._metadata.get(name) is None else self.text(name)

    def number(self, name: str) -> float:
        value = self._metadata.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CorruptRecord(self._record_id, name)
        return float(value)

    def whole(self, name: str) -> int:
        value = self._metadata.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CorruptRecord(self._record_id, name)
        return value

    def choice(
        self, name: str, allowed: tuple[_Choice, ...], *, default: _Choice | None = None
    ) -> _Choice:
        value = self._metadata.get(name, default)
        for candidate in allowed:
            if candidate == value:
                return candidate
        raise CorruptRecord(self._record_id, name)
