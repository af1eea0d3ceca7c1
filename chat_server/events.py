"""The WebSocket protocol, version 1, the server's side: events out; no I/O."""

from __future__ import annotations

from typing import Literal

import msgspec

from chat_server.errors import ChatError, ErrorCode
from memory.messages import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    MessageStatus,
    Role,
    RunId,
)
from memory.planner import PlanKind
from memory.recalled import Recalled
from memory.short_term import Allowance


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What the server sends."""


class DurableEvent(ServerEvent, frozen=True, kw_only=True):
    """An event with a place in the user's lasting order: ``seq``, given when it is published.

    Nothing that is published has one before: 0 is no place.
    """

    seq: int = 0


class Limits(ServerEvent, frozen=True, kw_only=True, tag="limits"):
    """What is left of the user's own limit and of the server's."""

    user: Allowance
    global_: Allowance = msgspec.field(name="global")


class LimitsState(msgspec.Struct, frozen=True):
    """The same inside ``welcome``."""

    user: Allowance
    global_: Allowance = msgspec.field(name="global")


class Welcome(ServerEvent, frozen=True, kw_only=True, tag="welcome"):
    """The connection is the user's now."""

    v: int
    user: str
    connection: str
    resumed: bool
    epoch: str
    seq: int
    heartbeat_s: float
    max_frame_bytes: int
    limits: LimitsState


class Accepted(ServerEvent, frozen=True, kw_only=True, tag="accepted"):
    """The message is stored for good; a reply is under way unless it is a duplicate."""

    re: str
    message: MessageId
    conversation: ConversationId
    run: RunId
    duplicate: bool


class Ok(ServerEvent, frozen=True, kw_only=True, tag="ok"):
    """The command was carried out."""

    re: str


class Error(ServerEvent, frozen=True, kw_only=True, tag="error"):
    """The command was not carried out, or (with ``run``) a reply failed."""

    code: ErrorCode
    message: str
    retryable: bool
    re: str | None = None
    run: RunId | None = None
    retry_after_ms: int | None = None
    field: str | None = None


class WireMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as clients see it.

    ``stored`` is false for a reply that waits in the journal to be stored. ``reply`` is said of a
    question in the history whose reply is neither stored nor being made. What is ``forgotten`` is
    not recalled. ``branches``, in the history: what stands in its place, itself included, oldest
    first; nothing where it stands alone.
    """

    id: MessageId
    parent: MessageId | None
    role: Role
    text: str
    timestamp: float
    status: MessageStatus
    client_id: str | None = None
    author: str | None = None
    model: str | None = None
    reply_to: MessageId | None = None
    stored: bool = True
    reply: Literal["interrupted"] | None = None
    forgotten: bool = False
    branches: tuple[MessageId, ...] = ()


class ErrorFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error inside another event or an HTTP answer."""

    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    field: str | None = None


class MessageCreated(DurableEvent, frozen=True, kw_only=True, tag="message.created"):
    """A user's message was stored, or a reply whose ``run.done`` said that it was not yet."""

    conversation: ConversationId
    message: WireMessage


class MessageDeleted(DurableEvent, frozen=True, kw_only=True, tag="message.deleted"):
    """A message was erased; ``message`` is what is left of it, without words."""

    conversation: ConversationId
    message: WireMessage


class RunStarted(DurableEvent, frozen=True, kw_only=True, tag="run.started"):
    """A reply to ``message`` is being made."""

    run: RunId
    conversation: ConversationId
    message: MessageId
    model: str


class RunMemories(ServerEvent, frozen=True, kw_only=True, tag="run.memories"):
    """What was remembered for this reply; before its first delta.

    ``plan`` and ``reason``: as :class:`memory.planner.Plan` has them.
    """

    run: RunId
    items: tuple[Recalled, ...]
    plan: PlanKind
    reason: str
    took_ms: float


class RunDelta(ServerEvent, frozen=True, kw_only=True, tag="run.delta"):
    """The next piece of a reply; ``offset`` counts the code points before it."""

    run: RunId
    offset: int
    text: str


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the model's server counted them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class RunDone(DurableEvent, frozen=True, kw_only=True, tag="run.done"):
    """The reply is over; ``message`` is what holds, whatever the deltas said.

    ``kept``: it is not stored yet, and is on disk in the journal until it is.
    """

    run: RunId
    conversation: ConversationId
    status: MessageStatus
    message: WireMessage
    chars: int
    sha256: str
    usage: Usage
    timings_ms: dict[str, float]
    model: str
    finish_reason: str | None = None
    stored: bool = True
    kept: bool = False
    error: ErrorFacts | None = None


class WireConversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as clients see it."""

    id: ConversationId
    title: str
    created_at: float
    updated_at: float
    head: MessageId | None


class ConversationUpdated(DurableEvent, frozen=True, kw_only=True, tag="conversation.updated"):
    """A conversation is new, or its title or time changed."""

    conversation: WireConversation


class ConversationGone(msgspec.Struct, frozen=True):
    """All that is left of a deleted conversation."""

    id: ConversationId


class ConversationDeleted(DurableEvent, frozen=True, kw_only=True, tag="conversation.deleted"):
    """A conversation is gone with all that was said in it."""

    conversation: ConversationGone


class Reset(ServerEvent, frozen=True, kw_only=True, tag="reset"):
    """The order of the lasting events was lost and begins anew at ``seq`` of ``epoch``: what
    happened meanwhile is read over HTTP.
    """

    epoch: str
    seq: int


class ServerPing(ServerEvent, frozen=True, kw_only=True, tag="ping"):
    """Are you there? Any frame is an answer."""


class ServerPong(ServerEvent, frozen=True, kw_only=True, tag="pong"):
    """The answer to the client's ``ping``."""


class GoAway(ServerEvent, frozen=True, kw_only=True, tag="goaway"):
    """The server is about to close this connection."""

    reason: Literal["restart"]
    deadline_ms: int


def error_event(error: ChatError, *, re: str | None = None, run: RunId | None = None) -> Error:
    """The ``error`` event for *error*, in answer to the command *re*."""
    return Error(
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        re=re,
        run=run,
        retry_after_ms=error.retry_after_ms,
        field=error.field,
    )


def error_facts(error: ChatError) -> ErrorFacts:
    """*error* as it stands inside another event."""
    return ErrorFacts(error.code, error.message, error.retryable, error.retry_after_ms, error.field)


def wire_message(message: Message) -> WireMessage:
    """*message* as clients see it."""
    return WireMessage(
        id=message.id,
        parent=message.parent,
        role=message.role,
        text=message.text,
        timestamp=message.timestamp,
        status=message.status,
        client_id=message.client_id,
        author=message.author,
        model=message.model,
        reply_to=message.reply_to,
        forgotten=message.forgotten,
    )


def wire_conversation(conversation: Conversation) -> WireConversation:
    """*conversation* as clients see it."""
    return WireConversation(
        id=conversation.id,
        title=conversation.title,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
        head=conversation.head,
    )
