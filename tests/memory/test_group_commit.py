from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from memory.errors import StoreBusy, StoreError, StoreRefused, StoreUnavailable, StoreUnknown
from memory.group_commit import CommitPolicy, GroupCommit

Commit = GroupCommit[str, int, int]


class Store:
    """Writes numbers, one batch at a time and key, when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.gate: anyio.Event | None = None
        self.failure: BaseException | None = None
        self.refused: set[int] = set()
        self.strange: set[int] = set()

    @property
    def written(self) -> list[int]:
        return [number for _, batch in self.batches for number in batch]

    async def write(self, key: str, batch: Sequence[int]) -> list[int | StoreError]:
        if self.gate is not None:
            await self.gate.wait()
        await anyio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        if self.refused & set(batch):
            raise StoreRefused("no")
        if self.strange & set(batch):
            raise KeyError("nobody thought of that")
        self.batches.append((key, list(batch)))
        return [10 * number for number in batch]


@asynccontextmanager
async def running(commit: Commit) -> AsyncIterator[TaskGroup]:
    """*commit* at work, and tasks that end before it does."""
    async with anyio.create_task_group() as work:
        await work.start(commit.run)
        async with anyio.create_task_group() as tasks:
            yield tasks
        work.cancel_scope.cancel()


async def outcome_of(commit: Commit, number: int, outcomes: dict[int, object]) -> None:
    try:
        outcomes[number] = await commit.submit("a", number)
    except StoreError as error:
        outcomes[number] = error


async def open_gate(gate: anyio.Event) -> None:
    gate.set()


async def test_a_lone_item_is_written_at_once_and_alone() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(lull_s=3_600, linger_s=3_600))
    with anyio.fail_after(30):
        async with running(commit):
            assert await commit.submit("a", 1) == 10
            assert await commit.submit("a", 2) == 20
    assert store.batches == [("a", [1]), ("a", [2])]


async def test_the_size_of_each_batch_is_told() -> None:
    store = Store()
    store.gate = anyio.Event()
    sizes: list[int] = []
    commit: Commit = GroupCommit(store.write, on_batch=sizes.append)
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(4):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
    assert sizes == [len(batch) for _, batch in store.batches]
    assert sum(sizes) == 4


async def test_what_gathers_during_a_write_is_written_together_in_order() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(max_batch=3))
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(8):
            tasks.start_soon(outcome_of, commit, number, outcomes)
            await anyio.wait_all_tasks_blocked()
        store.gate.set()
    assert [batch for _, batch in store.batches] == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert outcomes == {number: 10 * number for number in range(8)}
    assert commit.waiting == 0


async def test_after_a_crowd_the_next_ones_are_waited_for() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(lull_s=0.5, linger_s=3_600))
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        gates = [anyio.Event(), anyio.Event()]
        store.gate = gates[0]
        for number in (0, 1, 2):
            tasks.start_soon(outcome_of, commit, number, outcomes)
            await anyio.wait_all_tasks_blocked()
        store.gate = gates[1]
        gates[0].set()
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(outcome_of, commit, 3, outcomes)
        await anyio.wait_all_tasks_blocked()
        gates[1].set()
        await anyio.wait_all_tasks_blocked()
        assert store.batches == [("a", [0]), ("a", [1, 2])]
        with anyio.fail_after(30):
            await commit.submit("a", 4)
    assert store.batches[-1] == ("a", [3, 4])


async def test_keys_are_written_independently() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write)
    async with running(commit):
        store.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commit.submit, "slow", 1)
            await anyio.wait_all_tasks_blocked()
            slow_gate, store.gate = store.gate, None
            assert await commit.submit("fast", 2) == 20
            slow_gate.set()
    assert store.batches == [("fast", [2]), ("slow", [1])]


async def test_too_much_waiting_is_refused_at_once_and_room_comes_back() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(max_waiting=2))
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(3):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        assert isinstance(outcomes.pop(2), StoreBusy)
        store.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert await commit.submit("a", 4) == 40
    assert outcomes == {0: 0, 1: 10}
    assert store.written == [0, 1, 4]


async def test_cancelling_a_caller_cancels_neither_its_item_nor_anybody_elses() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write)
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        tasks.start_soon(outcome_of, commit, 0, outcomes)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as given_up:
            given_up.start_soon(outcome_of, commit, 1, outcomes)
            tasks.start_soon(outcome_of, commit, 2, outcomes)
            await anyio.wait_all_tasks_blocked()
            given_up.cancel_scope.cancel()
        store.gate.set()
    assert store.batches == [("a", [0]), ("a", [1, 2])]
    assert outcomes == {0: 0, 2: 20}


async def test_what_nobody_thought_of_harms_the_one_that_it_comes_from() -> None:
    store = Store()
    store.gate = anyio.Event()
    store.strange = {3}
    commit: Commit = GroupCommit(store.write)
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(6):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert isinstance(outcomes.pop(3), StoreUnknown)
        assert await commit.submit("a", 7) == 70
    assert outcomes == {number: 10 * number for number in (0, 1, 2, 4, 5)}


async def test_the_one_that_is_refused_keeps_nobody_else_out() -> None:
    store = Store()
    store.refused = {13}
    commit: Commit = GroupCommit(store.write)
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(20):
            tasks.start_soon(outcome_of, commit, number, outcomes)
    assert sorted(store.written) == [number for number in range(20) if number != 13]
    assert isinstance(outcomes[13], StoreRefused)
    assert commit.healthy


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), StoreUnknown("no answer")])
async def test_a_store_that_is_away_is_asked_once_for_a_batch(failure: StoreError) -> None:
    store = Store()
    asked: list[int] = []

    async def write(_key: str, batch: Sequence[int]) -> list[int | StoreError]:
        asked.append(len(batch))
        return await store.write(_key, batch)

    store.failure = failure
    commit: Commit = GroupCommit(write)
    assert commit.healthy
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(9):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        assert outcomes == dict.fromkeys(range(9), failure)
        assert asked == [9]
        assert not commit.healthy
        store.failure = None
        assert await commit.submit("a", 9) == 90
        assert commit.healthy


async def test_each_item_gets_its_own_outcome() -> None:
    async def write(_key: str, batch: Sequence[int]) -> list[int | StoreError]:
        return [StoreUnknown(str(item)) if item % 2 else item for item in batch]

    commit: Commit = GroupCommit(write)
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(4):
            tasks.start_soon(outcome_of, commit, number, outcomes)
    assert (outcomes[0], outcomes[2]) == (0, 2)
    assert (str(outcomes[1]), str(outcomes[3])) == ("1", "3")
    assert not commit.healthy


async def test_what_waits_at_the_end_is_written_and_nothing_is_taken_any_more() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write)
    outcomes: dict[int, object] = {}
    async with anyio.create_task_group() as callers:
        async with anyio.create_task_group() as work:
            await work.start(commit.run)
            for number in range(3):
                callers.start_soon(outcome_of, commit, number, outcomes)
                await anyio.wait_all_tasks_blocked()
            callers.start_soon(open_gate, store.gate)
            work.cancel_scope.cancel()
        assert store.written == [0, 1, 2]
    assert outcomes == {0: 0, 1: 10, 2: 20}
    with pytest.raises(StoreUnavailable):
        await commit.submit("a", 4)


async def test_what_is_not_written_in_the_time_for_the_end_is_told_to_its_callers() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write)
    outcomes: dict[int, object] = {}
    async with anyio.create_task_group() as callers, anyio.create_task_group() as work:
        await work.start(partial(commit.run, drain_s=0))
        for number in range(2):
            callers.start_soon(outcome_of, commit, number, outcomes)
            await anyio.wait_all_tasks_blocked()
        work.cancel_scope.cancel()
    assert isinstance(outcomes[0], StoreUnknown)
    assert isinstance(outcomes[1], StoreUnavailable)
    assert commit.waiting == 0


async def test_an_unforeseen_failure_is_told_to_its_callers_and_the_commit_goes_on() -> None:
    store = Store()
    store.failure = ZeroDivisionError()
    commit: Commit = GroupCommit(store.write)
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in range(2):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        assert all(isinstance(outcome, StoreUnknown) for outcome in outcomes.values())
        assert len(outcomes) == 2
        store.failure = None
        assert await commit.submit("a", 5) == 50


async def bulk_outcomes(commit: Commit, numbers: Sequence[int], outcomes: list[object]) -> None:
    outcomes += await commit.submit_many("a", numbers)


async def test_what_is_submitted_in_bulk_is_written_in_order_in_small_batches() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(bulk_batch=3))
    async with running(commit):
        assert await commit.submit_many("a", range(7)) == [10 * number for number in range(7)]
        assert await commit.submit_many("a", []) == []
    assert [batch for _, batch in store.batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert commit.waiting == 0


async def test_a_single_item_waits_for_one_batch_of_the_bulk_at_most() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(bulk_batch=2))
    bulk: list[object] = []
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        tasks.start_soon(bulk_outcomes, commit, range(6), bulk)
        await anyio.wait_all_tasks_blocked()
        for number in (100, 101, 102):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        assert commit.waiting == 9
        store.gate.set()
    assert [batch for _, batch in store.batches] == [[0, 1], [100, 101, 102], [2, 3], [4, 5]]
    assert bulk == [10 * number for number in range(6)]


async def test_too_much_in_bulk_is_refused_and_leaves_room_for_single_items() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(max_waiting=3))
    bulk: list[object] = []
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        tasks.start_soon(bulk_outcomes, commit, range(3), bulk)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(StoreBusy):
            await commit.submit_many("a", [3])
        tasks.start_soon(outcome_of, commit, 7, outcomes)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
    assert (bulk, outcomes) == ([0, 10, 20], {7: 70})


async def test_each_item_of_a_bulk_gets_its_own_outcome() -> None:
    store = Store()
    store.refused = {2}
    commit: Commit = GroupCommit(store.write)
    async with running(commit):
        found = await commit.submit_many("a", range(4))
    assert [found[0], found[1], found[3]] == [0, 10, 30]
    assert isinstance(found[2], StoreRefused)
    with pytest.raises(StoreUnavailable):
        await commit.submit_many("a", [5])


async def test_a_bulk_that_waits_at_the_end_is_written() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(store.write, policy=CommitPolicy(bulk_batch=2))
    bulk: list[object] = []
    async with anyio.create_task_group() as callers, anyio.create_task_group() as work:
        await work.start(commit.run)
        callers.start_soon(bulk_outcomes, commit, range(5), bulk)
        await anyio.wait_all_tasks_blocked()
        callers.start_soon(open_gate, store.gate)
        work.cancel_scope.cancel()
    assert bulk == [0, 10, 20, 30, 40]


async def test_while_the_store_is_held_what_comes_waits_and_nothing_fails() -> None:
    store = Store()
    held = anyio.Event()
    commit: Commit = GroupCommit(store.write, gate=held.wait)
    outcomes: dict[int, object] = {}
    bulk: list[object] = []
    async with running(commit) as tasks:
        for number in range(3):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        tasks.start_soon(bulk_outcomes, commit, [7, 8], bulk)
        await anyio.wait_all_tasks_blocked()
        assert (store.batches, outcomes, commit.waiting) == ([], {}, 5)
        held.set()
    assert store.batches == [("a", [0, 1, 2]), ("a", [7, 8])]
    assert (outcomes, bulk) == ({0: 0, 1: 10, 2: 20}, [70, 80])


async def test_a_store_that_stays_held_does_not_hold_up_the_end() -> None:
    store = Store()
    commit: Commit = GroupCommit(store.write, gate=anyio.sleep_forever)
    outcomes: dict[int, object] = {}
    with anyio.fail_after(30):
        async with anyio.create_task_group() as callers, anyio.create_task_group() as work:
            await work.start(partial(commit.run, drain_s=0))
            callers.start_soon(outcome_of, commit, 1, outcomes)
            await anyio.wait_all_tasks_blocked()
            work.cancel_scope.cancel()
    assert isinstance(outcomes[1], StoreUnavailable)
    assert (store.batches, commit.waiting) == ([], 0)


async def test_one_sender_cannot_fill_the_queue() -> None:
    store = Store()
    store.gate = anyio.Event()
    commit: Commit = GroupCommit(
        store.write,
        sender_of=lambda number: number // 100,
        policy=CommitPolicy(max_waiting=9, max_waiting_each=2),
    )
    outcomes: dict[int, object] = {}
    async with running(commit) as tasks:
        for number in (1, 2, 3, 101):
            tasks.start_soon(outcome_of, commit, number, outcomes)
        await anyio.wait_all_tasks_blocked()
        assert isinstance(outcomes.pop(3), StoreBusy)
        assert outcomes == {}
        store.gate.set()
    assert outcomes == {1: 10, 2: 20, 101: 1010}
