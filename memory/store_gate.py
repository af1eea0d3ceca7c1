"""The way to Chroma, which can be closed while its files are being looked after.

Whoever comes to a closed gate waits; nothing fails for it but what has waited for too long. The
gate also keeps the rebuilding of vectors and changes of what they are made from apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Literal

import anyio
import structlog

log = structlog.get_logger(__name__)

SETTLE_S: Final = 0.03
"""What looks up ids before it writes them has done so by then."""
DRAIN_S: Final = 6.0
"""Longer than a request may take."""

Kind = Literal["read", "write", "change"]
"""``write``: what a batch ends with. ``change``: of what stands, or its deletion."""


class StoreGate:
    """Lets requests through, and batches of them; one for all clients of a Chroma.

    A batch asks (:meth:`batch`) before its requests do, and those that write it pass for as long
    as it takes, so that what has begun is ended when the gate closes.
    """

    def __init__(self) -> None:
        self._open_to_batches = _Door()
        self._open_to_reads = _Door()
        self._open_to_writes = _Door()
        self._closing = anyio.Lock()
        self._under_way = 0
        self._writes_under_way = 0
        self._asked_at: dict[str, float] = {}
        self._ended = anyio.Event()
        self._rewriting: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def batch(self) -> None:
        """Return when a batch may be begun."""
        await self._open_to_batches.passed()

    @asynccontextmanager
    async def request(self, collection: str, kind: Kind) -> AsyncIterator[None]:
        """One request about *collection*, by its id, is under way within the block."""
        if kind == "change":
            async with self._rewriting[collection], self.request(collection, "read"):
                yield
            return
        door = self._open_to_reads if kind == "read" else self._open_to_writes
        await door.passed()
        self._writes_under_way += kind == "write"
        try:
            with self._counted(collection):
                yield
        finally:
            self._writes_under_way -= kind == "write"

    @asynccontextmanager
    async def rewriting(self, collection: str) -> AsyncIterator[None]:
        """Within the block nothing that stands in *collection* is changed or deleted."""
        async with self._rewriting[collection]:
            yield

    def asked_within(self, seconds: float) -> set[str]:
        """The collections about which something was asked in the last *seconds*."""
        since = anyio.current_time() - seconds
        return {collection for collection, at in self._asked_at.items() if at >= since}

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Within the block no request is under way; one at a time, others wait.

        A request that does not end within ``DRAIN_S`` is left behind, and fails.
        """
        async with self._closing:
            try:
                self._open_to_batches.shut()
                await anyio.sleep(SETTLE_S)
                self._open_to_reads.shut()
                with anyio.move_on_after(DRAIN_S) as drained:
                    await self._quiet()
                self._open_to_writes.shut()
                if drained.cancelled_caught:
                    log.warning("gate.not_drained", requests=self._under_way)
                yield
            finally:
                for door in (self._open_to_writes, self._open_to_reads, self._open_to_batches):
                    door.open()

    @asynccontextmanager
    async def closed_to_batches(self) -> AsyncIterator[None]:
        """Within the block no new batch is begun, and those before it have been written, or were
        waited for as long as ``DRAIN_S``; reads, and changes of what stands, go on.
        """
        async with self._closing:
            try:
                self._open_to_batches.shut()
                with anyio.move_on_after(DRAIN_S):
                    await anyio.sleep(SETTLE_S)
                    while self._writes_under_way:
                        await self._ended.wait()
                yield
            finally:
                self._open_to_batches.open()

    async def _quiet(self) -> None:
        """Return when nothing has been under way for a moment: a batch's next request follows
        its last at once.
        """
        quiet = False
        while not quiet:
            while self._under_way:
                await self._ended.wait()
            ended = self._ended
            await anyio.sleep(SETTLE_S)
            quiet = not self._under_way and ended is self._ended

    @contextmanager
    def _counted(self, collection: str) -> Iterator[None]:
        self._under_way += 1
        if collection:
            self._asked_at[collection] = anyio.current_time()
        try:
            yield
        finally:
            self._under_way -= 1
            self._ended.set()
            self._ended = anyio.Event()


class _Door:
    """Open, or shut until it is opened."""

    def __init__(self) -> None:
        self._opened: anyio.Event | None = None

    async def passed(self) -> None:
        while self._opened is not None:
            await self._opened.wait()

    def shut(self) -> None:
        self._opened = self._opened or anyio.Event()

    def open(self) -> None:
        if self._opened is not None:
            self._opened.set()
            self._opened = None
