"""Events to all connections of a user, in one order; what was missed is kept for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from chat_server.errors import ChatError
from chat_server.event_log import KEEP_S
from chat_server.events import DurableEvent, ServerEvent
from chat_server.frames import Frame, frame_of
from chat_server.live_metrics import Return
from chat_server.outbox import Outbox
from chat_server.protocol import ResumePoint
from chat_server.user_stream import UserStream
from memory.messages import UserId

SWEEP_EVERY_S: Final = 15.0
LEFT_BYTES: Final = 67_108_864
"""What is kept, over all of them, for users who are not connected at the moment."""


@dataclass(frozen=True)
class Joined:
    """Where a connection begins: its first events are *missed*, then all after ``seq``."""

    epoch: str
    seq: int
    resumed: bool
    missed: Sequence[Frame]


class Elsewhere(Protocol):
    """The other processes that a user may be connected to, as :class:`chat_server.relay.Relay`."""

    def publish(self, user: UserId, payload: bytes) -> None:
        """Give a durable event its place, and see that it arrives everywhere."""

    def hold(self, user: UserId, frame: Frame) -> bool:
        """Send a live event to the others; whether it must wait here for the events before it."""

    async def enter(self, user: UserId, stream: UserStream) -> None:
        """Have what others publish arrive in *stream*; never fails."""

    async def missed(
        self, user: UserId, stream: UserStream, since: ResumePoint
    ) -> Sequence[Frame] | None:
        """All events from *since* up to where *stream* is when this returns."""

    def leave(self, user: UserId) -> None:
        """Nothing of *user* is wanted here any more."""

    async def settled(self) -> None:
        """Return once all that was published has gone out."""

    def forget(self, user: UserId) -> None:
        """Have nothing kept of what was sent to *user*, as soon as that is possible."""


class Fanout:
    """Delivers a user's events to that user's connections.

    Every connection sees the same events in the same order. With *elsewhere*, that holds for the
    connections of other processes too, and they keep the events; without, of a user who was never
    here, or has not been for ``KEEP_S``, nothing is kept: what happened is read over HTTP.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_return: Callable[[Return], None] = lambda _outcome: None,
    ) -> None:
        self._clock = clock
        self._on_return = on_return
        self.elsewhere: Elsewhere | None = None
        self.streams: dict[UserId, UserStream] = {}
        self._left: OrderedDict[UserId, UserStream] = OrderedDict()

    @asynccontextmanager
    async def joined(
        self, user: UserId, outbox: Outbox, resume: ResumePoint | None = None
    ) -> AsyncIterator[Joined]:
        """Have *outbox* receive *user*'s events while the context lasts.

        What was missed since *resume* is all in ``Joined.missed``, or nothing of it and
        ``resumed`` is false. The caller must queue it before it awaits anything.

        Raises:
            ChatError: the user's connections were closed meanwhile; why.
        """
        stream = self.streams.get(user)
        if stream is None:
            stream = self._left.pop(user, None) or UserStream(self._clock)
            self.streams[user] = stream
        stream.coming += 1
        try:
            missed = await self._missed(user, stream, resume)
            if stream.closed_for is not None:
                raise stream.closed_for
            stream.outboxes.add(outbox)
            self._on_return(_outcome(resume, missed))
            place = stream.position
            yield Joined(place.epoch, place.seq, missed is not None, missed or ())
        finally:
            stream.coming -= 1
            stream.outboxes.discard(outbox)
            if not stream.coming and self.streams.get(user) is stream:
                self._left_by_all(user, stream)

    async def _missed(
        self, user: UserId, stream: UserStream, resume: ResumePoint | None
    ) -> Sequence[Frame] | None:
        if self.elsewhere is not None:
            await self.elsewhere.enter(user, stream)
        if resume is None:
            return None
        if resume.epoch == stream.epoch:
            here = stream.log.since(resume.seq)
            if here is not None:
                return here
        if self.elsewhere is not None:
            return await self.elsewhere.missed(user, stream, resume)
        return None

    def _left_by_all(self, user: UserId, stream: UserStream) -> None:
        del self.streams[user]
        if self.elsewhere is not None:
            self.elsewhere.leave(user)
            return
        stream.left_at = self._clock()
        self._left[user] = stream

    def publish(self, user: UserId, event: DurableEvent) -> None:
        """Give a durable *event* its place, and send it."""
        payload = frame_of(event).payload
        if self.elsewhere is not None:
            self.elsewhere.publish(user, payload)
            return
        stream = self.streams.get(user) or self._left.get(user)
        if stream is not None:
            stream.add(payload)

    def publish_live(self, user: UserId, event: ServerEvent) -> None:
        """Send an event that has no place in the durable order (deltas, limits)."""
        stream = self.streams.get(user)
        if self.elsewhere is None and stream is None:
            return
        frame = frame_of(event)
        if self.elsewhere is not None and self.elsewhere.hold(user, frame):
            return
        if stream is not None:
            stream.write(frame)

    async def settled(self) -> None:
        """Return once all that was published is on its way to the connections."""
        if self.elsewhere is not None:
            await self.elsewhere.settled()

    def close_user(self, user: UserId, reason: ChatError) -> None:
        """Close all connections of *user*, after what they still are to be told, and keep nothing
        of what was sent.
        """
        self._left.pop(user, None)
        stream = self.streams.pop(user, None)
        if stream is None:
            return
        if self.elsewhere is not None:
            self.elsewhere.leave(user)
        stream.closed_for = reason  # for those on their way in
        for outbox in list(stream.outboxes):
            outbox.close(reason)

    def forget(self, user: UserId) -> None:
        """Keep nothing of what was sent to *user*: some of it is erased. Who comes back reads anew
        over HTTP; who is connected goes on.
        """
        stream = self.streams.get(user) or self._left.get(user)
        if stream is not None:
            stream.forget()
        if self.elsewhere is not None:
            self.elsewhere.forget(user)

    async def run(self) -> None:
        """Forget the events of those who do not come back, until cancelled."""
        while True:
            await anyio.sleep(SWEEP_EVERY_S)
            self.sweep()

    def sweep(self) -> None:
        """Forget who left ``KEEP_S`` ago, and the ones before them that there is no room for."""
        now = self._clock()
        kept_bytes = sum(stream.log.size_bytes for stream in self._left.values())
        while self._left:
            user, stream = next(iter(self._left.items()))
            if now - stream.left_at < KEEP_S and kept_bytes <= LEFT_BYTES:
                return
            kept_bytes -= stream.log.size_bytes
            del self._left[user]

    @property
    def users(self) -> int:
        """How many users are connected."""
        return len(self.streams)


def _outcome(resume: ResumePoint | None, missed: Sequence[Frame] | None) -> Return:
    if resume is None:
        return "new"
    return "begun_anew" if missed is None else "resumed"
