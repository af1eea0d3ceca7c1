"""Messages that were stored without a vector get theirs as soon as the embedder works."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import numpy as np
import structlog

from memory.embedding_fallback import EmbeddingFallback
from memory.errors import StoreError
from memory.hot import HotMemories
from memory.long_term import LongTermMemory
from memory.messages import Message, MessageId, UserId, Vectors

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 1_000
"""Messages that are remembered, 12 MB of text at most; the rest is looked up in the store."""
MAX_HOPELESS: Final = 10_000
BATCH: Final = 16
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
PROBE: Final = "tea"
"""A text that every embedder knows a vector for: if it does not, it is not the text's fault."""


class Backfill:
    """Embeds what stands in *long_term* without a vector, and fills the vectors in.

    It knows of such messages because it is told, and looks for them once at the start. It gives
    way: a few at a time, resting as long as it worked. While the embedder or the store fails it
    tries again, more and more seldom. A text that has no vector although the embedder works stays
    without one, and is not tried again before the next start.
    """

    def __init__(
        self, long_term: LongTermMemory, embedding: EmbeddingFallback, hot: HotMemories
    ) -> None:
        self._long_term = long_term
        self._embedding = embedding
        self._hot = hot
        self._waiting: OrderedDict[MessageId, Message] = OrderedDict()
        self._hopeless: set[MessageId] = set()
        self._more = True
        """Whether the store may hold messages without a vector that are not in ``_waiting``."""
        self._noted = anyio.Event()
        self._filling = anyio.Lock()
        self._pause_s = FIRST_PAUSE_S
        self._batch = BATCH
        long_term.watch_unembedded(self.note)

    @property
    def left(self) -> int:
        """How many messages are known to have no vector."""
        return len(self._waiting) + len(self._hopeless)

    def note(self, message: Message) -> None:
        """*message* is stored and has no vector."""
        if message.id in self._waiting or message.id in self._hopeless:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._more = True
        else:
            self._waiting[message.id] = message
        self._noted.set()

    @asynccontextmanager
    async def held(self, user: UserId) -> AsyncIterator[None]:
        """Within the block nothing is filled in, and what waits of *user* is dropped: for taking
        messages away, which must not get the vectors of their words afterwards.
        """
        async with self._filling:
            self._drop(user)
            try:
                yield
            finally:
                self._drop(user)

    async def run(self) -> None:
        """Fill in what there is, then what comes, until cancelled."""
        while True:
            self._noted = anyio.Event()
            began = anyio.current_time()
            try:
                worked = await self._step()
            except StoreError as fault:
                if self._waiting:
                    left = len(self._waiting)
                    log.info("backfill.put_off", reason=type(fault).__name__, left=left)
                worked = False
            if not worked:
                await anyio.sleep(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            elif self._waiting or self._more:
                self._pause_s = FIRST_PAUSE_S
                await anyio.sleep(anyio.current_time() - began)
            else:
                await self._noted.wait()

    async def _step(self) -> bool:
        """Fill in one batch; ``False`` if the embedder does not work."""
        if self._more and len(self._waiting) < BATCH:
            await self._look_up()
        batch = list(self._waiting.values())[: self._batch]
        if not batch:
            return True
        vectors = await self._embedding.vectors([message.text for message in batch])
        if not vectors.any(axis=1).all() and not await self._embedder_works():
            # One of them may be what it hangs at: they are tried singly, and the others first.
            self._batch = 1
            for message in batch:
                if message.id in self._waiting:
                    self._waiting.move_to_end(message.id)
            return False
        self._batch = BATCH
        async with self._filling:
            # What was dropped meanwhile is no longer filled in.
            still = [row for row, message in enumerate(batch) if message.id in self._waiting]
            await self._fill([batch[row] for row in still], vectors[still])
        return True

    async def _fill(self, batch: Sequence[Message], vectors: Vectors) -> None:
        done: list[int] = np.flatnonzero(vectors.any(axis=1)).tolist()
        embedded = [batch[row] for row in done]
        filled = await self._long_term.fill(embedded, vectors[done]) if embedded else []
        for message, vector in zip(embedded, vectors[done], strict=True):
            if message.id in filled:
                self._hot.fill(message, vector)
        for message in batch:
            self._waiting.pop(message.id, None)
        self._give_up([message for row, message in enumerate(batch) if row not in done])
        if not self._waiting and not self._more:
            log.info("backfill.completed", without_vector=len(self._hopeless))

    async def _look_up(self) -> None:
        """Take in what the store holds without a vector, as much as there is room for."""
        room = MAX_WAITING - len(self._waiting)
        known = self._waiting.keys() | self._hopeless
        found = await self._long_term.unembedded(limit=room, without=known)
        self._more = len(found) == room
        for message in found:
            self._waiting.setdefault(message.id, message)
        if found:
            log.info("backfill.found", messages=len(found))

    async def _embedder_works(self) -> bool:
        return bool((await self._embedding.vector(PROBE)).any())

    def _give_up(self, failed: Sequence[Message]) -> None:
        if not failed:
            return
        log.warning("backfill.given_up", messages=len(failed))
        self._hopeless.update(message.id for message in failed)
        if len(self._hopeless) >= MAX_HOPELESS:
            self._more = False  # looking them up would find those that are not remembered, again

    def _drop(self, user: UserId) -> None:
        for message in [it for it in self._waiting.values() if it.user == user]:
            del self._waiting[message.id]
