from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from memory.errors import StoreUnavailable
from memory.hot_reading import PAGE_MESSAGES
from memory.long_term import StoredPage
from memory.messages import OFFLINE_MODEL, UserId
from tests.memory.hot_world import ADA, BEN, VECTOR, Clock, Store, held, ids, opened, said
from tests.memory.warm_world import files, process


async def kept(store: Store, folder: Path, *, version: int | None = 100) -> None:
    async with process(store, folder) as memories:
        await memories.get(ADA, version)


async def test_a_later_process_reads_only_what_is_new(tmp_path: Path) -> None:
    store = Store()
    store.fill(200)
    await kept(store, tmp_path)
    store.messages += [said(200), said(201)]
    store.reads = 0
    async with process(store, tmp_path) as memories:
        assert set(await held(memories, version=102)) == ids(range(202))
        assert (await memories.get(ADA, 102)).complete
        assert memories.figures().warm_loads == 1
    assert store.reads == 1


async def test_a_copy_is_used_without_a_count_of_commits_where_nobody_else_writes(
    tmp_path: Path,
) -> None:
    store = Store()
    store.fill(200)
    for version in (None, 5, 2**50):
        await kept(store, tmp_path)
        store.messages.append(said(len(store.messages)))
        async with process(store, tmp_path) as memories:
            assert set(await held(memories, version=version)) == ids(range(len(store.messages)))
            assert memories.figures().warm_loads == 1


async def test_where_others_write_a_copy_needs_a_count_that_explains_what_is_new(
    tmp_path: Path,
) -> None:
    store = Store()
    store.fill(200)
    for version, used in ((100, 1), (None, 0), (99, 0), (101, 0)):
        await kept(store, tmp_path)
        async with process(store, tmp_path, exclusive=False) as memories:
            assert set(await held(memories, version=version)) == ids(range(200))
            assert memories.figures().warm_loads == used, version


async def test_a_commit_that_brought_no_message_makes_all_be_read_again(tmp_path: Path) -> None:
    store = Store()
    store.fill(200)
    await kept(store, tmp_path)
    del store.messages[40]
    async with process(store, tmp_path) as memories:
        assert set(await held(memories, version=101)) == ids(range(200)) - ids(range(40, 41))
        assert memories.figures().warm_loads == 0


async def test_replies_that_may_not_be_recalled_count_as_commits(tmp_path: Path) -> None:
    store = Store()
    store.fill(200)
    await kept(store, tmp_path)
    store.messages.append(msgspec.structs.replace(said(200), model=OFFLINE_MODEL))
    store.messages.append(said(201))
    async with process(store, tmp_path) as memories:
        assert set(await held(memories, version=102)) == ids(range(202)) - ids(range(200, 201))
        assert memories.figures().warm_loads == 1


async def test_another_store_under_a_copy_is_noticed(tmp_path: Path) -> None:
    store = Store()
    store.fill(200)
    await kept(store, tmp_path)
    store.messages = [said(number) for number in range(500, 510)]
    async with process(store, tmp_path) as memories:
        assert set(await held(memories)) == ids(range(500, 510))
        assert memories.figures().warm_loads == 0


async def test_what_another_process_committed_is_read_and_nothing_else(tmp_path: Path) -> None:
    store = Store()
    store.fill(400)
    async with process(store, tmp_path) as memories:
        first = await memories.get(ADA, 400)
        store.reads = 0
        store.messages += [said(number) for number in range(400, 425)]
        assert set(await held(memories, version=425)) == ids(range(425))
        assert store.reads == 2
        assert await memories.get(ADA, 425) is first
        assert first.complete


async def test_what_is_evicted_is_kept_and_loaded_again(tmp_path: Path) -> None:
    store, clock = Store(), Clock()
    store.fill(200)
    async with process(store, tmp_path, clock=clock) as memories:
        await memories.get(ADA, 1)
        memories.add(said(200), VECTOR, 2)
        store.messages.append(said(200))
        clock.now += 10_000
        await memories.get(BEN, None)
        assert memories.figures().messages == 0
        assert set(await held(memories, version=2)) == ids(range(201))


@pytest.mark.parametrize("running", [False, True])
async def test_nothing_is_kept_of_who_is_forgotten(tmp_path: Path, *, running: bool) -> None:
    store = Store()
    store.fill(200)
    await kept(store, tmp_path)
    async with process(store, tmp_path) as memories:
        if running:
            await memories.get(ADA, 100)
        (warm,) = memories.keepsakes
        store.messages.clear()
        memories.forget(ADA)
        await warm.forget_messages([])
        assert files(tmp_path) == []
        assert await held(memories) == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("silent", [0, 30])
async def test_no_page_is_read_ahead_that_is_not_wanted(*, silent: int) -> None:
    store = Store()
    store.fill(4 * PAGE_MESSAGES)
    for number in range(len(store.messages) - silent, len(store.messages)):
        store.messages[number] = msgspec.structs.replace(said(number), model=OFFLINE_MODEL)
    async with opened(store, hot_messages=2 * PAGE_MESSAGES) as memories:
        memory = await memories.get(ADA, None)
        assert len(memory) == 2 * PAGE_MESSAGES
        assert (store.reads, store.cut_off) == (2 + bool(silent), 0)


async def test_a_store_that_fails_at_a_later_page_is_told_as_itself() -> None:
    store = Store()
    store.fill(4 * PAGE_MESSAGES)
    read = store.newest

    async def newest(user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        store.failing = store.reads >= 2
        return await read(user, limit=limit, before=before)

    store.newest = newest  # type: ignore[method-assign]  # it fails from the third page on
    async with opened(store) as memories:
        with pytest.raises(StoreUnavailable):
            await memories.get(ADA, None)
    assert store.reads == 3
