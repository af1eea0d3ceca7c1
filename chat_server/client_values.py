"""What the client reads inside of events and answers: messages, conversations, memories; no I/O."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

DELETED: Final = "deleted"
"""The status of a message that was erased: it has no words any more."""


class Place(NamedTuple):
    """Where an event stands in the user's lasting order; numbers of another epoch say nothing."""

    epoch: str
    seq: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is remembered; ``score`` lies in 0..1."""

    id: str
    text: str
    score: float = 0.0
    timestamp: float = 0.0
    conversation: str = ""
    role: str = "user"
    why: tuple[str, ...] = ()
    author: str | None = None
    client_id: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What was said; ``timestamp`` in seconds since the epoch, UTC.

    ``status`` is ``completed``, or for a reply ``stopped``, ``interrupted`` or ``failed``; of what
    was erased it is ``deleted``. ``client_id`` is the id that its sender gave it. ``stored`` is
    false for a reply that waits on the server's disk to be stored. What is ``forgotten`` is not
    recalled. ``reply`` is
    ``interrupted`` for a question in the history whose reply never came: sent again with its id,
    it is answered.
    """

    id: str
    role: str
    text: str
    timestamp: float
    parent: str | None = None
    status: str = "completed"
    client_id: str | None = None
    author: str | None = None
    model: str | None = None
    reply_to: str | None = None
    stored: bool = True
    forgotten: bool = False
    reply: str | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it is listed; times in seconds since the epoch, UTC."""

    id: str
    title: str
    created_at: float
    updated_at: float
    head: str | None = None


class Allowance(msgspec.Struct, frozen=True):
    """What is left of a limit. ``reset_ms``: until one more is free."""

    limit: int
    remaining: int
    reset_ms: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the model's server counted them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class ErrorFacts(msgspec.Struct, frozen=True):
    """An error inside another event or an HTTP answer."""

    code: str
    message: str
    retryable: bool = False
    retry_after_ms: int | None = None
    field: str | None = None
