"""The hot memories of all users: read once, kept up to date, bounded."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import anyio.lowlevel
import msgspec
import structlog
from anyio.abc import TaskGroup

from memory.errors import StoreError, StoreUnavailable
from memory.hot_copy import HotCopy, HotEntry, HotLoad
from memory.hot_memory import HotMemory
from memory.long_term import StoredPage
from memory.messages import Message, UserId, Vector

log = structlog.get_logger(__name__)

LOADS_AT_ONCE = 2
PAGE_MESSAGES = 100
SLICE_S = 0.002
"""How long indexing may hold the event loop at a time."""
IDLE_S = 1800.0
"""A user's memory leaves RAM after this long without use."""
USER_SHARE = 4
"""One user's memory takes at most a fourth of the budget, so that two loads leave room."""


class HotFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What is in RAM now; ``loads``, ``failures`` and ``evictions`` count from the start."""

    users: int
    messages: int
    size_bytes: int
    loads: int
    failures: int
    evictions: int


class NewestMessages(Protocol):
    """What is needed of ``memory.long_term.LongTermMemory``, with its meaning there."""

    async def newest(
        self, user: UserId, *, limit: int, before: str | None = None
    ) -> StoredPage: ...


class HotMemories:
    """The newest *hot_messages* of each active user, about *hot_bytes* for all together.

    Made by ``open_hot_memories``. The least recently used leave first, and whoever was idle for
    ``IDLE_S``. Everything happens on the event loop, a user's messages are indexed in slices.
    """

    def __init__(
        self,
        long_term: NewestMessages,
        tasks: TaskGroup,
        *,
        hot_messages: int,
        hot_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._long_term = long_term
        self._tasks = tasks
        self._hot_messages = hot_messages
        self._hot_bytes = hot_bytes
        self._clock = clock
        self._entries: OrderedDict[UserId, HotEntry] = OrderedDict()
        self._loading = anyio.Semaphore(LOADS_AT_ONCE)
        self._size_bytes = 0
        self._loads = 0
        self._failures = 0
        self._evictions = 0

    async def get(self, user: UserId, version: int | None, *, wait_s: float = 2.0) -> HotMemory:
        """*user*'s memory with all commits up to *version* (``None``: not known).

        What is not here or behind is read from the long-term memory, once for all who wait.
        After *wait_s*, or when reading fails and an older state is here, what there is is
        returned; it is not ``complete`` then. Search the result before the next ``await``.
        Cancelling leaves the load running.

        Raises:
            StoreUnavailable, CorruptRecord: nothing is here, and reading failed; the next call
                tries again.
        """
        with anyio.move_on_after(wait_s):
            return await self._current(user, version)
        held = [copy.memory for copy in self._use(user).copies] or [self._empty()]
        largest = max(held, key=len)
        log.info("hot_memory.outwaited", wait_s=wait_s, messages=len(largest))
        return largest

    def add(self, message: Message, vector: Vector, version: int | None) -> None:
        """Take in a message that was committed just now, as the user's commit *version*.

        It is found from here on. When *version* shows that others committed in between, the
        user's memory is read again at its next use.
        """
        entry = self._entries.get(message.user)
        if entry is None:
            return
        for copy in entry.copies:
            copy.memory.add(message, vector)
            copy.note(version)
        self._use(message.user)
        self._fit(entry)

    def forget(self, user: UserId) -> None:
        """Drop all of *user* from RAM, also what is being read."""
        entry = self._entries.pop(user, None)
        if entry is not None:
            self._size_bytes -= entry.counted_bytes
            if entry.load is not None:
                entry.load.scope.cancel()

    def fill(self, message: Message, vector: Vector) -> None:
        """Give *message*, which had no vector, its *vector*, wherever it is in RAM."""
        entry = self._entries.get(message.user)
        for copy in entry.copies if entry is not None else []:
            copy.memory.fill(message.id, vector)
        if entry is not None and entry.load is not None:
            entry.load.filled[message.id] = vector

    def forget_all(self) -> None:
        """Drop everything from RAM: each user's memory is read again at its next use."""
        for user in list(self._entries):
            self.forget(user)
        log.info("hot_memory.forgotten")

    def figures(self) -> HotFigures:
        """Figures for operators."""
        self._evict_idle()
        copies = [copy for entry in self._entries.values() for copy in entry.copies]
        return HotFigures(
            users=len(self._entries),
            messages=sum(len(copy.memory) for copy in copies),
            size_bytes=self._size_bytes,
            loads=self._loads,
            failures=self._failures,
            evictions=self._evictions,
        )

    async def _current(self, user: UserId, version: int | None) -> HotMemory:
        while True:
            entry = self._use(user)
            copy = entry.copy
            if copy is not None and copy.holds(version):
                return copy.memory
            if copy is not None:
                copy.memory.read_to_end = False
            load = entry.load or self._start(user, entry, version)
            await load.done.wait()
            if load.error is None:
                continue
            if entry.copy is None or not isinstance(load.error, StoreError):
                raise load.error
            return entry.copy.memory

    def _start(self, user: UserId, entry: HotEntry, version: int | None) -> HotLoad:
        load = entry.load = HotLoad(HotCopy(self._empty(), version))
        self._loads += 1
        self._tasks.start_soon(self._run, user, entry, load)
        return load

    def _empty(self) -> HotMemory:
        return HotMemory(max_messages=self._hot_messages, max_bytes=self._hot_bytes // USER_SHARE)

    async def _run(self, user: UserId, entry: HotEntry, load: HotLoad) -> None:
        started = time.perf_counter()
        load.error = StoreUnavailable("reading was cut off")
        try:
            with load.scope:
                async with self._loading:
                    await self._read(user, entry, load.copy.memory)
                load.error = None
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, as from a future
            load.error = error
        finally:
            self._end(user, entry, load)
        took_ms = round((time.perf_counter() - started) * 1000, 1)
        if load.error is None:
            log.info("hot_memory.loaded", messages=len(load.copy.memory), took_ms=took_ms)
        else:
            log.warning("hot_memory.not_loaded", reason=type(load.error).__name__, took_ms=took_ms)

    def _end(self, user: UserId, entry: HotEntry, load: HotLoad) -> None:
        entry.load = None
        for message_id, vector in load.filled.items():
            load.copy.memory.fill(message_id, vector)
        if self._entries.get(user) is not entry:
            load.error = None  # forgotten meanwhile: whoever waits starts afresh
        elif load.error is None:
            entry.copy = load.copy
            self._fit(entry)
        else:
            self._failures += 1
            self._count(entry)
            if entry.copy is None:
                del self._entries[user]
        load.done.set()

    async def _read(self, user: UserId, entry: HotEntry, memory: HotMemory) -> None:
        limit = min(PAGE_MESSAGES, self._hot_messages)
        before: str | None = None
        while not memory.full:
            page = await self._long_term.newest(user, limit=limit, before=before)
            await _index(page, memory)
            if self._entries.get(user) is not entry:
                return
            self._fit(entry)
            before = page.before
            if before is None:
                memory.read_to_end = True
                return

    def _use(self, user: UserId) -> HotEntry:
        self._evict_idle()
        entry = self._entries.setdefault(user, HotEntry())
        entry.used_at = self._clock()
        self._entries.move_to_end(user)
        return entry

    def _fit(self, entry: HotEntry) -> None:
        """Count *entry*'s bytes anew; the least recently used give way when it is too much."""
        self._count(entry)
        for user, other in list(self._entries.items()):
            if self._size_bytes <= self._hot_bytes:
                return
            if other.copy is not None:
                self._evict(user, other)

    def _evict_idle(self) -> None:
        latest = self._clock() - IDLE_S
        for user, entry in list(self._entries.items()):
            if entry.used_at > latest:
                return
            self._evict(user, entry)

    def _evict(self, user: UserId, entry: HotEntry) -> None:
        """Give back *user*'s copy; one that is being read stays."""
        if entry.copy is not None:
            self._evictions += 1
            log.debug("hot_memory.evicted", messages=len(entry.copy.memory))
            entry.copy = None
        if entry.load is None:
            del self._entries[user]
        self._count(entry)

    def _count(self, entry: HotEntry) -> None:
        """Count *entry*'s bytes anew."""
        here = entry.size_bytes
        self._size_bytes += here - entry.counted_bytes
        entry.counted_bytes = here


async def _index(page: StoredPage, memory: HotMemory) -> None:
    """Put *page* into *memory*, letting others run every ``SLICE_S``."""
    started = time.perf_counter()
    for message, vector in zip(page.messages, page.vectors, strict=True):
        memory.add(message, vector, older=True)
        if time.perf_counter() - started > SLICE_S:
            await anyio.lowlevel.checkpoint()
            started = time.perf_counter()


@asynccontextmanager
async def open_hot_memories(
    long_term: NewestMessages,
    *,
    hot_messages: int,
    hot_bytes: int,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[HotMemories, None]:
    """Hot memories over *long_term*; loads that still run at the end are cancelled."""
    async with anyio.create_task_group() as tasks:
        yield HotMemories(
            long_term, tasks, hot_messages=hot_messages, hot_bytes=hot_bytes, clock=clock
        )
        tasks.cancel_scope.cancel()
