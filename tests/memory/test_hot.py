from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from memory.errors import StoreUnavailable
from memory.hot import LOADS_AT_ONCE, HotMemories
from memory.hot_entries import IDLE_S
from memory.messages import UserId
from tests.memory.hot_world import (
    ADA,
    BEN,
    NOTHING,
    VECTOR,
    Clock,
    Store,
    held,
    ids,
    opened,
    said,
    until_reading,
)


async def read_away(memories: HotMemories, user: UserId = ADA) -> None:
    await memories.get(user, None)


async def test_all_pages_of_a_user_are_read_and_found() -> None:
    store = Store()
    store.fill(230)
    store.fill(7, BEN)
    async with opened(store) as memories:
        assert set(await held(memories)) == ids(range(230))
        assert set(await held(memories, BEN)) == ids(range(7), BEN)
        assert (await memories.get(ADA, None)).complete


async def test_only_the_newest_are_kept_when_there_are_more() -> None:
    store = Store()
    store.fill(230)
    async with opened(store, hot_messages=120) as memories:
        assert set(await held(memories)) == ids(range(110, 230))
        assert not (await memories.get(ADA, None)).complete


async def test_exactly_as_many_as_there_is_room_for_are_complete() -> None:
    store = Store()
    store.fill(100)
    async with opened(store, hot_messages=100) as memories:
        assert (await memories.get(ADA, None)).complete


async def test_a_user_without_messages_has_a_complete_empty_memory() -> None:
    async with opened(Store()) as memories:
        memory = await memories.get(ADA, None)
        assert memory.complete
        assert len(memory) == 0


async def test_equal_loads_in_flight_are_done_once() -> None:
    store = Store()
    store.fill(20)
    async with opened(store) as memories, anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(read_away, memories)
    assert store.reads == 1


async def test_at_most_two_loads_run_at_once() -> None:
    store = Store()
    store.gate = anyio.Event()
    users = [UserId(f"user{number}") for number in range(6)]
    async with opened(store) as memories, anyio.create_task_group() as tasks:
        for user in users:
            tasks.start_soon(read_away, memories, user)
        await until_reading(store, LOADS_AT_ONCE)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
    assert store.most_reading == LOADS_AT_ONCE
    assert store.reads == len(users)


async def test_a_failed_load_leaves_nothing_and_the_next_call_tries_again() -> None:
    store = Store()
    store.fill(5)
    store.failing = True
    async with opened(store) as memories:
        with pytest.raises(StoreUnavailable):
            await memories.get(ADA, None)
        assert memories.figures().users == 0
        assert memories.figures().failures == 1
        assert memories.figures().size_bytes == 0
        store.failing = False
        assert set(await held(memories)) == ids(range(5))


async def test_all_who_wait_for_a_load_that_fails_hear_of_it() -> None:
    store = Store()
    store.failing = True
    failures: list[StoreUnavailable] = []

    async def ask(memories: HotMemories) -> None:
        try:
            await memories.get(ADA, None)
        except StoreUnavailable as fault:
            failures.append(fault)

    async with opened(store) as memories, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask, memories)
    assert len(failures) == 3
    assert store.reads == 1


async def test_a_committed_message_is_found_at_once() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        memories.add(said(3), VECTOR, 4)
        assert set(await held(memories, version=4)) == ids(range(4))
        assert store.reads == 1


@pytest.mark.parametrize("page_has_it", [False, True])
async def test_a_message_committed_during_a_load_is_there_once(*, page_has_it: bool) -> None:
    store = Store()
    store.fill(3)
    if page_has_it:
        store.messages.append(said(3))
    store.gate = anyio.Event()
    async with opened(store) as memories, anyio.create_task_group() as tasks:
        tasks.start_soon(read_away, memories)
        await until_reading(store, 1)
        memories.add(said(3), VECTOR, None)
        store.gate.set()
        found = await held(memories)
        assert sorted(found) == sorted(ids(range(4)))


async def test_a_recall_that_cannot_wait_gets_what_there_is_as_partial() -> None:
    store = Store()
    store.fill(3)
    store.gate = anyio.Event()
    async with opened(store) as memories:
        assert len(await memories.get(ADA, None, wait_s=0)) == 0
        memories.add(said(3), VECTOR, None)
        memory = await memories.get(ADA, None, wait_s=0)
        recall = memory.search("tea", VECTOR, limit=5)
        assert [item.id for item in recall.items] == ["ada-3"]
        assert recall.partial
        store.gate.set()
        assert set(await held(memories)) == ids(range(4))
        assert store.reads == 1


