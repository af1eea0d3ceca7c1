"""Items that wait for company: only in a crowd, never long, and never alone for nothing."""

from __future__ import annotations

import anyio
import pytest

from memory import group_commit
from memory.group_commit import GroupCommit
from tests.memory.test_group_commit import Commit, Store, running


async def submit(commit: Commit, number: int, patience_s: float) -> None:
    assert await commit.submit("a", number, patience_s=patience_s) == 10 * number


async def test_with_nobody_about_a_patient_item_is_written_at_once() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    with anyio.fail_after(30):
        async with running(commit):
            await submit(commit, 1, 3_600)
    assert store.batches == [("a", [1])]


async def test_in_a_crowd_a_patient_item_shares_the_next_batch() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    with anyio.fail_after(30):
        async with running(commit) as tasks:
            await submit(commit, 1, 0)
            tasks.start_soon(submit, commit, 2, 3_600)
            await anyio.wait_all_tasks_blocked()
            assert commit.waiting == 1
            await submit(commit, 3, 0)
    assert store.batches == [("a", [1]), ("a", [3, 2])]


async def test_a_patient_item_does_not_overtake_another_when_the_crowd_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    with anyio.fail_after(30):
        async with running(commit) as tasks:
            await submit(commit, 1, 0)
            tasks.start_soon(submit, commit, 2, 3_600)
            await anyio.wait_all_tasks_blocked()
            monkeypatch.setattr(group_commit, "CROWD_WITHIN_S", 0.0)
            tasks.start_soon(submit, commit, 3, 3_600)
            await anyio.wait_all_tasks_blocked()
            assert store.written == [1]
            await submit(commit, 4, 0)
    assert store.batches == [("a", [1]), ("a", [4, 2, 3])]


async def test_patience_ends() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    with anyio.fail_after(30):
        async with running(commit):
            await submit(commit, 1, 0)
            await submit(commit, 2, 0.02)
    assert store.batches == [("a", [1]), ("a", [2])]


async def test_what_comes_in_bulk_is_written_while_a_patient_item_waits() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    with anyio.fail_after(30):
        async with running(commit) as tasks:
            await submit(commit, 1, 0)
            tasks.start_soon(submit, commit, 2, 3_600)
            await anyio.wait_all_tasks_blocked()
            assert await commit.submit_many("a", [3, 4]) == [30, 40]
            await submit(commit, 5, 0)
    assert store.batches == [("a", [1]), ("a", [3, 4]), ("a", [5, 2])]


async def test_the_end_writes_what_is_patient_still() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as work:
            await work.start(commit.run)
            await submit(commit, 1, 0)
            tasks.start_soon(submit, commit, 2, 0.05)
            await anyio.wait_all_tasks_blocked()
            work.cancel_scope.cancel()
    assert store.written == [1, 2]


async def test_the_times_of_collections_are_bounded() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    async with running(commit):
        for number in range(group_commit.MAX_KEYS_NOTED + 5):
            await commit.submit(f"collection {number}", number)
    assert len(commit._written_at) <= group_commit.MAX_KEYS_NOTED
