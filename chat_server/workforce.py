"""All processes that serve from this data folder, as any one of them knows them."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from chat_server.fanout import Fanout
from chat_server.figures import Figures
from chat_server.metrics import Metrics
from chat_server.runs import Runs
from memory.hot import HotMemories

STARTED: Final = time.time()


class Workforce:
    """Says what this process does, and what all of them do.

    *others* returns the figures of all other processes, alive or not, and of what the dead ones
    counted; never fails.
    """

    def __init__(self, metrics: Metrics, runs: Runs, fanout: Fanout, hot: HotMemories) -> None:
        self._metrics = metrics
        self._runs = runs
        self._fanout = fanout
        self._hot = hot
        self.slot = 0
        self.others: Callable[[], Awaitable[Sequence[Figures]]] = nobody

    def own(self) -> Figures:
        """The figures of this process."""
        return Figures(
            slot=self.slot,
            pid=os.getpid(),
            since=round(STARTED, 3),
            families=self._metrics.families(),
            lately=self._metrics.lately(),
            connections=self._metrics.connections,
            connected_users=self._fanout.users,
            runs=len(self._runs),
            hot=self._hot.figures(),
        )

    async def all(self) -> list[Figures]:
        """The figures of all processes."""
        return [*await self.others(), self.own()]


async def nobody() -> Sequence[Figures]:
    """The others of who is alone."""
    return ()