async def test_cancelling_who_asked_leaves_the_load_running() -> None:
    store = Store()
    store.fill(3)
    store.gate = anyio.Event()
    async with opened(store) as memories:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_away, memories)
            await until_reading(store, 1)
            tasks.cancel_scope.cancel()
        store.gate.set()
        assert set(await held(memories)) == ids(range(3))
        assert store.reads == 1


async def test_the_least_recently_used_leaves_when_the_bytes_are_spent() -> None:
    store = Store()
    users = [UserId(f"user{number}") for number in range(8)]
    for user in users:
        store.fill(50, user)
    async with opened(store, hot_bytes=1_000_000) as memories:
        one = (await memories.get(users[0], None)).size_bytes
    async with opened(store, hot_bytes=int(one * 5.5)) as memories:
        for user in users:
            await memories.get(users[0], None)
            await memories.get(user, None)
            assert memories.figures().size_bytes <= one * 5.5
        assert memories.figures().users == 5
        assert memories.figures().evictions == 3
        reads = store.reads
        await memories.get(users[0], None)
        assert store.reads == reads
        assert set(await held(memories, users[1])) == ids(range(50), users[1])
        assert store.reads == reads + 1


async def test_one_user_cannot_take_the_whole_budget() -> None:
    store = Store()
    store.fill(400)
    async with opened(store, hot_bytes=200_000) as memories:
        memory = await memories.get(ADA, None)
        assert memory.size_bytes <= 100_000
        assert not memory.complete
        newest = {item.id for item in memory.search("tea", VECTOR, limit=999).items}
        assert newest == ids(range(400 - len(newest), 400))


async def test_idle_users_leave() -> None:
    store, clock = Store(), Clock()
    store.fill(3)
    store.fill(3, BEN)
    async with opened(store, clock=clock) as memories:
        await memories.get(ADA, None)
        clock.now += IDLE_S - 1
        await memories.get(BEN, None)
        assert memories.figures().users == 2
        clock.now += 2
        assert memories.figures().users == 1
        assert memories.figures().messages == 3


async def test_a_forgotten_user_is_gone_and_read_anew() -> None:
    store = Store()
    store.fill(3)
    store.fill(3, BEN)
    async with opened(store) as memories:
        await memories.get(ADA, None)
        await memories.get(BEN, None)
        store.messages = [message for message in store.messages if message.user != ADA]
        memories.forget(ADA)
        assert memories.figures().users == 1
        assert await held(memories) == []
        assert set(await held(memories, BEN)) == ids(range(3), BEN)


async def test_forgetting_during_a_load_keeps_nothing_of_it() -> None:
    store = Store()
    store.fill(3)
    store.gate = anyio.Event()
    found: list[str] = []

    async def ask(memories: HotMemories) -> None:
        found.extend(await held(memories))

    async with opened(store) as memories:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, memories)
            await until_reading(store, 1)
            memories.forget(ADA)
            store.messages.clear()
            store.gate.set()
        assert found == []
        assert store.cut_off == 1
        memories.forget(ADA)
        assert memories.figures().size_bytes == 0


async def test_a_load_that_runs_at_the_end_is_cancelled() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with opened(store) as memories:
        await memories.get(ADA, None, wait_s=0)
        await until_reading(store, 1)
    assert store.reading == 0


async def test_a_vector_that_comes_later_is_found_in_every_copy() -> None:
    store = Store()
    store.fill(2)
    store.vector = NOTHING
    async with opened(store) as memories:
        memory = await memories.get(ADA, None)
        assert memory.unembedded == 2
        memories.fill(said(0), VECTOR)
        memories.fill(said(0, BEN), VECTOR)
        assert memory.unembedded == 1


async def test_a_vector_that_comes_while_its_message_is_being_read_is_not_lost() -> None:
    store = Store()
    store.fill(2)
    store.vector = NOTHING
    store.gate = anyio.Event()
    async with opened(store) as memories, anyio.create_task_group() as tasks:
        tasks.start_soon(read_away, memories)
        await until_reading(store, 1)
        memories.fill(said(1), VECTOR)
        store.gate.set()
        memory = await memories.get(ADA, None)
        assert (len(memory), memory.unembedded) == (2, 1)


async def test_all_that_is_forgotten_is_read_anew() -> None:
    store = Store()
    store.fill(2)
    store.fill(2, BEN)
    async with opened(store) as memories:
        await held(memories)
        await held(memories, BEN)
        store.fill(1, UserId("cid"))
        memories.forget_all()
        assert (memories.figures().users, memories.figures().size_bytes) == (0, 0)
        assert set(await held(memories)) == ids(range(2))
        assert set(await held(memories, BEN)) == ids(range(2), BEN)
        assert store.reads == 4
