"""What is being typed, prepared before it is sent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import anyio

from chat_server.preparation import Drafted, fits
from chat_server.speculation_metrics import SpeculationMetrics
from memory.messages import UserId

DRAFTS_PER_S: Final = 4


class Preparing(Protocol):
    """What is needed of ``chat_server.preparation.Preparation``, with its meaning there."""

    async def prepare(self, user: UserId, text: str) -> Drafted | None: ...


class Speculation:
    """The drafts of one connection: the newest is prepared, and used if that is what is sent.

    Nothing of them is stored, answered or counted against a limit. At most one is prepared at a
    time; a newer one takes its place.
    """

    def __init__(
        self,
        metrics: SpeculationMetrics,
        *,
        max_text_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._max_text_bytes = max_text_bytes
        self._clock = clock
        self._came: deque[float] = deque(maxlen=DRAFTS_PER_S)
        self._newest: str | None = None
        self._prepared: Drafted | None = None
        self._scope = anyio.CancelScope()
        self._woken = anyio.Event()

    def typed(self, text: str) -> bool:
        """Take *text* for what will be sent; ``False``: more than ``DRAFTS_PER_S`` came."""
        now = self._clock()
        crowded = len(self._came) == DRAFTS_PER_S and now - self._came[0] < 1
        if crowded or not text.strip() or len(text.encode()) > self._max_text_bytes:
            self._metrics.draft("dropped")
            return not crowded
        self._came.append(now)
        if self._prepared is not None and self._prepared.says(text):
            return True
        if self._newest is not None and self._prepared is None:
            self._metrics.draft("replaced")
        self._newest, self._prepared = text, None
        self._scope.cancel()
        self._woken.set()
        return True

    def take(self, text: str) -> Drafted | None:
        """What was prepared for *text*, which is being sent; the next drafts are of another."""
        newest, prepared = self._newest, self._prepared
        self._newest = self._prepared = None
        if newest is None:
            return None
        if not fits(newest, text):
            self._metrics.sent("miss")
            return None
        if prepared is None:
            self._metrics.sent("late")
            return None
        self._metrics.sent("hit")
        self._metrics.saved(prepared.took_ms)
        return prepared

    async def run(self, preparation: Preparing, user: UserId) -> None:
        """Have *preparation* prepare what *user* types, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            text = self._newest
            if text is None:
                continue
            with anyio.CancelScope() as self._scope:
                prepared = await preparation.prepare(user, text)
                if prepared is not None and self._newest is text:
                    self._prepared = prepared
                    self._metrics.draft("prepared")
