"""Which users' hot memories are in RAM: bounded in bytes over all, the last used stay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec
import structlog

from memory.hot_copy import HotCopy, HotEntry
from memory.hot_memory import HotMemory
from memory.messages import UserId

log = structlog.get_logger(__name__)

IDLE_S = 1800.0
"""A user's memory leaves RAM after this long without use."""
USER_SHARE = 2
"""One user's memory takes at most half of the budget."""


class HotLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is in RAM. ``messages``: the newest of a user, read before anything is searched.
    ``deep_messages``: with the older ones, which are read after. ``size_bytes``: of all users.
    """

    messages: int
    size_bytes: int
    deep_messages: int = 0

    def empty(self) -> HotMemory:
        """A memory for one user within these limits."""
        most = max(self.messages, self.deep_messages)
        return HotMemory(max_messages=most, max_bytes=self.size_bytes // USER_SHARE)


class HotFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What is in RAM now; the last four count from the start. Of the
    ``loads``, ``warm_loads`` needed only what was new.
    """

    users: int
    messages: int
    size_bytes: int
    loads: int
    failures: int
    evictions: int
    warm_loads: int


class HotEntries:
    """Entries of users, least recently used first; whoever was idle for ``IDLE_S`` leaves.

    *on_evict* gets what leaves, unless something is being read in its place.
    """

    def __init__(
        self,
        limits: HotLimits,
        clock: Callable[[], float],
        on_evict: Callable[[UserId, HotCopy], None],
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._on_evict = on_evict
        self._entries: OrderedDict[UserId, HotEntry] = OrderedDict()
        self.size_bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[UserId, HotEntry]]:
        """All of them, least recently used first."""
        return list(self._entries.items())

    def users(self) -> list[UserId]:
        """Who has one, likewise."""
        return list(self._entries)

    def find(self, user: UserId) -> HotEntry | None:
        """*user*'s entry, if there is one; does not count as use."""
        return self._entries.get(user)

    def use(self, user: UserId) -> HotEntry:
        """*user*'s entry, now the most recently used; made if there was none."""
        self.evict_idle()
        entry = self._entries.setdefault(user, HotEntry())
        entry.used_at = self._clock()
        self._entries.move_to_end(user)
        return entry

    def pop(self, user: UserId) -> HotEntry | None:
        """Take *user*'s entry out."""
        entry = self._entries.pop(user, None)
        if entry is not None:
            self.size_bytes -= entry.counted_bytes
            entry.counted_bytes = 0
        return entry

    def count(self, entry: HotEntry) -> None:
        """Count *entry*'s bytes anew."""
        here = entry.size_bytes
        self.size_bytes += here - entry.counted_bytes
        entry.counted_bytes = here

    def fit(self, entry: HotEntry) -> None:
        """The same; the least recently used give way when it is too much."""
        self.count(entry)
        for user, other in self.items():
            if self.size_bytes <= self._limits.size_bytes:
                return
            if other.copy is not None:
                self._evict(user, other)

    def evict_idle(self) -> None:
        """Give back what was not used for ``IDLE_S``."""
        latest = self._clock() - IDLE_S
        for user, entry in self.items():
            if entry.used_at > latest:
                return
            self._evict(user, entry)

    def _evict(self, user: UserId, entry: HotEntry) -> None:
        """Give back *user*'s copy; one that is being read stays."""
        copy, entry.copy = entry.copy, None
        if copy is not None:
            self.evictions += 1
            log.debug("hot_memory.evicted", messages=len(copy.memory))
        self.count(entry)
        if entry.load is None:
            del self._entries[user]
            if copy is not None:
                self._on_evict(user, copy)
