"""Events to all connections of a user, in one order; what was missed is kept for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

import anyio

from chat_server.errors import ChatError
from chat_server.event_log import KEEP_S, EventLog
from chat_server.events import DurableEvent, ServerEvent
from chat_server.frames import Frame, frame_of, placed
from chat_server.outbox import Outbox
from chat_server.protocol import ResumePoint
from memory.messages import UserId

SWEEP_EVERY_S: Final = 15.0
LEFT_BYTES: Final = 67_108_864
"""What is kept, over all of them, for users who are not connected at the moment."""


class UserStream:
    """A user's connections of this process, and the lasting events of late.

    ``epoch`` names the numbering: places of another epoch say nothing here.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.epoch = token_hex(8)
        self.log = EventLog(clock=clock)
        self.outboxes: set[Outbox] = set()
        self.left_at = 0.0

    @property
    def seq(self) -> int:
        """The place of the last event."""
        return self.log.seq

    def write(self, frame: Frame) -> None:
        """Queue *frame* for every connection."""
        for outbox in self.outboxes:
            outbox.put(frame)


@dataclass(frozen=True)
class Joined:
    """Where a connection begins: its first events are *missed*, then all after ``seq``."""

    epoch: str
    seq: int
    resumed: bool
    missed: Sequence[Frame]


class Fanout:
    """Delivers a user's events to that user's connections.

    Every connection sees the same events in the same order. Of a user who was never here, or has
    not been for ``KEEP_S``, nothing is kept: what happened is read over HTTP.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[UserId, UserStream] = {}
        self._left: OrderedDict[UserId, UserStream] = OrderedDict()

    @asynccontextmanager
    async def joined(
        self, user: UserId, outbox: Outbox, resume: ResumePoint | None = None
    ) -> AsyncIterator[Joined]:
        """Have *outbox* receive *user*'s events while the context lasts.

        What was missed since *resume* is all in ``Joined.missed``, or nothing of it and
        ``resumed`` is false. The caller must queue it before it awaits anything.
        """
        stream = self._streams.get(user)
        if stream is None:
            stream = self._left.pop(user, None) or UserStream(self._clock)
            self._streams[user] = stream
        missed = None
        if resume is not None and resume.epoch == stream.epoch:
            missed = stream.log.since(resume.seq)
        stream.outboxes.add(outbox)
        try:
            yield Joined(stream.epoch, stream.seq, missed is not None, missed or ())
        finally:
            stream.outboxes.discard(outbox)
            if not stream.outboxes and self._streams.get(user) is stream:
                del self._streams[user]
                stream.left_at = self._clock()
                self._left[user] = stream

    def publish(self, user: UserId, event: DurableEvent) -> None:
        """Give a durable *event* its place, and send it."""
        stream = self._streams.get(user) or self._left.get(user)
        if stream is None:
            return
        seq = stream.seq + 1
        frame = placed(frame_of(event).payload, seq)
        stream.log.add(seq, frame)
        stream.write(frame)

    def publish_live(self, user: UserId, event: ServerEvent) -> None:
        """Send an event that has no place in the durable order (deltas, limits)."""
        stream = self._streams.get(user)
        if stream is not None:
            stream.write(frame_of(event))

    def close_user(self, user: UserId, reason: ChatError) -> None:
        """Close all connections of *user*, after what they still are to be told, and keep nothing
        of what was sent.
        """
        self._left.pop(user, None)
        stream = self._streams.pop(user, None)
        for outbox in list(stream.outboxes) if stream else []:
            outbox.close(reason)

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
        return len(self._streams)
