"""How a user's hot memory is read: from a copy and what is new since, or from the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio
import anyio.lowlevel
import structlog

from memory.errors import StoreError
from memory.hot_copy import HotCopy, HotLoad
from memory.hot_memory import HotMemory
from memory.long_term import StoredPage
from memory.messages import Message, MessageId, UserId, Vector
from memory.read_ahead import ReadAhead
from memory.warm import WarmMemories

log = structlog.get_logger(__name__)

PAGE_MESSAGES: Final = 100
"""Reading 100 from JSON holds the interpreter for some 2 ms; half as many take a third more of the
CPU for each, and of the store's."""
NEWS_MESSAGES: Final = 20
"""Read first where little is expected to be new."""
SLICE_S: Final = 0.002
"""How long indexing may hold the event loop at a time."""


class NewestMessages(Protocol):
    """What is needed of ``memory.long_term.LongTermMemory``, with its meaning there."""

    async def forgotten(self, user: UserId) -> frozenset[MessageId]: ...

    async def newest(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> StoredPage: ...


class HotReader:
    """Reads memories from *long_term*, with the help of *warm* copies, in slices."""

    def __init__(
        self,
        long_term: NewestMessages,
        warm: WarmMemories | None,
        *,
        hot_messages: int,
        empty: Callable[[], HotMemory],
    ) -> None:
        self._long_term = long_term
        self._warm = warm
        self._hot_messages = hot_messages
        self._empty = empty

    async def read(
        self, user: UserId, load: HotLoad, outdated: HotCopy | None, on_page: Callable[[], bool]
    ) -> None:
        """Fill *load*'s copy: with *outdated* and what is new, or a warm copy and what is new,
        or the newest ``hot_messages`` of the store. *on_page* is called after each of its pages,
        and says whether to go on.

        Raises:
            StoreUnavailable, CorruptRecord: the store could not be read.
        """
        if outdated is not None and await self._catch_up(
            user, load, outdated, outdated.latest(load.wanted), exact=True
        ):
            return
        if outdated is None and self._warm is not None:
            warm = await self._warm.load(user, self._empty)
            if warm is not None:
                copy = HotCopy(warm.memory, warm.version)
                copy.whole = warm.memory.read_to_end
                copy.saved_changes = warm.memory.changes
                if await self._catch_up(
                    user, load, copy, load.wanted, exact=not self._warm.exclusive
                ):
                    load.warm = True
                    return
        await self._read_newest(user, load.copy, on_page)

    async def read_older(self, user: UserId, copy: HotCopy, *, limit: int = PAGE_MESSAGES) -> bool:
        """Put the next older page into *copy*; whether there may be more.

        Raises:
            StoreUnavailable, CorruptRecord: the store could not be read.
        """
        await _put(copy, await self._long_term.newest(user, limit=limit, before=copy.before))
        copy.change(HotMemory.settle)
        return not copy.whole

    async def _read_newest(self, user: UserId, copy: HotCopy, on_page: Callable[[], bool]) -> None:
        """The newest ``hot_messages``, each page while the one before is put into *copy*. It is
        begun only if that does not bring enough already.
        """
        limit = min(PAGE_MESSAGES, self._hot_messages)
        failure: StoreError | None = None
        async with anyio.create_task_group() as tasks:
            ahead = ReadAhead(
                lambda before: self._long_term.newest(user, limit=limit, before=before), tasks
            )
            while self._wanted(copy, 0):
                page = await ahead.page(copy.before)
                if isinstance(page, StoreError):
                    failure = page
                    break
                if page.before is not None and self._wanted(copy, len(page.messages)):
                    ahead.begin(page.before)
                await _put(copy, page)
                if not on_page() or copy.whole:
                    break
            tasks.cancel_scope.cancel()
        copy.change(HotMemory.settle)
        if failure is not None:
            raise failure

    def _wanted(self, copy: HotCopy, coming: int) -> bool:
        """Whether there is to be more than what is in *copy* and so many that are *coming*."""
        return not copy.memory.full and len(copy.memory) + coming < self._hot_messages

    async def _catch_up(
        self,
        user: UserId,
        load: HotLoad,
        known: HotCopy,
        version: int | None,
        *,
        exact: bool,
    ) -> bool:
        """Make *load*'s copy of *known* and what is new up to the user's *version*, if that is
        certain to be all.

        As many messages as commits are missing must stand before the known ones; otherwise
        something else happened, as a deletion or an import. Without a count of commits that
        can be compared, nothing is certain, unless nobody else writes (not *exact*): then what is
        new is what stands before the known ones. What was forgotten meanwhile is taken out of
        *known*, whatever comes of the rest.
        """
        forgotten = await self._long_term.forgotten(user)
        for message_id in forgotten:
            known.change(_forgetting(message_id))
        if not known.memory.forgotten <= forgotten:
            log.info("hot_memory.not_caught_up", undone=len(known.memory.forgotten - forgotten))
            return False
        missed = known.missed(version)
        if exact and missed is None:
            return False
        most = PAGE_MESSAGES if missed is None else missed
        news = await self._news(user, known.memory, most=most)
        if news is None or (missed is not None and not news.explains(missed)):
            log.info("hot_memory.not_caught_up", missed=missed)
            return False
        for message, vector in reversed(news.found):
            known.change(_addition(message, vector, older=False))
        if known.whole:
            known.memory.read_to_end = True
        load.replace(known.memory)
        load.copy.whole, load.copy.before = known.whole, known.before
        load.copy.saved_changes = known.saved_changes
        load.copy.caught_up(version)
        return True

    async def _news(self, user: UserId, memory: HotMemory, *, most: int) -> _News | None:
        """What stands before the messages that *memory* has; ``None`` if it is more than *most*
        or nothing that is known was met.
        """
        news = _News()
        before: str | None = None
        limit = NEWS_MESSAGES
        while True:
            page = await self._long_term.newest(user, limit=limit, before=before)
            news.take(page, memory)
            before, limit = page.before, PAGE_MESSAGES
            if len(news.found) > most:
                return None
            if news.met or before is None:
                return news if news.met or not len(memory) else None


class _News:
    """What stands before the first message that a memory has; some of it may not be recalled.

    What is missing behind that one may have been dropped from the memory for want of room.
    """

    def __init__(self) -> None:
        self.found: list[tuple[Message, Vector]] = []
        self.met = False
        self._silent = 0

    def explains(self, commits: int) -> bool:
        """Whether so many commits may have brought it, all that may be recalled among it."""
        return len(self.found) <= commits <= len(self.found) + self._silent

    def take(self, page: StoredPage, memory: HotMemory) -> None:
        """Note what is new in *page*, and whether a known message was met."""
        for message, vector in zip(page.messages, page.vectors, strict=True):
            if message.id in memory:
                self.met = True
                return
            if message.recallable:
                self.found.append((message, vector))
            else:
                self._silent += 1


async def _put(copy: HotCopy, page: StoredPage) -> None:
    """Put *page*, which is older than all that is in *copy*, into it, in slices."""
    started = time.perf_counter()
    for message, vector in zip(page.messages, page.vectors, strict=True):
        copy.change(_addition(message, vector, older=True))
        if time.perf_counter() - started > SLICE_S:
            await anyio.lowlevel.checkpoint()
            started = time.perf_counter()
    copy.before = page.before
    if page.before is None:
        copy.whole = True
        copy.memory.read_to_end = True


def _addition(message: Message, vector: Vector, *, older: bool) -> Callable[[HotMemory], None]:
    def add(memory: HotMemory) -> None:
        memory.add(message, vector, older=older)

    return add


def _forgetting(message_id: MessageId) -> Callable[[HotMemory], None]:
    def forget(memory: HotMemory) -> None:
        memory.forget(message_id)

    return forget
