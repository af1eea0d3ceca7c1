"""The contract of the broker: what processes of one server share while things go on.

Like short-term memory it may be lost at any time. Nothing in it is needed to know what was said; it
carries events to the connections of other processes, keeps them for those who come back, and says
which process sees to what.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final, NewType, Protocol

import msgspec

from memory.messages import ConversationId, MessageId, RunId, UserId

NodeId = NewType("NodeId", str)
"""A process of the server, from its start to its end; never used again."""

KEEP_S: Final = 600
KEEP_EVENTS: Final = 2_000
KEEP_BYTES: Final = 4_194_304
"""Of one user: 2,000 events of the usual size, or 60 of the longest replies."""
DEAD_AFTER_S: Final = 2.4
"""A node that has not beaten for so long is dead; others take over what it had."""
PRESENCE_S: Final = 120
"""How long a node's word counts that a user is connected to it."""
PLACE_LIFE_S: Final = 86_400
"""How long the numbering of a user's events outlasts the last of them."""
CLAIM_LIFE_S: Final = 3_600
SENT_LIFE_S: Final = 86_400
RUN_LIFE_S: Final = 600
SPOKE_WITHIN_S: Final = 20
"""Longer than a message waits for the store, and then for its events."""


class Position(msgspec.Struct, frozen=True):
    """The place of a user's last durable event; places of another epoch say nothing."""

    epoch: str
    seq: int


class Outgoing(msgspec.Struct, frozen=True):
    """A durable event without its place: ``payload`` is JSON."""

    user: UserId
    payload: bytes


class Published(msgspec.Struct, frozen=True):
    """Where an event stands now, and the other nodes that it was sent to."""

    position: Position
    nodes: tuple[NodeId, ...]


class Entered(msgspec.Struct, frozen=True):
    """What a node finds that begins to hear of a user: all later events reach it."""

    position: Position
    nodes: tuple[NodeId, ...]


class Beat(msgspec.Struct, frozen=True):
    """What a sign of life brings back.

    ``generation`` changes when the broker has lost what it held. ``known``: this node was not taken
    for dead since its last beat. ``alive`` and ``silent``: the other nodes, by their last beat.
    """

    generation: str
    known: bool
    alive: frozenset[NodeId]
    silent: frozenset[NodeId]


class Claim(msgspec.Struct, frozen=True):
    """Who sees to a conversation; ``repeated``: the message's id was claimed for before."""

    holder: NodeId
    repeated: bool


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A reply that a node is making: what another needs to end it in its place."""

    run: RunId
    user: UserId
    conversation: ConversationId
    question: MessageId
    node: NodeId
    timestamp: float
    model: str


class RunText(msgspec.Struct, frozen=True):
    """More of a reply: ``piece`` follows ``offset_bytes`` of it, in UTF-8."""

    run: RunId
    user: UserId
    offset_bytes: int
    piece: bytes


class LiveRun(msgspec.Struct, frozen=True):
    """A reply that some node is making, as far as its last checkpoint."""

    facts: RunFacts
    text: str


class Inheritance(msgspec.Struct, frozen=True):
    """What a dead node leaves: its runs, and the users who spoke to it of late: of what they said
    some events may never have been published.
    """

    runs: tuple[LiveRun, ...]
    users: tuple[UserId, ...]


class Event(msgspec.Struct, frozen=True):
    """A durable event of another node."""

    user: UserId
    position: Position
    payload: bytes
    sender: NodeId


class Letter(msgspec.Struct, frozen=True):
    """What another node has to say to this one, or to all."""

    sender: NodeId
    body: bytes


class Broker(Protocol):
    """Shared by the processes of one server. ``node`` is this one.

    Each call is bounded in time and raises ``ShortTermUnavailable`` without an answer: then it may
    have been done. Whatever one node has published or posted reaches another in that order, or not
    at all when the line between was lost; who counts notices (see :meth:`post`).
    """

    @property
    def node(self) -> NodeId: ...

    async def publish(self, events: Sequence[Outgoing]) -> list[Published]:
        """Give each event the next place of its user, keep it, and send it to the other nodes
        that the user is connected to; all in one round trip, in order.

        It is kept for ``KEEP_S``, unless there are more than ``KEEP_EVENTS`` or ``KEEP_BYTES``.
        """
        ...

    async def enter(self, user: UserId) -> Entered:
        """Hear of *user* from now on; again after ``PRESENCE_S`` at the latest.

        What is published after the returned position comes over :meth:`incoming`.
        """
        ...

    async def stay(self, users: Sequence[UserId]) -> list[Position]:
        """As :meth:`enter`, for many in one round trip; the position of each."""
        ...

    async def leave(self, user: UserId) -> None:
        """Hear no more of *user*."""
        ...

    async def since(self, user: UserId, position: Position) -> list[tuple[int, bytes]] | None:
        """All events after *position* with their places, in order; ``None`` when one is gone."""
        ...

    async def begin_anew(self, user: UserId, *, numbering: bool = True) -> None:
        """Forget *user*'s events, and their *numbering*: some were never published. Without that,
        the numbers go on.
        """
        ...

    async def beat(self) -> Beat:
        """Give a sign of life, and hear of those of others."""
        ...

    async def inherit(self, node: NodeId) -> Inheritance | None:
        """Take over from a silent *node*: its runs are this node's from now on.

        ``None``: it beats again, or another node was first. Who has no answer asks again, and is
        told of the runs that it has not ended.
        """
        ...

    async def depart(self) -> None:
        """This node ends in order: nobody has to wait until its silence is noticed."""
        ...

    async def claim(
        self,
        user: UserId,
        conversation: ConversationId,
        *,
        client_id: str | None,
        alive: Collection[NodeId],
    ) -> Claim:
        """See to *conversation*, unless one of the *alive* nodes does already.

        *client_id*: the message for which; it is noted, and known for ``SENT_LIFE_S``.
        """
        ...

    async def release(self, user: UserId, conversation: ConversationId) -> None:
        """See to *conversation* no more, if nothing was claimed in it since the last time that
        this node asked.
        """
        ...

    async def begin_run(self, facts: RunFacts) -> None:
        """Let other nodes know of a run."""
        ...

    async def checkpoint(self, texts: Sequence[RunText]) -> list[bool]:
        """Keep more of the texts of runs, all in one round trip; ``False``: what is there does not
        reach to the offset, send all of it.
        """
        ...

    async def end_run(self, user: UserId, run: RunId) -> None:
        """The run is over, and its reply stored or kept."""
        ...

    async def runs(self, user: UserId) -> list[LiveRun]:
        """The runs of *user*, whichever node makes them."""
        ...

    async def post(self, letters: Sequence[tuple[NodeId | None, bytes]]) -> None:
        """Send letters to nodes, ``None`` meaning all, in one round trip; who is not there misses
        them.
        """
        ...

    def incoming(self) -> AsyncIterator[Event | Letter | None]:
        """What comes from other nodes, for ever; ``None`` when the line was open anew and something
        may have been missed, also at the beginning.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
