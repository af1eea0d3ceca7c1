from __future__ import annotations

import pytest

from memory.in_process_short_term import InProcessShortTermMemory
from memory.messages import ConversationId, UserId
from memory.short_term import ShortTermMemory, ShortTermPolicy
from tests.contracts.short_term import ShortTermContract
from tests.contracts.short_term_world import World


class InProcessWorld:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def open(self, policy: ShortTermPolicy) -> ShortTermMemory:
        return InProcessShortTermMemory(policy, clock=lambda: self.now)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds

    async def clear(self) -> None:
        """Each memory is a new one."""


@pytest.fixture
def world() -> World:
    return InProcessWorld()


class TestContract(ShortTermContract):
    pass


async def test_the_limit_frees_itself_at_the_millisecond_it_says() -> None:
    world = InProcessWorld()
    memory = world.open(ShortTermPolicy(user_limit=1, limit_window_s=60))
    user, conversation = UserId("u"), ConversationId("c")
    assert (await memory.admit(user, conversation)).user.reset_ms == 60_000
    world.now += 59.999
    refused = await memory.admit(user, conversation)
    assert (refused.allowed, refused.user.reset_ms) == (False, 1)
    world.now += 0.001
    assert (await memory.admit(user, conversation)).allowed


async def test_usage_does_not_count_what_has_expired() -> None:
    world = InProcessWorld()
    memory = world.open(ShortTermPolicy())
    await memory.admit(UserId("u"), None)
    assert (await memory.usage()).total_keys == 2
    world.now += 10 * 86_400
    assert (await memory.usage()).total_keys == 0
