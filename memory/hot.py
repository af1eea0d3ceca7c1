"""The hot memories of all users: read once, kept up to date, bounded."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.abc import TaskGroup

from memory.errors import StoreError, StoreUnavailable
from memory.hot_completion import Completion, EmbedMarked
from memory.hot_copy import HotAdded, HotCopy, HotEntry, HotLoad
from memory.hot_entries import HotEntries, HotFigures, HotLimits
from memory.hot_memory import HotMemory
from memory.hot_reading import HotReader, NewestMessages
from memory.messages import Message, MessageId, UserId, Vector
from memory.recalled import Recall
from memory.token_marks import TokenMarks
from memory.warm import WarmMemories

log = structlog.get_logger(__name__)

LOADS_AT_ONCE = 2
SAVING_S = 5.0
"""How long copies are written at the end."""
Search = Callable[[HotMemory], Recall]


class HotMemories:
    """The newest messages of each active user, within *limits* for all together.

    Made by ``open_hot_memories``. The least recently used leave first, and whoever was idle for
    ``IDLE_S``; *warm* keeps copies of them on disk. Everything happens on the event loop, a
    user's messages are indexed in slices.
    """

    def __init__(
        self,
        reader: HotReader,
        completion: Completion,
        tasks: TaskGroup,
        limits: HotLimits,
        *,
        warm: WarmMemories | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._completion = completion
        self._tasks = tasks
        self._limits = limits
        self._warm = warm
        self._entries = HotEntries(limits, clock, self._save_evicted)
        self._loading = anyio.Semaphore(LOADS_AT_ONCE)
        self._loads = 0
        self._warm_loads = 0
        self._failures = 0

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
        held = [copy.memory for copy in self._entries.use(user).copies] or [self._limits.empty()]
        largest = max(held, key=len)
        log.info("hot_memory.outwaited", wait_s=wait_s, messages=len(largest))
        return largest

    async def search(self, user: UserId, memory: HotMemory, search: Search) -> Recall:
        """The outcome of *search* on *memory*, which :meth:`get` returned for *user*; a large
        one is searched in a thread, one search at a time.
        """
        entry = self._entries.find(user)
        for copy in entry.copies if entry is not None else []:
            if copy.memory is memory:
                return await copy.search(search)
        return await HotCopy(memory, None).search(search)

    def add(
        self,
        message: Message,
        vector: Vector,
        version: int | None,
        marks: TokenMarks | None = None,
    ) -> None:
        """Take in a message that was committed just now, as the user's commit *version*.

        It is found from here on. When *version* shows that others committed in between, what is
        missing is read at the next use.
        """
        entry = self._entries.find(message.user)
        if entry is None:
            return
        added = HotAdded(message, vector, marks)
        if entry.load is not None:
            entry.load.added.append(added)
        for copy in entry.copies:
            copy.change(added.put_into)
            copy.note(version)
        self._entries.use(message.user)
        self._entries.fit(entry)

    def set_aside(self, user: UserId, message_id: MessageId) -> None:
        """Take out a message that is marked as forgotten in the store: it is not found from here
        on.
        """
        entry = self._entries.find(user)
        if entry is None:
            return
        if entry.load is not None:
            entry.load.forgotten.append(message_id)
        for copy in entry.copies:
            copy.change(lambda memory: memory.forget(message_id))
        self._entries.fit(entry)

    def note(self, user: UserId, version: int | None) -> None:
        """The user's commit *version* is one of this process, and is here already."""
        entry = self._entries.find(user)
        for copy in entry.copies if entry is not None else []:
            copy.note(version)

    def forget(self, user: UserId) -> None:
        """Drop all of *user*, in RAM and on disk, also what is being read."""
        if self._warm is not None:
            self._warm.void(user)
            self._tasks.start_soon(self._warm.distrust, user)
        entry = self._entries.pop(user)
        if entry is not None and entry.load is not None:
            entry.load.scope.cancel()

    def fill(self, message: Message, vector: Vector) -> None:
        """Give *message*, which had no vector, its *vector*, wherever it is in RAM."""
        entry = self._entries.find(message.user)
        for copy in entry.copies if entry is not None else []:
            copy.change(lambda memory: memory.fill(message.id, vector))
        if entry is not None and entry.load is not None:
            entry.load.filled[message.id] = vector

    def forget_all(self) -> None:
        """Drop everything, in RAM and on disk: all is read from the store at its next use."""
        for user in self._entries.users():
            self.forget(user)
        if self._warm is not None:
            self._tasks.start_soon(self._warm.distrust_all)
        log.info("hot_memory.forgotten")

    @property
    def keepsakes(self) -> list[WarmMemories]:
        """What keeps words on disk, for erasing them there."""
        return [self._warm] if self._warm is not None else []

    async def distrust_warm(self, user: UserId) -> None:
        """Leave no copy of *user*'s on disk: messages are to be stored that :meth:`add` is not
        told of. Never fails.
        """
        if self._warm is not None:
            await self._warm.distrust(user)

    async def save_all(self) -> None:
        """Keep copies of what is in RAM, the last used first."""
        for user, entry in reversed(self._entries.items()):
            if entry.copy is not None:
                await self._completion.save(user, entry.copy)

    def figures(self) -> HotFigures:
        """Figures for operators."""
        self._entries.evict_idle()
        copies = [copy for _, entry in self._entries.items() for copy in entry.copies]
        return HotFigures(
            users=len(self._entries),
            messages=sum(len(copy.memory) for copy in copies),
            size_bytes=self._entries.size_bytes,
            loads=self._loads,
            failures=self._failures,
            evictions=self._entries.evictions,
            warm_loads=self._warm_loads,
        )

    async def _current(self, user: UserId, version: int | None) -> HotMemory:
        while True:
            entry = self._entries.use(user)
            copy = entry.copy
            if copy is not None and copy.holds(version):
                return copy.memory
            if copy is not None:
                copy.memory.read_to_end = False  # not whole, until it has caught up
            load = entry.load or self._start(user, entry, version)
            await load.done.wait()
            if load.error is None:
                continue
            if entry.copy is None or not isinstance(load.error, StoreError):
                raise load.error
            return entry.copy.memory

    def _start(self, user: UserId, entry: HotEntry, version: int | None) -> HotLoad:
        load = entry.load = HotLoad(HotCopy(self._limits.empty(), version))
        self._loads += 1
        self._tasks.start_soon(self._run, user, entry, load)
        return load

    async def _run(self, user: UserId, entry: HotEntry, load: HotLoad) -> None:
        started = time.perf_counter()
        load.error = StoreUnavailable("reading was cut off")
        try:
            with load.scope:
                async with self._loading:
                    await self._reader.read(
                        user, load, entry.copy, lambda: self._reads_on(user, entry)
                    )
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
        if self._entries.find(user) is not entry:
            load.error = None  # forgotten meanwhile: whoever waits starts afresh
        elif load.error is None:
            entry.copy = load.copy
            self._warm_loads += load.warm
            self._entries.fit(entry)
            self._tasks.start_soon(self._complete, user, load.copy)
        else:
            self._failures += 1
            self._entries.count(entry)
            if entry.copy is None:
                self._entries.pop(user)
        load.done.set()

    def _reads_on(self, user: UserId, entry: HotEntry) -> bool:
        """Count the page that was read, and say whether it is still wanted."""
        if self._entries.find(user) is not entry:
            return False
        self._entries.fit(entry)
        return True

    async def _complete(self, user: UserId, copy: HotCopy) -> None:
        def in_use() -> bool:
            entry = self._entries.find(user)
            if entry is None or entry.copy is not copy:
                return False
            self._entries.fit(entry)
            return True

        await self._completion.complete(user, copy, in_use)

    def _save_evicted(self, user: UserId, copy: HotCopy) -> None:
        self._tasks.start_soon(self._completion.save, user, copy)


@asynccontextmanager
async def open_hot_memories(
    long_term: NewestMessages,
    limits: HotLimits,
    *,
    warm: WarmMemories | None = None,
    embed: EmbedMarked | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[HotMemories, None]:
    """Hot memories over *long_term*; *embed* brings the marks of what is read from there.

    At the end, loads that still run are cancelled, and copies of what is in RAM are kept, which
    takes at most ``SAVING_S``.
    """
    reader = HotReader(long_term, warm, hot_messages=limits.messages, empty=limits.empty)
    completion = Completion(reader, warm, embed)
    async with anyio.create_task_group() as tasks:
        memories = HotMemories(reader, completion, tasks, limits, warm=warm, clock=clock)
        try:
            yield memories
        finally:
            tasks.cancel_scope.cancel()
            with anyio.move_on_after(SAVING_S, shield=True):
                await memories.save_all()
