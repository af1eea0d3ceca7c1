from __future__ import annotations

import anyio

from memory.errors import StoreUnavailable
from memory.long_term import StoredPage
from memory.messages import Message
from memory.read_ahead import ReadAhead
from tests.memory.hot_world import ADA, Store, said


async def test_the_next_page_is_read_while_the_last_one_is_used() -> None:
    store = Store()
    store.fill(30)
    async with anyio.create_task_group() as tasks:
        ahead = ReadAhead(lambda before: store.newest(ADA, limit=10, before=before), tasks)
        before: str | None = None
        found: list[Message] = []
        for reads in (2, 3, 3):
            with anyio.fail_after(10):
                page = await ahead.page(before)
            assert isinstance(page, StoredPage)
            found += page.messages
            before = page.before
            if before is not None:
                ahead.begin(before)
            await anyio.wait_all_tasks_blocked()
            assert store.reads == reads
    assert found == [said(number) for number in reversed(range(30))]


async def test_a_failure_is_told_and_the_page_can_be_read_again() -> None:
    store = Store()
    store.fill(3)
    store.failing = True
    async with anyio.create_task_group() as tasks:
        ahead = ReadAhead(lambda before: store.newest(ADA, limit=10, before=before), tasks)
        assert isinstance(await ahead.page(None), StoreUnavailable)
        store.failing = False
        assert not isinstance(await ahead.page(None), StoreUnavailable)


async def test_cancelling_the_tasks_ends_what_is_being_read() -> None:
    store = Store()
    store.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        ReadAhead(lambda before: store.newest(ADA, limit=10, before=before), tasks).begin(None)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert store.cut_off == 1
