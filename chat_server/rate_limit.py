"""Who may send now: a limit for each user, and one that all share."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import anyio
import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from msgspec import structs

from chat_server.global_share import GlobalShare
from chat_server.rate_limited import RateLimited, whole_ms
from memory.errors import ShortTermUnavailable
from memory.messages import ConversationId, UserId, user_key
from memory.short_term import Admission, Allowance, ShortTermMemory, ShortTermPolicy

__all__ = ["RateLimited", "RateLimiter"]

log = structlog.get_logger(__name__)

SEEN_USERS: Final = 10_000


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
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*workers*: so many processes share the limits; alone, each has its part of them."""
        self._short_term = short_term
        self._share = GlobalShare(short_term, policy, clock)
        self._in_memory = InMemoryLimits(_part_of(policy, workers))
        self._seen = SeenAllowances(policy, clock)
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
            admission = await self._in_memory.admit(user)
            self._seen.note(user, admission.user)
            return admission
        if self._degraded:
            log.info("rate_limit.restored")
        self._degraded = False
        self._seen.note(user, admission.user)
        if not admission.allowed:
            self._share.give_back(lease)
            raise RateLimited("user", admission.user)
        return admission

    def global_allowance(self) -> Allowance:
        """What this process knows of the limit that all share; asks nobody."""
        return self._in_memory.shared if self._degraded else self._share.allowance()

    def user_allowance(self, user: UserId) -> Allowance:
        """What this process last saw of *user*'s limit, less what is free since; asks nobody.

        Unspent if it saw nothing, as for a user who wrote to another process; an ``Admission``
        has the truth.
        """
        return self._seen.now(user)


def _part_of(policy: ShortTermPolicy, workers: int) -> ShortTermPolicy:
    return structs.replace(
        policy,
        user_limit=max(1, policy.user_limit // workers),
        global_limit=max(1, policy.global_limit // workers),
    )


class SeenAllowances:
    """What admissions said last, for the users who wrote last."""

    def __init__(self, policy: ShortTermPolicy, clock: Callable[[], float]) -> None:
        self._unspent = Allowance(limit=policy.user_limit, remaining=policy.user_limit, reset_ms=0)
        self._window_ms = policy.limit_window_s * 1_000
        self._clock = clock
        self._seen: OrderedDict[UserId, tuple[Allowance, float]] = OrderedDict()

    def note(self, user: UserId, allowance: Allowance) -> None:
        """Keep *allowance* as *user*'s; whoever did not write for longest is forgotten."""
        self._seen[user] = (allowance, self._clock())
        self._seen.move_to_end(user)
        if len(self._seen) > SEEN_USERS:
            self._seen.popitem(last=False)

    def now(self, user: UserId) -> Allowance:
        """What is left by now, at least: when the units after the first free is not known."""
        if user not in self._seen:
            return self._unspent
        allowance, seen_at = self._seen[user]
        passed_ms = int((self._clock() - seen_at) * 1_000)
        if passed_ms >= self._window_ms:
            return self._unspent
        if passed_ms < allowance.reset_ms:
            return Allowance(allowance.limit, allowance.remaining, allowance.reset_ms - passed_ms)
        remaining = min(allowance.limit, allowance.remaining + 1)
        return Allowance(allowance.limit, remaining, self._window_ms - passed_ms)


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
            reset_ms=whole_ms(stats.reset_time - time.time()) if spent else 0,
        )
