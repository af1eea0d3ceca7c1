"""The gate of a Chroma that several processes use: it closes in all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from chat_server.crew import Crew
from memory.store_gate import StoreGate


class CrewGate(StoreGate):
    """The supervisor's gate, which holds its workers' gates with it; needs :meth:`open_to`."""

    def __init__(self) -> None:
        super().__init__()
        self._crew: Crew | None = None
        self._asked_by_workers: dict[str, float] = {}

    def open_to(self, crew: Crew) -> None:
        """Hold the gates of *crew* from now on."""
        self._crew = crew

    def asked(self, collections: tuple[str, ...]) -> None:
        """Workers asked something about *collections* just now."""
        self._asked_by_workers.update(dict.fromkeys(collections, anyio.current_time()))

    def asked_within(self, seconds: float) -> set[str]:
        since = anyio.current_time() - seconds
        workers = {it for it, at in self._asked_by_workers.items() if at >= since}
        return super().asked_within(seconds) | workers

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        async with super().closed(), self._workers_held(batches_only=False):
            yield

    @asynccontextmanager
    async def closed_to_batches(self) -> AsyncIterator[None]:
        async with super().closed_to_batches(), self._workers_held(batches_only=True):
            yield

    @asynccontextmanager
    async def _workers_held(self, *, batches_only: bool) -> AsyncIterator[None]:
        if self._crew is None:
            yield
            return
        async with self._crew.held(batches_only=batches_only):
            yield
