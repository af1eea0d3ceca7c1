from __future__ import annotations

import anyio

from tests.memory.hot_world import ADA, VECTOR, Store, held, ids, opened, said, until_reading


async def test_a_version_jump_makes_it_read_again_at_the_next_use() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        store.messages += [said(3), said(4)]
        memories.add(said(4), VECTOR, 5)
        assert set(await held(memories)) == ids(range(5))
        assert memories.figures().loads == 2
        assert set(await held(memories, version=5)) == ids(range(5))
        assert memories.figures().loads == 2


async def test_a_newer_version_at_use_makes_it_read_again() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        store.messages.append(said(3))
        assert set(await held(memories, version=4)) == ids(range(4))


async def test_own_commits_noted_in_the_wrong_order_are_no_jump() -> None:
    store = Store()
    async with opened(store) as memories:
        await memories.get(ADA, 0)
        memories.add(said(1), VECTOR, 2)
        memories.add(said(0), VECTOR, 1)
        assert set(await held(memories, version=2)) == ids(range(2))
        assert memories.figures().loads == 1


async def test_an_unknown_version_keeps_it() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        memories.add(said(3), VECTOR, None)
        assert set(await held(memories, version=None)) == ids(range(4))
        assert memories.figures().loads == 1


async def test_a_version_that_counts_anew_makes_it_read_again() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        store.messages += [said(3), said(4)]
        memories.add(said(4), VECTOR, 1)
        assert set(await held(memories)) == ids(range(5))


async def test_an_outdated_memory_serves_while_it_is_read_again() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        store.messages.append(said(3))
        store.gate = anyio.Event()
        memory = await memories.get(ADA, 4, wait_s=0)
        recall = memory.search("tea", VECTOR, limit=9)
        assert {item.id for item in recall.items} == ids(range(3))
        assert recall.partial
        store.gate.set()
        assert set(await held(memories, version=4)) == ids(range(4))


async def test_an_outdated_memory_serves_when_it_cannot_be_read_again() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        store.messages.append(said(3))
        store.failing = True
        recall = (await memories.get(ADA, 4)).search("tea", VECTOR, limit=9)
        assert {item.id for item in recall.items} == ids(range(3))
        assert recall.partial
        store.failing = False
        assert set(await held(memories, version=4)) == ids(range(4))


async def test_a_message_committed_while_it_is_read_again_is_in_the_old_and_the_new() -> None:
    store = Store()
    store.fill(3)
    async with opened(store) as memories:
        await memories.get(ADA, 3)
        store.messages.append(said(3))
        store.gate = anyio.Event()
        await memories.get(ADA, 4, wait_s=0)
        await until_reading(store, 1)
        memories.add(said(4), VECTOR, 5)
        outdated = await memories.get(ADA, 5, wait_s=0)
        items = outdated.search("tea", VECTOR, limit=9).items
        assert {item.id for item in items} == {*ids(range(3)), "ada-4"}
        store.gate.set()
        assert set(await held(memories, version=5)) == ids(range(5))
        assert memories.figures().loads == 2
