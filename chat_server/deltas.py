"""The pieces of one reply on their way to the clients: the first at once, then in company."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import anyio

from chat_server.events import RunDelta, ServerEvent
from memory.messages import RunId

COALESCE_S: Final = 0.025
"""At most one frame per run in this time: the eye does not see more, and each frame costs a
wake-up on both sides."""


class Deltas:
    """Turns pieces into ``run.delta`` events with offsets in code points."""

    def __init__(self, run: RunId, publish: Callable[[ServerEvent], None]) -> None:
        self._run = run
        self._publish = publish
        self._pending: list[str] = []
        self._offset = 0
        self._last_flush = 0.0
        self._waiting = anyio.Event()

    def add(self, piece: str) -> None:
        """Send *piece* now, or let it wait for company until ``COALESCE_S`` has passed."""
        self._pending.append(piece)
        if time.monotonic() - self._last_flush >= COALESCE_S:
            self.flush()
        else:
            self._waiting.set()

    def flush(self) -> None:
        """Send what waits."""
        if not self._pending:
            return
        text = "".join(self._pending)
        self._pending.clear()
        self._publish(RunDelta(run=self._run, offset=self._offset, text=text))
        self._offset += len(text)
        self._last_flush = time.monotonic()

    async def run(self) -> None:
        """Flush what waits when its time has come, until cancelled."""
        while True:
            await self._waiting.wait()
            await anyio.sleep(max(0.0, self._last_flush + COALESCE_S - time.monotonic()))
            self._waiting = anyio.Event()
            self.flush()
