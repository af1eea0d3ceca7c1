"""The connections of this process: who is there, and sending all of them away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from chat_server.errors import ChatError
from chat_server.events import GoAway
from chat_server.frames import frame_of
from chat_server.metrics import Metrics
from chat_server.outbox import Outbox


class Connections:
    """Counts connections and reaches all of them when the server stops."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._outboxes: set[Outbox] = set()
        self._none = anyio.Event()
        self._none.set()
        self.draining = False

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

    def announce_end(self, deadline_s: float) -> None:
        """Tell every client that the server will be gone in *deadline_s*."""
        self.draining = True
        frame = frame_of(GoAway(reason="restart", deadline_ms=int(deadline_s * 1000)))
        for outbox in self._outboxes:
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
