"""What is done for a hot memory after it can be searched: older messages, marks, a warm copy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import structlog

from memory.embedding import Embedded
from memory.errors import StoreError
from memory.hot_copy import HotCopy
from memory.hot_memory import HotMemory
from memory.hot_reading import HotReader
from memory.messages import MessageId, UserId
from memory.token_marks import TokenMarks
from memory.warm import LEAST_MESSAGES, WarmCopy, WarmMemories

log = structlog.get_logger(__name__)

EmbedMarked = Callable[[Sequence[str]], Awaitable[Sequence[Embedded]]]
"""Embeds texts; zeros stand for what could not be embedded."""

MARKED_AT_ONCE = 4
STORE_PAUSE_S = 30.0


class Completion:
    """One memory at a time, resting as long as it works, so that it gives way to all else."""

    def __init__(
        self, reader: HotReader, warm: WarmMemories | None, embed: EmbedMarked | None
    ) -> None:
        self._reader = reader
        self._warm = warm
        self._embed = embed
        self._turn = anyio.Lock()
        self._saving = anyio.Lock()

    async def complete(self, user: UserId, copy: HotCopy, in_use: Callable[[], bool]) -> None:
        """Read what is older, embed what has no marks, keep a copy; while it is *in_use*.

        *in_use* is called after each page and counts the bytes.
        """
        async with self._turn:
            while in_use() and not copy.whole and not copy.memory.full:
                began = anyio.current_time()
                try:
                    await self._reader.read_older(user, copy)
                except StoreError as fault:
                    log.info("hot_memory.reading_put_off", reason=type(fault).__name__)
                    await anyio.sleep(STORE_PAUSE_S)
                await anyio.sleep(anyio.current_time() - began)
            await self._mark(copy, in_use)
        if in_use():
            await self.save(user, copy)

    async def save(self, user: UserId, copy: HotCopy) -> None:
        """Keep *copy* on disk, if that is worth it: it changed, and all of it has vectors."""
        memory = copy.memory
        if self._warm is None or len(memory) < LEAST_MESSAGES or memory.unembedded:
            return
        async with self._saving:  # a later ticket voids an earlier one
            changes = memory.changes
            if changes != copy.saved_changes:
                ticket = self._warm.ticket(user)
                if await self._warm.save(user, ticket, WarmCopy(memory, copy.version)):
                    copy.saved_changes = changes

    async def _mark(self, copy: HotCopy, in_use: Callable[[], bool]) -> None:
        while self._embed is not None and in_use():
            missing = copy.memory.unmarked(MARKED_AT_ONCE)
            if not missing:
                return
            began = anyio.current_time()
            embedded = await self._embed([text for _, text in missing])
            if not all(each.vector.any() for each in embedded):
                return
            for (message_id, _), each in zip(missing, embedded, strict=True):
                copy.change(_marking(message_id, each.marks))
            await anyio.sleep(anyio.current_time() - began)


def _marking(message_id: MessageId, marks: TokenMarks) -> Callable[[HotMemory], None]:
    def mark(memory: HotMemory) -> None:
        memory.mark(message_id, marks)

    return mark
