from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import numpy as np
import pytest

from memory.errors import UserBeingErased
from memory.hidden_users import GuardedLongTermMemory
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import ConversationId, UserId, tombstone
from tests.contracts.long_term import LongTermContract
from tests.contracts.long_term_world import (
    DIMENSION,
    TEA,
    chat,
    line,
    said,
    somebody,
    store,
    vector_of,
    vectors_of,
)


class TestContract(LongTermContract):
    """Where nothing is hidden, the guard is as what it guards."""

    @pytest.fixture(scope="class")
    async def memory(self) -> AsyncIterator[GuardedLongTermMemory]:
        yield GuardedLongTermMemory(InProcessLongTermMemory(dimension=DIMENSION))

    @pytest.fixture
    def user(self) -> UserId:
        return somebody()


@pytest.fixture
def guard() -> GuardedLongTermMemory:
    return GuardedLongTermMemory(InProcessLongTermMemory(dimension=DIMENSION))


async def test_nothing_of_a_hidden_user_is_found_and_all_of_others(
    guard: GuardedLongTermMemory,
) -> None:
    user, other = somebody(), somebody("ben")
    for each in (user, other):
        await store(guard, line(each, 3))
        await guard.save_conversation(chat(each, "tea"))
    mine = await guard.latest(user, TEA, limit=10)
    guard.hide_user(user)
    assert guard.is_hidden(user)
    assert await guard.by_ids(user, [mine[0].id]) == []
    assert await guard.latest(user, TEA, limit=10) == []
    assert (await guard.tree(user, TEA)).messages == ()
    page = await guard.newest(user, limit=10)
    assert (page.messages, page.vectors.shape, page.before) == ((), (0, DIMENSION), None)
    assert (await guard.conversations(user, limit=10)).conversations == ()
    assert await guard.conversation(user, ConversationId("tea")) is None
    assert len(await guard.latest(other, TEA, limit=10)) == 3
    assert len((await guard.newest(other, limit=10)).messages) == 3


async def test_every_write_of_a_hidden_user_is_refused(guard: GuardedLongTermMemory) -> None:
    user = somebody()
    message = said(user)
    guard.hide_user(user)
    with pytest.raises(UserBeingErased):
        await guard.append(message, vector_of(message))
    with pytest.raises(UserBeingErased):
        await guard.append_many([message], vectors_of([message]))
    with pytest.raises(UserBeingErased):
        await guard.save_conversation(chat(user, "tea"))
    guard.show_user(user)
    await store(guard, [message])
    assert await guard.latest(user, TEA, limit=10) == [message]


async def test_who_was_hidden_twice_is_shown_after_the_second_time(
    guard: GuardedLongTermMemory,
) -> None:
    user = somebody()
    guard.hide_user(user)
    guard.hide_user(user)
    guard.show_user(user)
    assert guard.is_hidden(user)
    guard.show_user(user)
    assert not guard.is_hidden(user)


async def test_what_is_being_read_while_a_user_is_hidden_is_hidden_too() -> None:
    class Slow(InProcessLongTermMemory):
        gate_of_reads = anyio.Event()

        async def _answer(self) -> None:
            await self.gate_of_reads.wait()

    inner = Slow(dimension=DIMENSION)
    guard = GuardedLongTermMemory(inner)
    user = somebody()
    message = said(user)
    inner._messages[message.id] = message
    inner._vectors[message.id] = np.zeros(DIMENSION, dtype=np.float32)
    found: list[int] = []

    async def read() -> None:
        found.append(len(await guard.by_ids(user, [message.id])))

    async def read_newest() -> None:
        found.append(len((await guard.newest(user, limit=5)).messages))

    async def read_tree() -> None:
        found.append(len((await guard.tree(user, TEA)).messages))

    async with anyio.create_task_group() as tasks:
        for reading in (read, read_newest, read_tree):
            tasks.start_soon(reading)
        await anyio.wait_all_tasks_blocked()
        guard.hide_user(user)
        inner.gate_of_reads.set()
    assert found == [0, 0, 0]


async def test_a_hidden_message_is_shown_as_its_tombstone(guard: GuardedLongTermMemory) -> None:
    user = somebody()
    first, second = line(user, 2)
    await store(guard, [first, second])
    guard.hide_messages([first.id])
    assert await guard.latest(user, TEA, limit=10) == [tombstone(first), second]
    assert await guard.by_ids(user, [first.id]) == [tombstone(first)]
    assert (await guard.tree(user, TEA)).messages == (tombstone(first), second)
    assert tombstone(first) in (await guard.newest(user, limit=10)).messages
    guard.show_messages([first.id])
    assert await guard.by_ids(user, [first.id]) == [first]
