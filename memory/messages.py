"""What is stored and found: values without I/O, and the rules for their ids."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Literal, NewType
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

UserId = NewType("UserId", str)
ConversationId = NewType("ConversationId", str)
MessageId = NewType("MessageId", str)
RunId = NewType("RunId", str)

_USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Role = Literal["user", "assistant"]
MessageStatus = Literal["completed", "stopped", "interrupted", "failed", "deleted"]

Vector = npt.NDArray[np.float32]
"""One text's embedding: float32, (dim,), unit length."""
Vectors = npt.NDArray[np.float32]
"""Several texts' embeddings: float32, (n, dim), each of unit length."""

OFFLINE_MODEL = "offline"
"""The ``model`` of a reply that no language model wrote. Such a reply repeats what is
already remembered, so it stands in its conversation but is never recalled."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said once; it never changes, but it may be deleted.

    ``timestamp`` is in seconds since the epoch, UTC. ``parent`` is the message that it
    follows in its conversation (``None`` for the first), ``depth`` the parent's plus one.
    ``status`` is ``completed`` for all that users say; a reply may have ended otherwise. What was
    ``deleted`` keeps its place, so that what follows it does, and nothing else.
    ``reply_to`` names the message that a reply answers, which is its parent unless
    something else was said meanwhile. What is ``forgotten`` stands in its conversation as before
    and is never recalled; that may be undone.
    """

    id: MessageId
    user: UserId
    conversation: ConversationId
    role: Role
    text: str
    timestamp: float
    depth: int
    parent: MessageId | None = None
    client_id: str | None = None
    author: str | None = None
    status: MessageStatus = "completed"
    model: str | None = None
    reply_to: MessageId | None = None
    forgotten: bool = False

    @property
    def recallable(self) -> bool:
        """Whether recall may return it: it has words, they are not an echo of memory, and it is
        not forgotten.
        """
        return not self.forgotten and bool(self.text.strip()) and self.model != OFFLINE_MODEL


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tree of messages with a title.

    ``head`` is set once somebody branched: the newest leaf below that message is shown.
    While it is ``None`` the conversation is one line, and its last message is its head.
    """

    id: ConversationId
    user: UserId
    title: str
    created_at: float
    updated_at: float
    head: MessageId | None = None


class Appended(msgspec.Struct, frozen=True):
    """The outcome of storing: the message as it stands in the store.

    ``duplicate`` says that it stood there before; then ``message`` is the first one.
    """

    message: Message
    duplicate: bool


def tombstone(message: Message) -> Message:
    """What stands in *message*'s place once it is deleted: no words, and nobody's name."""
    return msgspec.structs.replace(
        message,
        text="",
        author=None,
        client_id=None,
        model=None,
        status="deleted",
        forgotten=False,
    )


def sha256_of_parts(*parts: str) -> bytes:
    """SHA-256 over *parts*, each with its length before it: no two lists of parts share one."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.digest()


def _short_digest(*parts: str) -> str:
    """The first 128 bits of it in base32, lower case: 26 characters."""
    return base64.b32encode(sha256_of_parts(*parts)[:16]).decode().rstrip("=").lower()


def message_id(user: UserId, client_id: str) -> MessageId:
    """The id under which *user*'s message *client_id* is stored; the same for ever."""
    return MessageId("m" + _short_digest("message", user, client_id))


def conversation_id(user: UserId, client_id: str) -> ConversationId:
    """The conversation that *user*'s message *client_id* opens when it names none.

    It follows from the message's id, so that a repeated send opens the same one.
    """
    return ConversationId("c" + _short_digest("conversation", user, client_id))


def reply_id(message: MessageId, attempt: int | str) -> MessageId:
    """The id of the *attempt*-th reply (from 0) to *message*; of one that was asked for anew, the
    *attempt* is the command's id, so that the same command names the same reply for ever.
    """
    kind = "reply" if isinstance(attempt, int) else "reply anew"
    return MessageId("r" + _short_digest(kind, message, str(attempt)))


def is_reply_id(text: str) -> bool:
    """Whether *text* has the shape of an id that :func:`reply_id` makes."""
    return re.fullmatch(r"r[a-z2-7]{26}", text) is not None


def stands_beside(reply: Message) -> bool:
    """Whether *reply*, made here, was asked for anew: its place is beside the first reply to its
    question, wherever that stands; known from its ids alone, so also after a crash.
    """
    if reply.reply_to is None or not is_reply_id(reply.id):
        return False
    return reply.id != reply_id(reply.reply_to, 0)


def is_user_id(text: str) -> bool:
    """Whether a user can be called *text*: 1 to 64 of ``A-Z a-z 0-9 _ . -``."""
    return _USER_ID.fullmatch(text) is not None


def user_key(user: UserId) -> str:
    """*user* as one path segment of a key: injective, without ``/``, ``{``, ``}`` or ``:``."""
    return quote(user, safe="")
