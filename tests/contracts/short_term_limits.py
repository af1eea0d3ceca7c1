"""What every short-term memory must do about limits and activity."""

from __future__ import annotations

import anyio
import pytest

from memory.messages import ConversationId
from memory.short_term import ShortTermPolicy
from tests.contracts.short_term_world import ANN, BOB, DAY_S, HOUR_S, SLACK_MS, TEA, World, line


class LimitContract:
    """Subclasses provide the fixture ``world``."""

    # The limit of a user

    async def test_the_limit_admits_exactly_so_many(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(user_limit=3))
        admissions = [await memory.admit(ANN, TEA) for _ in range(5)]
        assert [a.allowed for a in admissions] == [True, True, True, False, False]
        assert [a.user.remaining for a in admissions] == [2, 1, 0, 0, 0]
        assert {a.user.limit for a in admissions} == {3}
        assert (await memory.admit(BOB, TEA)).allowed

    async def test_at_the_same_time_no_more_are_admitted_either(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(user_limit=7))
        allowed = []

        async def admit() -> None:
            allowed.append((await memory.admit(ANN, TEA)).allowed)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(admit)
        assert sum(allowed) == 7

    async def test_a_refusal_says_when_the_next_is_admitted(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(user_limit=2, limit_window_s=60))
        await memory.admit(ANN, TEA)
        await world.pass_time(20)
        await memory.admit(ANN, TEA)
        refused = await memory.admit(ANN, TEA)
        assert not refused.allowed
        assert 40_000 - SLACK_MS < refused.user.reset_ms <= 40_000
        await world.pass_time((refused.user.reset_ms - SLACK_MS) / 1_000)
        assert not (await memory.admit(ANN, TEA)).allowed
        await world.pass_time(SLACK_MS / 1_000)
        assert (await memory.admit(ANN, TEA)).allowed
        assert not (await memory.admit(ANN, TEA)).allowed, "the window moves, it does not restart"

    async def test_a_refusal_spends_nothing(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(user_limit=1, limit_window_s=60))
        await memory.admit(ANN, TEA)
        for _ in range(3):
            await world.pass_time(15)
            assert not (await memory.admit(ANN, TEA)).allowed
        await world.pass_time(15)
        assert (await memory.admit(ANN, TEA)).allowed

    async def test_a_refusal_counts_as_no_activity(self, world: World) -> None:
        memory = world.open(
            ShortTermPolicy(user_limit=1, limit_window_s=2 * HOUR_S, active_within_s=HOUR_S)
        )
        await memory.admit(ANN, TEA)
        await world.pass_time(HOUR_S / 2)
        refused = await memory.admit(ANN, TEA)
        assert (refused.allowed, refused.active) == (False, True)
        await world.pass_time(HOUR_S / 2)
        assert not (await memory.admit(ANN, TEA)).active

    # Activity

    @pytest.mark.parametrize("within_s", [DAY_S, HOUR_S])
    async def test_a_user_is_active_after_an_earlier_message(
        self, world: World, within_s: int
    ) -> None:
        memory = world.open(ShortTermPolicy(active_within_s=within_s))
        assert not (await memory.admit(ANN, TEA)).active, "the first message ever"
        assert (await memory.admit(ANN, None)).active
        await world.pass_time(within_s - SLACK_MS / 1_000)
        assert (await memory.admit(ANN, TEA)).active
        await world.pass_time(within_s)
        assert not (await memory.admit(ANN, TEA)).active
        assert not (await memory.admit(BOB, TEA)).active

    @pytest.mark.parametrize(("within_s", "active"), [(DAY_S, True), (HOUR_S, False)])
    async def test_who_returns_after_two_hours_is_active_by_the_policy(
        self, world: World, within_s: int, *, active: bool
    ) -> None:
        memory = world.open(ShortTermPolicy(active_within_s=within_s))
        await memory.admit(ANN, TEA)
        await world.pass_time(2 * HOUR_S)
        assert (await memory.admit(ANN, TEA)).active is active

    async def test_usage_counts_active_users(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(active_within_s=HOUR_S))
        await memory.admit(ANN, TEA)
        await world.pass_time(1.5 * HOUR_S)
        await memory.admit(BOB, TEA)
        odd = line(1, user=BOB, conversation=ConversationId("x}:last_active"))
        await memory.append(odd[0], active=True)
        usage = await memory.usage()
        assert usage.active_users == 1
        assert usage.total_keys >= 4

    # The limit of all

    async def test_leases_never_exceed_the_limit(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(global_limit=10, limit_window_s=60))
        granted = [(await memory.lease_global(units))[0] for units in (4, 4, 4, 4)]
        assert granted == [4, 4, 2, 0]

    async def test_leases_at_the_same_time_do_not_exceed_it_either(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(global_limit=100))
        granted = []

        async def lease() -> None:
            granted.append((await memory.lease_global(7))[0])

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(lease)
        assert sum(granted) == 100

    async def test_leases_free_themselves_after_a_window(self, world: World) -> None:
        memory = world.open(ShortTermPolicy(global_limit=10, limit_window_s=60))
        await memory.lease_global(6)
        await world.pass_time(30)
        await memory.lease_global(4)
        granted, free_ms = await memory.lease_global(1)
        assert granted == 0
        assert 30_000 - SLACK_MS < free_ms <= 30_000
        await world.pass_time(free_ms / 1_000)
        assert (await memory.lease_global(10))[0] == 6, "the other lease is still running"
        await world.pass_time(60)
        assert (await memory.lease_global(99))[0] == 10

    async def test_a_ping_is_answered(self, world: World) -> None:
        await world.open(ShortTermPolicy()).ping()
