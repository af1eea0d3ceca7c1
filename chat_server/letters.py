"""What processes of one server write to each other; msgpack."""

from __future__ import annotations

from typing import Final

import msgspec

from chat_server.errors import ErrorCode
from memory.live.broker import NodeId
from memory.messages import ConversationId, RunId, UserId


class Writing(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """A letter's body."""


class Counted(Writing, frozen=True, kw_only=True):
    """How many letters and events the sender has sent to each node, and to all, this one left out:
    who got fewer has missed something. ``unsure``: the sender itself does not know.
    """

    sent: dict[NodeId, int]
    to_all: int
    unsure: bool


class Here(Writing, frozen=True, kw_only=True):
    """``user`` is connected to the sender: live events are wanted there."""

    user: UserId


class BegunAnew(Writing, frozen=True, kw_only=True):
    """``user``'s events are numbered anew: some were told by the sender alone."""

    user: UserId


class Rearranged(Writing, frozen=True, kw_only=True):
    """Another branch of a conversation was chosen, or all of it is ``gone``."""

    user: UserId
    conversation: ConversationId
    gone: bool


class Live(Writing, frozen=True, kw_only=True):
    """A live event for ``user``'s connections, as JSON."""

    user: UserId
    payload: bytes


class LiveDelta(Writing, frozen=True, kw_only=True):
    """A piece of a reply, likewise: it can be merged with others on the way."""

    user: UserId
    run: RunId
    offset: int
    text: str


class Asked(Writing, frozen=True, kw_only=True):
    """A command of a client, for the node that sees to what it is about.

    ``frame`` is the client's; it is empty where a conversation is to be deleted, which ``deletes``
    names. ``number`` comes back with the answers.
    """

    number: int
    user: UserId
    name: str | None = None
    expires_at: int | None = None
    frame: bytes = b""
    deletes: ConversationId | None = None


class Answered(Writing, frozen=True, kw_only=True):
    """One event of an answer as JSON; the ``last`` letter has none, or an error if there is one."""

    number: int
    payload: bytes = b""
    last: bool = False
    code: ErrorCode | None = None
    message: str = ""
    field: str | None = None
    retry_after_ms: int | None = None


AnyWriting = Counted | Here | BegunAnew | Rearranged | Live | LiveDelta | Asked | Answered

_decoder: Final[msgspec.msgpack.Decoder[AnyWriting]] = msgspec.msgpack.Decoder(AnyWriting)
_encoder: Final = msgspec.msgpack.Encoder()


def written(body: AnyWriting) -> bytes:
    """The body of a letter."""
    return _encoder.encode(body)


def read(body: bytes) -> AnyWriting | None:
    """What a letter says; ``None``: nothing that this version knows."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError:
        return None
