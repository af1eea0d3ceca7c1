"""Who may send now: a limit for each user, and one that all share."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, assert_never

import anyio
import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from chat_server.errors import ChatError
from memory.errors import ShortTermUnavailable
from memory.messages import ConversationId, UserId, user_key
from memory.short_term import Admission, Allowance, ShortTermMemory, ShortTermPolicy

log = structlog.get_logger(__name__)

Scope = Literal["user", "global"]

LARGEST_LEASE: Final = 50
REFUSAL_LIFE_S: Final = 1.0
"""How long a spent global limit is not asked for again: a crowd is refused without a crowd of
round trips, and a limit that was reset is noticed soon."""


class RateLimited(ChatError):
    """A limit is spent: *scope* says whose, *allowance* what is left of it."""

    def __init__(self, scope: Scope, allowance: Allowance) -> None:
        seconds = max(1, math.ceil(allowance.reset_ms / 1_000))
        match scope:
            case "user":
                whose = "you have sent as many messages as one user may"
            case "global":
                whose = "the server has received as many messages as it may"
            case _:
                assert_never(scope)
        super().__init__(
            "rate_limited",
            f"{whose} for now; try again in {seconds} s",
            retry_after_ms=max(1, allowance.reset_ms),
        )
        self.scope: Scope = scope
        self.allowance = allowance


class RateLimiter:
    """Admits messages by both limits; goes on in this process's memory while Redis is away.

    In memory the limits begin unspent and are this process's own. Nothing is known of windows
    and activity then: they are reported as unknown and inactive.
    """

    def __init__(
        self,
        short_term: ShortTermMemory,
        policy: ShortTermPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._short_term = short_term
        self._share = GlobalShare(short_term, policy, clock)
        self._in_memory = InMemoryLimits(policy)
        self._degraded = False

    @property
    def degraded(self) -> bool:
        """Whether the last message was admitted without short-term memory."""
        return self._degraded

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        """Spend one unit of the global limit and one of *user*'s; see ``ShortTermMemory.admit``.

        A refusal spends neither. Cancelling may have spent both.

        Raises:
            RateLimited: one of them is spent.
        """
        try:
            lease = await self._share.take()
            admission = await self._short_term.admit(user, conversation)
        except ShortTermUnavailable as fault:
            if not self._degraded:
                log.warning("rate_limit.degraded", reason=str(fault))
            self._degraded = True
            return await self._in_memory.admit(user)
        if self._degraded:
            log.info("rate_limit.restored")
        self._degraded = False
        if not admission.allowed:
            self._share.give_back(lease)
            raise RateLimited("user", admission.user)
        return admission

    def global_allowance(self) -> Allowance:
        """What this process knows of the limit that all share, without asking."""
        return self._in_memory.shared if self._degraded else self._share.allowance()


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
            return Allowance(limit=self._limit, remaining=0, reset_ms=_ms(self._frees_at - now))
        used = sum(lease.units for lease in self._leases) - left
        reset_ms = _ms(self._leases[0].ends_at - now) if used else 0
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


class InMemoryLimits:
    """Both limits by the ``limits`` library, in this process's memory."""

    def __init__(self, policy: ShortTermPolicy) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._admitting = anyio.Lock()
        self._per_user = RateLimitItemPerSecond(policy.user_limit, policy.limit_window_s)
        self._of_all = RateLimitItemPerSecond(policy.global_limit, policy.limit_window_s)
        self._shared = Allowance(
            limit=policy.global_limit, remaining=policy.global_limit, reset_ms=0
        )

    @property
    def shared(self) -> Allowance:
        """What was left of the global limit after the last message."""
        return self._shared

    async def admit(self, user: UserId) -> Admission:
        """Spend one unit of each limit.

        Raises:
            RateLimited: one of them is spent; then nothing was spent of either.
        """
        own = ("user", user_key(user))
        async with self._admitting:  # what was tested must still hold when it is spent
            if not await self._limiter.test(self._per_user, *own):
                raise RateLimited("user", await self._allowance(self._per_user, *own))
            allowed = await self._limiter.hit(self._of_all, "global")
            self._shared = await self._allowance(self._of_all, "global")
            if not allowed:
                raise RateLimited("global", self._shared)
            await self._limiter.hit(self._per_user, *own)
            allowance = await self._allowance(self._per_user, *own)
        return Admission(allowed=True, user=allowance, active=False, window=None, version=None)

    async def _allowance(self, item: RateLimitItem, *key: str) -> Allowance:
        stats = await self._limiter.get_window_stats(item, *key)
        spent = stats.remaining < item.amount
        return Allowance(
            limit=item.amount,
            remaining=max(0, stats.remaining),
            # The library's clock and ours are the same: time.time.
            reset_ms=_ms(stats.reset_time - time.time()) if spent else 0,
        )


def _ms(seconds: float) -> int:
    return max(0, math.ceil(seconds * 1_000))
