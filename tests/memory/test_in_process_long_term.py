from __future__ import annotations

import anyio
import pytest

from memory.errors import StoreUnavailable, StoreUnknown
from memory.in_process_long_term import InProcessLongTermMemory
from memory.long_term import LongTermMemory
from tests.contracts.long_term import LongTermContract
from tests.contracts.long_term_world import DIMENSION, TEA, said, somebody, store, vector_of


@pytest.fixture
def memory() -> LongTermMemory:
    return InProcessLongTermMemory(dimension=DIMENSION)


class TestContract(LongTermContract):
    pass


async def test_it_fails_when_it_is_told_to_and_only_once() -> None:
    memory, message = InProcessLongTermMemory(dimension=DIMENSION), said(somebody())
    memory.fail_next_append(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await memory.append(message, vector_of(message))
    assert not memory.healthy
    assert await memory.by_ids(message.user, [message.id]) == []
    await store(memory, [message])
    assert memory.healthy


async def test_what_failed_unknown_is_stored() -> None:
    memory, message = InProcessLongTermMemory(dimension=DIMENSION), said(somebody())
    memory.fail_next_append(StoreUnknown("no answer"))
    with pytest.raises(StoreUnknown):
        await memory.append(message, vector_of(message))
    assert (await memory.append(message, vector_of(message))).duplicate


async def test_a_gate_holds_appends_up() -> None:
    memory, message = InProcessLongTermMemory(dimension=DIMENSION), said(somebody())
    memory.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store, memory, [message])
        await anyio.wait_all_tasks_blocked()
        assert await memory.by_ids(message.user, [message.id]) == []
        memory.gate.set()
    assert await memory.by_ids(message.user, [message.id]) == [message]


async def test_what_is_away_raises_and_what_is_lost_is_empty() -> None:
    memory, message = InProcessLongTermMemory(dimension=DIMENSION), said(somebody())
    await store(memory, [message])
    memory.away = True
    with pytest.raises(StoreUnavailable):
        await memory.latest(message.user, TEA, limit=1)
    memory.away = False
    assert await memory.latest(message.user, TEA, limit=1) == [message]
    memory.lose()
    assert await memory.latest(message.user, TEA, limit=1) == []
