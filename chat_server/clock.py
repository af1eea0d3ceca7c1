"""One clock for all connections: it wakes each when its time has come, to a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio

TICK_S: Final = 0.5


class Sleeper(Protocol):
    """Who is woken. One task for all of them costs less than a timer for each."""

    def wake(self, now_s: float, /) -> float | None:
        """Do what is due, without waiting; the time of the next call, ``None`` for no more."""


class Clock:
    """Wakes sleepers at monotonic times, not before them, and at most two ticks late."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._due: dict[int, set[Sleeper]] = {}
        self._ticks: dict[Sleeper, int] = {}
        self._next = self._tick(now())

    def set(self, sleeper: Sleeper, at_s: float) -> None:
        """Wake *sleeper* at *at_s*, and not when it was to be woken before."""
        self.forget(sleeper)
        tick = max(self._tick(at_s), self._next) + 1
        self._ticks[sleeper] = tick
        self._due.setdefault(tick, set()).add(sleeper)

    def forget(self, sleeper: Sleeper) -> None:
        """Wake *sleeper* no more."""
        tick = self._ticks.pop(sleeper, None)
        if tick is not None:
            self._due[tick].discard(sleeper)

    def wake_due(self) -> None:
        """Wake everybody whose time has come; one may end another one's wait meanwhile."""
        now_s = self._now()
        while self._next <= self._tick(now_s):
            due = self._due.get(self._next)
            while due:
                sleeper = due.pop()
                del self._ticks[sleeper]
                again_s = sleeper.wake(now_s)
                if again_s is not None:
                    self.set(sleeper, again_s)
            self._due.pop(self._next, None)
            self._next += 1

    async def run(self) -> None:
        """Wake whose time has come, until cancelled."""
        while True:
            await anyio.sleep(TICK_S)
            self.wake_due()

    def __len__(self) -> int:
        """How many are to be woken."""
        return len(self._ticks)

    @staticmethod
    def _tick(at_s: float) -> int:
        return int(at_s / TICK_S)
