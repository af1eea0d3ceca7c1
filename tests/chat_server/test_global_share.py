from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.global_share import LARGEST_LEASE, REFUSAL_LIFE_S, GlobalShare, Lease
from chat_server.rate_limited import RateLimited
from memory.errors import ShortTermUnavailable
from memory.in_process_short_term import InProcessShortTermMemory
from memory.short_term import ShortTermPolicy

WINDOW_S = 60


class Leases(InProcessShortTermMemory):
    """Short-term memory with a clock to hand, that can be away, and counts what it is asked."""

    def __init__(self, policy: ShortTermPolicy) -> None:
        super().__init__(policy, clock=lambda: self.now)
        self.now = 1_000_000.0
        self.away = False
        self.asked = 0
        self.gate: anyio.Event | None = None

    async def lease_global(self, units: int) -> tuple[int, int]:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise ShortTermUnavailable("away")
        return await super().lease_global(units)


def shares(limit: int, processes: int = 1) -> tuple[Leases, list[GlobalShare]]:
    policy = ShortTermPolicy(global_limit=limit, limit_window_s=WINDOW_S)
    memory = Leases(policy)
    return memory, [GlobalShare(memory, policy, lambda: memory.now) for _ in range(processes)]


def lease_units(limit: int) -> int:
    return min(LARGEST_LEASE, limit // 20 + 1)


async def taken(share: GlobalShare) -> Lease | None:
    try:
        return await share.take()
    except RateLimited as refusal:
        assert refusal.scope == "global"
        return None


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 90),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 30), st.floats(0, WINDOW_S / 2)), max_size=25
    ),
)
async def test_processes_together_exceed_the_limit_by_less_than_a_lease_each(
    limit: int, steps: list[tuple[int, int, float]]
) -> None:
    memory, processes = shares(limit, 3)
    used_at: list[float] = []
    for process, messages, passes_s in steps:
        leases = [await taken(processes[process]) for _ in range(messages)]
        used_at += [memory.now for lease in leases if lease is not None]
        allowance = processes[process].allowance()
        assert 0 <= allowance.remaining <= allowance.limit == limit
        assert 0 <= allowance.reset_ms <= WINDOW_S * 1_000
        memory.now += passes_s
    most = limit + len(processes) * (lease_units(limit) - 1)
    for begin in used_at:
        assert sum(begin <= used < begin + WINDOW_S for used in used_at) <= most


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.integers(0, 300))
async def test_alone_a_process_has_the_limit_exactly(limit: int, messages: int) -> None:
    _, [share] = shares(limit)
    taken_by_now = [await taken(share) for _ in range(messages)]
    assert sum(lease is not None for lease in taken_by_now) == min(limit, messages)
    assert share.allowance().remaining == max(0, limit - messages)


async def test_a_unit_that_was_given_back_is_used_again_before_more_are_leased() -> None:
    memory, [share] = shares(1)
    lease = await share.take()
    share.give_back(lease)
    assert share.allowance().remaining == 1
    assert await share.take() is lease
    assert memory.asked == 1


async def test_what_is_left_of_a_lease_ends_when_it_would_end_at_the_server() -> None:
    memory, [share] = shares(1_000)
    first = await share.take()
    memory.now += WINDOW_S - 0.001
    assert await share.take() is first
    memory.now += 0.001
    assert await share.take() is not first
    assert memory.asked == 2


async def test_a_spent_limit_is_asked_for_once_in_a_while_only() -> None:
    memory, [share] = shares(1)
    await share.take()
    for _ in range(5):
        assert await taken(share) is None
    assert memory.asked == 2
    allowance = share.allowance()
    assert (allowance.remaining, allowance.reset_ms) == (0, WINDOW_S * 1_000)
    memory.now += REFUSAL_LIFE_S
    assert await taken(share) is None
    assert memory.asked == 3


async def test_a_limit_that_was_reset_is_noticed_soon() -> None:
    memory, [share, other] = shares(1, 2)
    await other.take()
    assert await taken(share) is None
    memory._leases.clear()
    memory.now += REFUSAL_LIFE_S
    assert await taken(share) is not None


async def test_a_lease_is_asked_for_once_for_all_who_wait() -> None:
    memory, [share] = shares(1_000)
    memory.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(taken, share)
        await anyio.wait_all_tasks_blocked()
        memory.gate.set()
    assert memory.asked == 1


async def test_those_who_wait_for_a_lease_that_fails_fail_together() -> None:
    memory, [share] = shares(1_000)
    memory.away, memory.gate = True, anyio.Event()
    failed: list[str] = []

    async def take() -> None:
        with pytest.raises(ShortTermUnavailable) as fault:
            await share.take()
        failed.append(str(fault.value))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        memory.gate.set()
    assert (len(failed), memory.asked) == (10, 1)
    memory.away = False
    assert await taken(share) is not None


async def test_cancelling_one_who_waits_leaves_the_lease_to_the_others() -> None:
    memory, [share] = shares(1)
    memory.gate = anyio.Event()
    got: list[Lease | None] = []

    async def take() -> None:
        got.append(await taken(share))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as leaving:
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(take)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(take)
                await anyio.wait_all_tasks_blocked()
                leaving.cancel()
        memory.gate.set()
    assert [lease is not None for lease in got] == [True]
