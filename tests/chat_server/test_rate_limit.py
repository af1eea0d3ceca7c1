from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from chat_server.rate_limit import RateLimited, RateLimiter
from memory.errors import ShortTermUnavailable
from memory.in_process_short_term import InProcessShortTermMemory
from memory.messages import ConversationId, Message, UserId
from memory.short_term import (
    Admission,
    AppendOutcome,
    ShortTermPolicy,
    ShortTermUsage,
)

ANN = UserId("ann")
BOB = UserId("bob")
TEA = ConversationId("tea")


class ObservedMemory:
    """Short-term memory that can be away, and that shows what was asked of it."""

    def __init__(self, policy: ShortTermPolicy) -> None:
        self.now = 1_700_000_000.0
        self.inner = InProcessShortTermMemory(policy, clock=lambda: self.now)
        self.away = False
        self.asked = 0
        self.leases: list[int] = []
        self.admitted: list[UserId] = []

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        await self.ping()
        self.admitted.append(user)
        return await self.inner.admit(user, conversation)

    async def lease_global(self, units: int) -> tuple[int, int]:
        self.asked += 1
        await self.ping()
        self.leases.append(units)
        return await self.inner.lease_global(units)

    async def append(self, message: Message, *, active: bool) -> AppendOutcome:
        return await self.inner.append(message, active=active)

    async def replace(
        self,
        user: UserId,
        conversation: ConversationId,
        messages: Sequence[Message],
        *,
        active: bool,
    ) -> None:
        await self.inner.replace(user, conversation, messages, active=active)

    async def drop(self, user: UserId, conversation: ConversationId) -> None:
        await self.inner.drop(user, conversation)

    async def forget_user(self, user: UserId) -> None:
        await self.inner.forget_user(user)

    async def ping(self) -> None:
        await anyio.lowlevel.checkpoint()  # others get their turn, as with a real server
        if self.away:
            raise ShortTermUnavailable("away")

    async def usage(self) -> ShortTermUsage:
        return await self.inner.usage()


def limiter_over(policy: ShortTermPolicy) -> tuple[RateLimiter, ObservedMemory]:
    memory = ObservedMemory(policy)
    return RateLimiter(memory, policy, clock=lambda: memory.now), memory


async def admitted(limiter: RateLimiter, user: UserId, times: int) -> int:
    """How many of so many messages at the same time are admitted."""
    count = 0

    async def send() -> None:
        nonlocal count
        try:
            await limiter.admit(user, TEA)
        except RateLimited:
            return
        count += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(times):
            tasks.start_soon(send)
    return count


async def test_a_user_s_limit_is_refused_with_the_time_it_frees() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=2, limit_window_s=60))
    assert (await limiter.admit(ANN, TEA)).user.remaining == 1
    memory.now += 10
    await limiter.admit(ANN, TEA)
    with pytest.raises(RateLimited, match="you have sent") as refused:
        await limiter.admit(ANN, TEA)
    assert refused.value.code == "rate_limited"
    assert refused.value.scope == "user"
    assert refused.value.retry_after_ms == refused.value.allowance.reset_ms == 50_000
    assert refused.value.allowance.remaining == 0
    assert "50 s" in refused.value.message
    assert (await limiter.admit(BOB, TEA)).allowed
    memory.now += 50
    assert (await limiter.admit(ANN, TEA)).allowed


async def test_the_global_limit_is_exact_for_one_process() -> None:
    limiter, memory = limiter_over(
        ShortTermPolicy(user_limit=1_000, global_limit=103, limit_window_s=60)
    )
    assert await admitted(limiter, ANN, 200) == 103
    with pytest.raises(RateLimited, match="the server has received") as refused:
        await limiter.admit(BOB, TEA)
    assert refused.value.scope == "global"
    assert refused.value.retry_after_ms == 60_000
    assert refused.value.allowance.limit == 103
    memory.now += 60
    assert await admitted(limiter, BOB, 200) == 103


async def test_a_global_refusal_spends_nothing_of_the_user_s() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=5, global_limit=1))
    await limiter.admit(BOB, TEA)
    assert await admitted(limiter, ANN, 10) == 0
    assert memory.admitted == [BOB]


async def test_a_user_s_refusal_spends_nothing_of_the_global_limit() -> None:
    limiter, _ = limiter_over(ShortTermPolicy(user_limit=1, global_limit=2))
    assert await admitted(limiter, ANN, 10) == 1
    assert limiter.global_allowance().remaining == 1
    assert (await limiter.admit(BOB, TEA)).allowed


async def test_a_used_up_lease_is_renewed_once_for_all_who_wait() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=1_000, global_limit=10_000))
    assert await admitted(limiter, ANN, 40) == 40
    assert memory.leases == [50]
    assert await admitted(limiter, ANN, 40) == 40
    assert memory.leases == [50, 50]


async def test_a_crowd_is_refused_without_asking_for_each() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=1_000, global_limit=3))
    assert await admitted(limiter, ANN, 500) == 3
    assert len(memory.leases) == 4
    memory.now += 1
    assert await admitted(limiter, ANN, 500) == 0
    assert len(memory.leases) == 5


