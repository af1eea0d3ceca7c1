from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel

from memory.hot import HotMemories
from memory.hot_copy import LARGE_MESSAGES
from tests.memory.hot_world import ADA, NOTHING, VECTOR, Store, held, ids, said
from tests.memory.warm_world import Marker, files, process, until_kept


async def until_whole(memories: HotMemories) -> None:
    while not (await memories.get(ADA, None)).complete:
        await anyio.sleep(0.005)


async def test_older_messages_are_read_after_the_newest_can_be_searched(tmp_path: Path) -> None:
    store = Store()
    store.fill(400)
    async with process(store, tmp_path, messages=100, deep_messages=10_000) as memories:
        first = await held(memories)
        assert set(first) >= ids(range(300, 400))
        await until_whole(memories)
        assert set(await held(memories)) == ids(range(400))


async def test_marks_are_made_for_what_has_none_and_kept(tmp_path: Path) -> None:
    store, marker = Store(), Marker()
    store.fill(100)
    async with process(store, tmp_path, marker=marker) as memories:
        memory = await memories.get(ADA, None)
        while memory.unmarked(1):
            await anyio.sleep(0.005)
        await until_kept(tmp_path)
    assert sorted(marker.texts) == sorted(message.text for message in store.messages)
    store.messages.append(said(100))
    again = Marker()
    async with process(store, tmp_path, marker=again) as memories:
        memory = await memories.get(ADA, None)
        while memory.unmarked(1):
            await anyio.sleep(0.005)
    assert again.texts == [said(100).text]


async def test_an_embedder_that_fails_is_left_alone(tmp_path: Path) -> None:
    store, marker = Store(), Marker()
    marker.working = False
    store.fill(100)
    async with process(store, tmp_path, marker=marker) as memories:
        memory = await memories.get(ADA, None)
        await until_kept(tmp_path)
        assert len(memory.unmarked(999)) == 100
        assert len(marker.texts) < 100


async def test_messages_without_vectors_are_not_kept(tmp_path: Path) -> None:
    store = Store()
    store.fill(100)
    store.vector = NOTHING
    async with process(store, tmp_path) as memories:
        await memories.get(ADA, None)
    assert files(tmp_path) == []


async def test_a_large_memory_is_searched_beside_what_is_said_meanwhile(tmp_path: Path) -> None:
    store = Store()
    store.fill(LARGE_MESSAGES)
    async with process(store, tmp_path, messages=10_000) as memories:
        memory = await memories.get(ADA, 1)

        async def ask() -> None:
            said_before = len(memory)
            found = await memories.search(
                ADA, memory, lambda it: it.search("tea", VECTOR, limit=10_000)
            )
            assert len(found.items) >= said_before

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask)
                await anyio.lowlevel.checkpoint()
                memories.add(said(LARGE_MESSAGES + number), VECTOR, 2 + number)
        assert len(memory) == LARGE_MESSAGES + 20
