"""Events to all connections of a user, in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_hex

from chat_server.errors import ChatError
from chat_server.events import ServerEvent, encode_event
from chat_server.outbox import Outbox
from memory.messages import UserId


class UserStream:
    """A user's connections, and the position in the durable events.

    ``epoch`` names this stream: positions of another epoch say nothing here. ``seq`` counts the
    durable events of the epoch.
    """

    def __init__(self) -> None:
        self.epoch = token_hex(8)
        self.seq = 0
        self.outboxes: set[Outbox] = set()

    def write(self, event: ServerEvent) -> None:
        """Encode *event* once and queue it for every connection."""
        frame = encode_event(event)
        for outbox in self.outboxes:
            outbox.put(frame)


class Fanout:
    """Delivers a user's events to that user's connections of this process.

    Every connection sees the same events in the same order. A user without a connection has no
    stream: what happens meanwhile is read over HTTP.
    """

    def __init__(self) -> None:
        self._streams: dict[UserId, UserStream] = {}

    @contextmanager
    def subscribed(self, user: UserId, outbox: Outbox) -> Iterator[UserStream]:
        """Have *outbox* receive *user*'s events while the context lasts."""
        stream = self._streams.setdefault(user, UserStream())
        stream.outboxes.add(outbox)
        try:
            yield stream
        finally:
            stream.outboxes.discard(outbox)
            if not stream.outboxes:
                self._streams.pop(user, None)

    def publish(self, user: UserId, build: Callable[[int], ServerEvent]) -> None:
        """Send a durable event; *build* is given its ``seq``."""
        stream = self._streams.get(user)
        if stream is None:
            return
        stream.seq += 1
        stream.write(build(stream.seq))

    def publish_live(self, user: UserId, event: ServerEvent) -> None:
        """Send an event that has no place in the durable order (deltas, limits)."""
        stream = self._streams.get(user)
        if stream is not None:
            stream.write(event)

    def close_user(self, user: UserId, reason: ChatError) -> None:
        """Close all connections of *user* of this process, after what they still are to be told."""
        stream = self._streams.get(user)
        for outbox in list(stream.outboxes) if stream else []:
            outbox.close(reason)

    @property
    def users(self) -> int:
        """How many users are connected."""
        return len(self._streams)
