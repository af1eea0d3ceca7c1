"""The frames that wait to be written to one connection: bounded, and never waited for."""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio

from chat_server.errors import ChatError
from chat_server.frames import Frame

MAX_BYTES: Final = 1_048_576
"""What may wait for a slow client before it is sent away (it reads what it missed over HTTP)."""


class Outbox:
    """A queue of frames, counted in bytes; one consumer.

    Producers never wait: a connection that cannot keep up is closed, so that a slow client
    never slows another.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._arrived = anyio.Event()
        self._emptied = anyio.Event()
        self._emptied.set()
        self._closed = anyio.Event()
        self._reason: ChatError | None = None

    def put(self, frame: Frame) -> None:
        """Queue *frame*; too much waiting drops all of it and closes with ``slow_client``."""
        if self._closed.is_set():
            return
        size = len(frame)
        if self._waiting_bytes + size > self._max_bytes:
            self._frames.clear()
            self._emptied.set()
            self.close(ChatError("slow_client", "too much was waiting to be read; reconnect"))
            return
        self._frames.append(frame)
        self._waiting_bytes += size
        self._arrived.set()
        if self._emptied.is_set():
            self._emptied = anyio.Event()

    def close(self, reason: ChatError | None) -> None:
        """Take nothing more; the first reason holds (``None``: the client left)."""
        if not self._closed.is_set():
            self._reason = reason
            self._closed.set()

    async def take(self) -> Frame:
        """The next frame; waits for one. It counts as waiting until :meth:`written`."""
        while not self._frames:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._frames[0]

    def written(self) -> None:
        """The frame that was taken has left."""
        if self._frames:
            self._waiting_bytes -= len(self._frames.popleft())
        if not self._frames:
            self._emptied.set()

    async def closed(self) -> ChatError | None:
        """Wait for the end, and say why."""
        await self._closed.wait()
        return self._reason

    async def drained(self) -> None:
        """Wait until everything was written."""
        await self._emptied.wait()