async def test_the_unused_part_of_a_lease_ends_with_the_window() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(global_limit=10_000, limit_window_s=60))
    await limiter.admit(ANN, TEA)
    memory.now += 60
    assert limiter.global_allowance().remaining == 10_000
    await limiter.admit(ANN, TEA)
    assert memory.leases == [50, 50]
    assert limiter.global_allowance().remaining == 9_999


async def test_the_global_allowance_is_known_without_asking() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(global_limit=2, limit_window_s=60))
    assert limiter.global_allowance().remaining == 2
    await limiter.admit(ANN, TEA)
    memory.now += 20
    allowance = limiter.global_allowance()
    assert (allowance.limit, allowance.remaining, allowance.reset_ms) == (2, 1, 40_000)
    await limiter.admit(ANN, TEA)
    assert limiter.global_allowance().remaining == 0
    memory.now += 40
    assert limiter.global_allowance().remaining == 1


async def test_another_process_s_share_is_refused_here() -> None:
    policy = ShortTermPolicy(global_limit=10, limit_window_s=60)
    limiter, memory = limiter_over(policy)
    other = RateLimiter(memory, policy, clock=lambda: memory.now)
    assert await admitted(other, BOB, 10) == 10
    with pytest.raises(RateLimited):
        await limiter.admit(ANN, TEA)
    assert limiter.global_allowance().remaining == 0


async def test_while_memory_is_away_each_of_several_processes_has_its_part() -> None:
    policy = ShortTermPolicy(user_limit=5, global_limit=1)
    memory = ObservedMemory(policy)
    memory.away = True
    limiter = RateLimiter(memory, policy, workers=2, clock=lambda: memory.now)
    admission = await limiter.admit(ANN, TEA)
    assert (admission.user.limit, admission.user.remaining) == (2, 1)
    assert limiter.global_allowance().remaining == 0, "at least one for each"


async def test_while_memory_is_away_both_limits_hold_in_process() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=3, global_limit=5))
    memory.away = True
    admission = await limiter.admit(ANN, TEA)
    assert (admission.window, admission.version, admission.active) == (None, None, False)
    assert (admission.user.limit, admission.user.remaining) == (3, 2)
    assert 0 < admission.user.reset_ms <= 60_000
    assert limiter.degraded
    assert await admitted(limiter, ANN, 10) == 2
    with pytest.raises(RateLimited) as refused:
        await limiter.admit(ANN, TEA)
    assert refused.value.scope == "user"
    assert 0 < refused.value.allowance.reset_ms <= 60_000
    assert limiter.global_allowance().remaining == 2, "refusals of a user's limit spend nothing"
    assert await admitted(limiter, BOB, 10) == 2
    with pytest.raises(RateLimited) as refused:
        await limiter.admit(BOB, TEA)
    assert refused.value.scope == "global"
    assert limiter.global_allowance().remaining == 0


async def test_messages_at_the_same_time_wait_for_one_failure_only() -> None:
    limiter, memory = limiter_over(ShortTermPolicy())
    memory.away = True
    assert await admitted(limiter, ANN, 20) == 20
    assert memory.asked == 1


async def test_an_outage_is_logged_once_and_its_end_too() -> None:
    limiter, memory = limiter_over(ShortTermPolicy())
    with capture_logs() as logs:
        await limiter.admit(ANN, TEA)
        for _ in range(2):
            memory.away = True
            assert await admitted(limiter, ANN, 4) == 4
            assert limiter.degraded
            memory.away = False
            assert await admitted(limiter, ANN, 4) == 4
            assert not limiter.degraded
    events = [entry["event"] for entry in logs]
    assert events == ["rate_limit.degraded", "rate_limit.restored"] * 2
    assert not any("ann" in str(entry) for entry in logs)


async def test_a_cancelled_message_blocks_nobody() -> None:
    limiter, _ = limiter_over(ShortTermPolicy(global_limit=1))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await limiter.admit(ANN, TEA)
    assert await admitted(limiter, BOB, 1) == 1


async def test_what_was_last_seen_of_a_user_s_limit_is_known_without_asking() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=3, limit_window_s=60))

    async def left() -> tuple[int, int]:
        allowance = limiter.user_allowance(ANN)
        return allowance.remaining, allowance.reset_ms

    assert await left() == (3, 0)
    await limiter.admit(ANN, TEA)
    memory.now += 20
    await limiter.admit(ANN, TEA)
    assert await left() == (1, 40_000)
    memory.now += 30
    assert await left() == (1, 10_000)
    memory.now += 10
    assert await left() == (2, 20_000)
    memory.now += 20
    assert await left() == (3, 0)
    assert limiter.user_allowance(BOB).remaining == 3


async def test_a_refused_user_is_seen_with_nothing_left() -> None:
    limiter, memory = limiter_over(ShortTermPolicy(user_limit=1))
    assert await admitted(limiter, ANN, 2) == 1
    assert limiter.user_allowance(ANN).remaining == 0
    memory.away = True
    await limiter.admit(BOB, TEA)
    assert limiter.user_allowance(BOB).remaining == 0
