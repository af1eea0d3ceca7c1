"""The state of one user's hot memory: what is at hand, and what is being read."""

from __future__ import annotations

import anyio

from memory.hot_memory import HotMemory
from memory.messages import MessageId, Vector

MOST_AHEAD = 64
"""Commits remembered beyond a gap; one is enough to know that there is one."""


class HotCopy:
    """A user's memory, and up to which of the user's commits it holds all."""

    def __init__(self, memory: HotMemory, version: int | None) -> None:
        self.memory = memory
        self._version = version
        self._ahead: set[int] = set()

    def holds(self, version: int | None) -> bool:
        """Whether every commit up to *version* is here, as far as anybody knows."""
        if self._ahead:
            return False
        return version is None or self._version is None or version <= self._version

    def note(self, version: int | None) -> None:
        """One of this process's own commits is here, the user's *version*-th.

        Two may be noted in the wrong order. A number that stays ahead of a gap, or behind since
        counting began anew, means that others may have committed what is not here.
        """
        if version is None:
            return
        if self._version is None:
            self._version = version
        elif len(self._ahead) < MOST_AHEAD:
            self._ahead.add(version)
            while self._version + 1 in self._ahead:
                self._version += 1
                self._ahead.remove(self._version)


class HotLoad:
    """A copy that is being read. Once ``done`` is set, ``error`` says how that ended.

    ``filled``: vectors that came meanwhile, for messages that may have been read before and put
    into the copy after.
    """

    def __init__(self, copy: HotCopy) -> None:
        self.copy = copy
        self.filled: dict[MessageId, Vector] = {}
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.error: Exception | None = None


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
