from __future__ import annotations

from collections.abc import Iterable

import anyio
import anyio.lowlevel
import pytest

from memory.commit_queue import Backlog, CommitQueue, RoundRobin, Waiting
from memory.errors import StoreBusy

Entry = Waiting[str, None]


def items(taken: Iterable[Entry]) -> str:
    return " ".join(waiting.item for waiting in taken)


def single(item: str) -> Entry:
    return Waiting(item, item[0])


def test_senders_have_their_turns_and_keep_their_order() -> None:
    turns: RoundRobin[str, None] = RoundRobin()
    for item in ["a1", "a2", "a3", "a4", "b1", "c1", "c2"]:
        turns.push(single(item))
    assert len(turns) == 7
    assert items(turns.take(4)) == "a1 b1 c1 a2"
    turns.push(single("b2"))
    assert items(turns.take(2)) == "c2 a3"
    assert items(turns.take(9)) == "b2 a4"
    assert len(turns) == 0
    assert turns.take(1) == []


async def test_bulk_never_rides_with_single_items() -> None:
    queue: CommitQueue[str, None] = CommitQueue()
    for item in ("a1", "b1"):
        queue.push(Waiting(item, item[0], bulk=True))
    assert not queue.is_due()
    queue.push(single("c1"))
    assert queue.is_due()
    assert items(queue.next_batch(10, 1)) == "c1"
    assert items(queue.next_batch(10, 1)) == "a1"
    assert len(queue) == 1
    assert items(queue.take_all()) == "b1"
    assert not queue


async def test_patient_items_fill_the_room_of_a_batch() -> None:
    queue: CommitQueue[str, None] = CommitQueue()
    later = anyio.current_time() + 3_600
    for item in ("a1", "a2"):
        queue.push(single(item), patient_until=later)
    assert not queue.is_due()
    queue.push(single("b1"))
    assert items(queue.next_batch(2, 1)) == "b1 a1"
    assert items(queue.take_all()) == "a2"


async def test_patient_items_whose_time_is_over_have_turns_like_all_others() -> None:
    queue: CommitQueue[str, None] = CommitQueue()
    now = anyio.current_time()
    for item in ("a1", "a2", "a3", "b1"):
        queue.push(single(item), patient_until=now)
    assert queue.is_due()
    assert items(queue.next_batch(2, 1)) == "a1 b1"
    assert items(queue.next_batch(2, 1)) == "a2 a3"


async def test_a_wait_for_company_ends_when_somebody_comes() -> None:
    queue: CommitQueue[str, None] = CommitQueue()
    queue.push(single("a1"), patient_until=anyio.current_time() + 3_600)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.wait_due)
            await anyio.wait_all_tasks_blocked()
            queue.push(single("b1"))


async def test_a_lull_is_waited_for_while_others_come_but_not_for_ever() -> None:
    queue: CommitQueue[str, None] = CommitQueue()
    with anyio.fail_after(30):
        await queue.wait_lull(0.001, 3_600)

        async def come() -> None:
            while True:
                queue.push(single("a1"))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come)
            await queue.wait_lull(0.001, 0.01)
            tasks.cancel_scope.cancel()
    assert queue.is_due()


def test_a_backlog_is_bounded_in_sum_and_for_each_sender() -> None:
    backlog = Backlog(5, 2)
    backlog.admit("a")
    backlog.admit("a")
    with pytest.raises(StoreBusy, match="of one user"):
        backlog.admit("a")
    backlog.admit("b", 3)
    with pytest.raises(StoreBusy, match=r"^5 records are waiting"):
        backlog.admit("c")
    assert len(backlog) == 5
    backlog.release("a")
    backlog.admit("a")
    for sender in "aabbb":
        backlog.release(sender)
    assert len(backlog) == 0
    backlog.admit("a", 5)


def test_a_sender_with_nothing_waiting_may_send_more_than_its_share_at_once() -> None:
    backlog = Backlog(10, 2)
    backlog.admit("a", 4)
    with pytest.raises(StoreBusy):
        backlog.admit("a")
    backlog.admit("b", 0)
    assert len(backlog) == 4
