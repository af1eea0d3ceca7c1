"""This process's part of the limit that all users share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio

from chat_server.rate_limited import RateLimited, whole_ms
from memory.errors import ShortTermUnavailable
from memory.short_term import Allowance, ShortTermMemory, ShortTermPolicy

LARGEST_LEASE: Final = 50
REFUSAL_LIFE_S: Final = 1.0
"""How long a spent global limit is not asked for again: a crowd is refused without a crowd of
round trips, and a limit that was reset is noticed soon."""


@dataclass
class Lease:
    """Units of the global limit; what is *left* of them is lost at *ends_at* (clock seconds)."""

    ends_at: float
    units: int
    left: int


class GlobalShare:
    """This process's part of the global limit, leased from short-term memory by the handful.

    What is not used is lost when the limit's window has passed, so a process exceeds the limit
    by less than one lease at worst.
    """

    def __init__(
        self, short_term: ShortTermMemory, policy: ShortTermPolicy, clock: Callable[[], float]
    ) -> None:
        self._short_term = short_term
        self._limit = policy.global_limit
        self._window_s = policy.limit_window_s
        self._lease_units = min(LARGEST_LEASE, policy.global_limit // 20 + 1)
        self._clock = clock
        self._renewing = anyio.Lock()
        self._leases: deque[Lease] = deque()  # the first ends first
        self._refused_until = -math.inf
        self._frees_at = -math.inf
        self._failures = 0

    async def take(self) -> Lease:
        """Use one unit; concurrent callers take a new lease once. Returns where it came from.

        Raises:
            RateLimited: the limit is spent.
            ShortTermUnavailable: all units are used, and no more can be leased.
        """
        lease = self._with_unit()
        if lease is None:
            failures = self._failures
            async with self._renewing:
                if self._failures != failures:  # else a queue would wait for one time-out each
                    raise ShortTermUnavailable("lease_global: failed for another message just now")
                lease = self._with_unit() or await self._renew()
        lease.left -= 1
        return lease

    def give_back(self, lease: Lease) -> None:
        """Return a unit of *lease*."""
        lease.left += 1

    def allowance(self) -> Allowance:
        """What is left, as far as this process's own leases tell."""
        now = self._clock()
        while self._leases and self._leases[0].ends_at <= now:
            self._leases.popleft()
        left = sum(lease.left for lease in self._leases)
        if not left and now < self._refused_until:
            return Allowance(
                limit=self._limit, remaining=0, reset_ms=whole_ms(self._frees_at - now)
            )
        used = sum(lease.units for lease in self._leases) - left
        reset_ms = whole_ms(self._leases[0].ends_at - now) if used else 0
        return Allowance(limit=self._limit, remaining=max(0, self._limit - used), reset_ms=reset_ms)

    def _with_unit(self) -> Lease | None:
        now = self._clock()
        for lease in reversed(self._leases):  # the newest is the one that is being used up
            if lease.ends_at <= now:
                break
            if lease.left:
                return lease
        if now < self._refused_until:
            raise RateLimited("global", self.allowance())
        return None

    async def _renew(self) -> Lease:
        asked_at = self._clock()  # before asking: the lease ends here no later than there
        try:
            granted, free_ms = await self._short_term.lease_global(self._lease_units)
        except ShortTermUnavailable:
            self._failures += 1
            raise
        now = self._clock()
        if not granted:
            self._frees_at = now + free_ms / 1_000
            self._refused_until = min(self._frees_at, now + REFUSAL_LIFE_S)
            raise RateLimited("global", self.allowance())
        while self._leases and self._leases[0].ends_at <= now:
            self._leases.popleft()
        lease = Lease(ends_at=asked_at + self._window_s, units=granted, left=granted)
        self._leases.append(lease)
        return lease
