"""The connections of this process: who is there, how many may be, and sending all of them away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from chat_server.clock import Clock
from chat_server.errors import ChatError
from chat_server.events import GoAway
from chat_server.frames import frame_of
from chat_server.metrics import Metrics
from chat_server.outbox import Outbox
from memory.messages import UserId

MOST: Final = 10_000
MOST_PER_USER: Final = 50
ROOM_MS: Final = 5_000
RESTARTED_MS: Final = 1_000
"""When it is worth coming back."""


class Connections:
    """Counts connections, wakes them, and reaches all of them when the server stops.

    ``clock`` is the one that they are woken by.
    """

    def __init__(
        self, metrics: Metrics, *, most: int = MOST, most_per_user: int = MOST_PER_USER
    ) -> None:
        self._metrics = metrics
        self._most = most
        self._most_per_user = most_per_user
        self._outboxes: set[Outbox] = set()
        self._of_user: dict[UserId, int] = {}
        self._none = anyio.Event()
        self._none.set()
        self.draining = False
        self.clock = Clock()

    def check_room(self) -> None:
        """Refuse a connection that would be one too many, or would not last.

        Raises:
            ChatError: ``shutting_down`` or ``overloaded``.
        """
        if self.draining:
            raise ChatError(
                "shutting_down", "the server restarts; reconnect", retry_after_ms=RESTARTED_MS
            )
        if len(self._outboxes) >= self._most:
            raise ChatError("overloaded", "as many are connected as can be", retry_after_ms=ROOM_MS)

    @contextmanager
    def opened(self, outbox: Outbox) -> Iterator[None]:
        """Count a connection while the context lasts."""
        self._outboxes.add(outbox)
        if self._none.is_set():
            self._none = anyio.Event()
        self._metrics.connection_opened()
        try:
            yield
        finally:
            self._outboxes.discard(outbox)
            if not self._outboxes:
                self._none.set()
            self._metrics.connection_closed()

    @contextmanager
    def of_user(self, user: UserId) -> Iterator[None]:
        """Count a connection as one of *user*'s while the context lasts.

        Raises:
            ChatError: ``too_many_connections``.
        """
        count = self._of_user.get(user, 0)
        if count >= self._most_per_user:
            raise ChatError(
                "too_many_connections",
                f"you are connected {count:,} times already; close another tab or program",
            )
        self._of_user[user] = count + 1
        try:
            yield
        finally:
            left = self._of_user[user] - 1
            if left:
                self._of_user[user] = left
            else:
                del self._of_user[user]

    def announce_end(self, deadline_s: float) -> None:
        """Tell every client that the server will be gone in *deadline_s*."""
        self.draining = True
        frame = frame_of(GoAway(reason="restart", deadline_ms=int(deadline_s * 1000)))
        for outbox in list(self._outboxes):
            outbox.put(frame)

    def close_all(self) -> None:
        """Close every connection with 4400, after what it still has to be told."""
        for outbox in list(self._outboxes):
            outbox.close(ChatError("shutting_down", "the server restarts; reconnect"))

    async def wait_none(self) -> None:
        """Return once no connection is left."""
        while self._outboxes:
            await self._none.wait()

    def __len__(self) -> int:
        return len(self._outboxes)
