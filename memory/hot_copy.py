"""The state of one user's hot memory: what is at hand, and what is being read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread

from memory.hot_memory import HotMemory
from memory.messages import Message, MessageId, Vector
from memory.recalled import Recall
from memory.token_marks import TokenMarks

MOST_AHEAD = 64
"""Commits remembered beyond a gap; one is enough to know that there is one."""
MOST_MISSED = 1_000
"""Who missed more commits reads everything again; a number that counts anew looks like that."""
LARGE_MESSAGES = 3_000
"""From here on, a search would hold the event loop too long."""


class HotCopy:
    """A user's memory, and up to which of the user's commits it holds all."""

    def __init__(self, memory: HotMemory, version: int | None) -> None:
        self.memory = memory
        self.version = version
        self.whole = False
        """Whether it reached the user's first message when it was read."""
        self.before: str | None = None
        """Where the walk goes on for what is older than all that is here."""
        self.saved_changes: int | None = None
        """``memory.changes`` when it was kept on disk or read from there."""
        self._ahead: set[int] = set()
        self._searching = anyio.Lock()
        self._put_off: list[Callable[[], None]] | None = None

    def holds(self, version: int | None) -> bool:
        """Whether every commit up to *version* is here, as far as anybody knows."""
        if self._ahead:
            return False
        return version is None or self.version is None or version <= self.version

    def latest(self, version: int | None) -> int | None:
        """The latest commit that is known of: *version*, or one that was noted."""
        known = (self.version, version, *self._ahead)
        return max((each for each in known if each is not None), default=None)

    def missed(self, version: int | None) -> int | None:
        """How many commits up to *version* are not here; ``None`` if that cannot be told."""
        if version is None or self.version is None:
            return None
        missed = version - self.version - len(self._ahead)
        return missed if 0 <= missed <= MOST_MISSED else None

    def caught_up(self, version: int | None) -> None:
        """All commits up to *version* are here."""
        if version is None:
            return
        version = max(version, self.version or version)
        self._ahead = {each for each in self._ahead if each > version}
        self._advance(version)

    def note(self, version: int | None) -> None:
        """One of this process's own commits is here, the user's *version*-th.

        Two may be noted in the wrong order. A number that stays ahead of a gap, or behind since
        counting began anew, means that others may have committed what is not here.
        """
        if version is None:
            return
        if self.version is None:
            self.version = version
        elif len(self._ahead) < MOST_AHEAD:
            self._ahead.add(version)
            self._advance(self.version)

    def change(self, change: Callable[[HotMemory], None]) -> None:
        """Make *change* to the memory: now, or as soon as the search in another thread ends,
        and before the next one.
        """
        if self._put_off is None:
            change(self.memory)
        else:
            self._put_off.append(partial(change, self.memory))

    async def search(self, search: Callable[[HotMemory], Recall]) -> Recall:
        """The outcome of *search*, one at a time and in a thread where the memory is large."""
        if len(self.memory) < LARGE_MESSAGES:
            return search(self.memory)
        async with self._searching:
            self._put_off = []
            try:
                return await anyio.to_thread.run_sync(search, self.memory)
            finally:
                put_off, self._put_off = self._put_off, None
                for change in put_off:
                    change()

    def _advance(self, version: int) -> None:
        while version + 1 in self._ahead:
            version += 1
            self._ahead.remove(version)
        self.version = version


class HotAdded:
    """A message that was committed just now."""

    def __init__(self, message: Message, vector: Vector, marks: TokenMarks | None) -> None:
        self.message = message
        self.vector = vector
        self.marks = marks

    def put_into(self, memory: HotMemory) -> None:
        memory.add(self.message, self.vector, marks=self.marks)


class HotLoad:
    """A copy that is being read. Once ``done`` is set, ``error`` says how that ended.

    ``filled``: vectors that came meanwhile, for messages that may have been read before and put
    into the copy after. ``added``, ``forgotten``: what was committed and forgotten meanwhile, for a
    memory that takes the place of the copy's.
    """

    def __init__(self, copy: HotCopy) -> None:
        self.copy = copy
        self.wanted = copy.version
        self.filled: dict[MessageId, Vector] = {}
        self.added: list[HotAdded] = []
        self.forgotten: list[MessageId] = []
        self.warm = False
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.error: Exception | None = None

    def replace(self, memory: HotMemory) -> None:
        """Let *memory*, which holds what was stored before, be what was read."""
        for added in self.added:
            added.put_into(memory)
        for message_id in self.forgotten:
            memory.forget(message_id)
        self.copy.memory = memory


class HotEntry:
    """What there is for a user: a copy, a load that will replace it, or both."""

    def __init__(self) -> None:
        self.copy: HotCopy | None = None
        self.load: HotLoad | None = None
        self.used_at = 0.0
        self.counted_bytes = 0

    @property
    def copies(self) -> list[HotCopy]:
        loading = self.load.copy if self.load else None
        return [copy for copy in (self.copy, loading) if copy is not None]

    @property
    def size_bytes(self) -> int:
        return sum(copy.memory.size_bytes for copy in self.copies)
