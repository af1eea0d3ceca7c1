"""Short-term memory in this process: the twin of Redis for tests, with a clock to hand."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from memory.messages import ConversationId, Message, UserId
from memory.short_term import (
    Admission,
    Allowance,
    AppendOutcome,
    ShortTermPolicy,
    ShortTermUsage,
    Window,
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """Values that are gone after their time to live."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[K, tuple[V, float]] = {}

    def __len__(self) -> int:
        return len(self.values())

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, ends_at = entry
        if self._clock() >= ends_at:
            del self._entries[key]
            return None
        return value

    def put(self, key: K, value: V, life_s: float) -> None:
        self._entries[key] = (value, self._clock() + life_s)

    def values(self) -> list[V]:
        return [value for key in list(self._entries) if (value := self.get(key)) is not None]

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def drop(self, key: K) -> None:
        self._entries.pop(key, None)


class InProcessShortTermMemory:
    """``ShortTermMemory`` in dictionaries; *clock* gives seconds since the epoch.

    It never fails, knows one process only, and forgets lazily: what has expired is gone for
    callers, but its memory is freed when it is next asked for, or by ``usage``.
    """

    def __init__(self, policy: ShortTermPolicy, *, clock: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._clock = clock
        self._admissions: Expiring[UserId, deque[float]] = Expiring(clock)
        self._last_active: Expiring[UserId, float] = Expiring(clock)
        self._windows: Expiring[tuple[UserId, ConversationId], tuple[Message, ...]] = Expiring(
            clock
        )
        self._versions: Expiring[UserId, int] = Expiring(clock)
        self._leases: deque[tuple[float, int]] = deque()

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        now = self._clock()
        policy = self._policy
        last = self._last_active.get(user)
        active = last is not None and now - last < policy.active_within_s
        spent = self._admissions.get(user) or deque()
        while spent and now - spent[0] >= policy.limit_window_s:
            spent.popleft()
        if len(spent) >= policy.user_limit:
            allowance = self._allowance(spent)
            return Admission(
                allowed=False, user=allowance, active=active, window=None, version=None
            )
        spent.append(now)
        self._admissions.put(user, spent, policy.limit_window_s)
        self._last_active.put(user, now, 2 * policy.active_within_s)
        messages = None if conversation is None else self._windows.get((user, conversation))
        return Admission(
            allowed=True,
            user=self._allowance(spent),
            active=active,
            window=Window(messages) if messages else None,
            version=self._versions.get(user),
        )

    async def lease_global(self, units: int) -> tuple[int, int]:
        now = self._clock()
        while self._leases and now - self._leases[0][0] >= self._policy.limit_window_s:
            self._leases.popleft()
        used = sum(leased for _, leased in self._leases)
        granted = max(0, min(units, self._policy.global_limit - used))
        if granted:
            self._leases.append((now, granted))
        return granted, self._free_in_ms(self._leases[0][0]) if self._leases else 0

    async def append(self, message: Message, *, active: bool) -> AppendOutcome:
        key = (message.user, message.conversation)
        messages = self._windows.get(key)
        if messages and messages[-1].id == message.id:
            self._windows.put(key, messages, self._policy.window_life_s(active=active))
            return AppendOutcome("appended", self._count_commit(message.user, 0))
        version = self._count_commit(message.user, 1)
        if messages and messages[-1].id != message.parent:
            self._windows.drop(key)
            return AppendOutcome("stale", version)
        if not messages and message.parent is not None:
            return AppendOutcome("missing", version)
        kept = (*(messages or ()), message)[-self._policy.window_messages :]
        self._windows.put(key, kept, self._policy.window_life_s(active=active))
        return AppendOutcome("appended", version)

    async def replace(
        self,
        user: UserId,
        conversation: ConversationId,
        messages: Sequence[Message],
        *,
        active: bool,
    ) -> None:
        self._windows.drop((user, conversation))
        if kept := tuple(messages[-self._policy.window_messages :]):
            self._windows.put((user, conversation), kept, self._policy.window_life_s(active=active))

    async def drop(self, user: UserId, conversation: ConversationId) -> None:
        self._windows.drop((user, conversation))

    async def forget_user(self, user: UserId) -> None:
        self._admissions.drop(user)
        self._last_active.drop(user)
        self._versions.drop(user)
        for key in [key for key in self._windows if key[0] == user]:
            self._windows.drop(key)

    async def ping(self) -> None:
        return

    async def usage(self) -> ShortTermUsage:
        now = self._clock()
        return ShortTermUsage(
            active_users=sum(
                now - last < self._policy.active_within_s for last in self._last_active.values()
            ),
            total_keys=len(self._admissions)
            + len(self._last_active)
            + len(self._windows)
            + len(self._versions)
            + bool(self._leases),
            memory_bytes=0,
        )

    def _allowance(self, spent: deque[float]) -> Allowance:
        limit = self._policy.user_limit
        return Allowance(
            limit=limit,
            remaining=limit - len(spent),
            reset_ms=self._free_in_ms(spent[0]),
        )

    def _free_in_ms(self, spent_at: float) -> int:
        """The ms until what was spent at *spent_at* is free again, from now."""
        left_s = spent_at + self._policy.limit_window_s - self._clock()
        return math.ceil(round(left_s * 1_000, 3))

    def _count_commit(self, user: UserId, by: int) -> int:
        """The new version; a lost one begins at the time in us and so never equals an old one."""
        known = self._versions.get(user)
        version = int(self._clock() * 1_000_000) if known is None else known + by
        self._versions.put(user, version, self._policy.version_life_s)
        return version
