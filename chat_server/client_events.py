"""What a client reads: events of the WebSocket protocol and the values inside; no I/O.

These are the client's own types and not the server's, for two reasons: a client reads what a
newer server sends (unknown fields, types, codes and statuses are no errors), and whoever writes a
bot does not load the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from chat_server.client_values import Allowance, Conversation, ErrorFacts, Memory, Message, Usage

VERSION: Final = 1
SUBPROTOCOL: Final = "tandem.v1"


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What the server sends."""


class DurableEvent(Event, frozen=True, kw_only=True):
    """An event with a place in the user's lasting order.

    ``seq`` is 0 where it is told once more, beside the order.
    """

    seq: int = 0


class Limits(Event, frozen=True, kw_only=True, tag="limits"):
    """What is left of the user's own limit; after each accepted message."""

    user: Allowance


class LimitsState(msgspec.Struct, frozen=True):
    """The same inside ``welcome``."""

    user: Allowance


class Welcome(Event, frozen=True, kw_only=True, tag="welcome"):
    """The connection is open. ``resumed``: all that was missed follows, up to ``seq``; if not, it
    is read over HTTP.
    """

    user: str
    connection: str = ""
    resumed: bool = False
    epoch: str = ""
    seq: int = 0
    heartbeat_s: float = 25.0
    max_frame_bytes: int = 65_536
    limits: LimitsState | None = None


class Accepted(Event, frozen=True, kw_only=True, tag="accepted"):
    """The message ``re`` is stored for good; ``run`` will be its reply's id."""

    re: str
    message: str
    conversation: str
    run: str
    duplicate: bool = False


class Ok(Event, frozen=True, kw_only=True, tag="ok"):
    """The command ``re`` was carried out."""

    re: str


class Refused(Event, frozen=True, kw_only=True, tag="error"):
    """The command ``re`` was not carried out; with ``run``, a reply failed instead."""

    code: str
    message: str
    retryable: bool = False
    re: str | None = None
    run: str | None = None
    retry_after_ms: int | None = None
    field: str | None = None


class MessageCreated(DurableEvent, frozen=True, kw_only=True, tag="message.created"):
    """A message of the user was stored, from here or from elsewhere, or a reply that had waited."""

    conversation: str
    message: Message


class MessageDeleted(DurableEvent, frozen=True, kw_only=True, tag="message.deleted"):
    """A message was erased; ``message`` is what is left of it, without words."""

    conversation: str
    message: Message


class RunStarted(DurableEvent, frozen=True, kw_only=True, tag="run.started"):
    """A reply to ``message`` is being made."""

    run: str
    conversation: str
    message: str
    model: str = ""


class RunMemories(Event, frozen=True, kw_only=True, tag="run.memories"):
    """What is remembered for a reply."""

    run: str
    items: tuple[Memory, ...]
    plan: str = ""
    reason: str = ""
    took_ms: float = 0.0


class RunDelta(Event, frozen=True, kw_only=True, tag="run.delta"):
    """The next piece of a reply; ``offset`` counts the code points before it."""

    run: str
    offset: int
    text: str


class RunDone(DurableEvent, frozen=True, kw_only=True, tag="run.done"):
    """A reply is over; its message is what holds. ``kept``: it is not stored yet, and not lost."""

    run: str
    conversation: str
    status: str
    message: Message
    chars: int
    sha256: str
    usage: Usage = Usage()
    timings_ms: dict[str, float] = {}
    model: str = ""
    finish_reason: str | None = None
    stored: bool = True
    kept: bool = False
    error: ErrorFacts | None = None


class ConversationUpdated(DurableEvent, frozen=True, kw_only=True, tag="conversation.updated"):
    """A conversation is new, or something was said in it."""

    conversation: Conversation


class ConversationGone(msgspec.Struct, frozen=True):
    """All that is left of a deleted conversation."""

    id: str


class ConversationDeleted(DurableEvent, frozen=True, kw_only=True, tag="conversation.deleted"):
    """A conversation is gone with all that was said in it."""

    conversation: ConversationGone


class MemoryState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the message *id* is recalled."""

    id: str
    forgotten: bool = False


class MemoryForgotten(DurableEvent, frozen=True, kw_only=True, tag="memory.forgotten"):
    """A message is not recalled any more; it stands in its conversation as before."""

    memory: MemoryState


class MemoryUpdated(DurableEvent, frozen=True, kw_only=True, tag="memory.updated"):
    """A message that was forgotten is recalled again."""

    memory: MemoryState


class Unknown(DurableEvent, frozen=True, kw_only=True, tag="unknown"):
    """Something that cannot be read here, such as a newer server's; its place counts all the same,
    or what follows would seem to follow nothing.
    """


class Reset(Event, frozen=True, kw_only=True, tag="reset"):
    """The lasting order was lost and begins anew at this place: what happened is read over HTTP."""

    epoch: str
    seq: int


class ServerPing(Event, frozen=True, kw_only=True, tag="ping"):
    """The server asks whether anybody is there."""


class GoAway(Event, frozen=True, kw_only=True, tag="goaway"):
    """The server restarts and will be gone in ``deadline_ms``."""

    reason: str = "restart"
    deadline_ms: int = 0


class ConnectionLost(msgspec.Struct, frozen=True, kw_only=True):
    """The client's own event: the connection is lost, or could not be opened.

    The next attempt is made in ``retry_in_s``; ``None``: the server does not want one.
    """

    reason: str
    retry_in_s: float | None


class _Envelope(msgspec.Struct, frozen=True):
    type: str
    seq: int = 0


def _kinds(above: type[Event]) -> Iterator[type[Event]]:
    for kind in above.__subclasses__():
        if kind is DurableEvent:
            yield from _kinds(kind)
        elif kind is not Unknown:
            yield kind


_envelope: Final = msgspec.json.Decoder(_Envelope)
_decoders: Final = {
    str(kind.__struct_config__.tag): msgspec.json.Decoder(kind) for kind in _kinds(Event)
}


def decode_event(text: str) -> Event:
    """Read one text frame.

    Raises:
        msgspec.DecodeError: it is no frame, or not what the protocol says and without a place.
    """
    envelope = _envelope.decode(text)
    decoder = _decoders.get(envelope.type)
    if decoder is None:
        return Unknown(seq=envelope.seq)
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        if envelope.seq:
            return Unknown(seq=envelope.seq)
        raise
