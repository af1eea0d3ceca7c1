from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from memory import store_gate
from memory.store_gate import StoreGate

A, B = "collection-a", "collection-b"


@pytest.fixture(autouse=True)
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gate, "SETTLE_S", 0.01)


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not fact():
            await anyio.sleep(0.001)


async def test_an_open_gate_lets_everything_through() -> None:
    gate = StoreGate()
    await gate.batch()
    async with gate.request(A, "read"), gate.request(A, "write"), gate.request(A, "change"):
        pass


async def test_a_closed_gate_waits_for_what_is_under_way_and_holds_back_the_rest() -> None:
    gate = StoreGate()
    seen: list[str] = []
    asking, answer = anyio.Event(), anyio.Event()

    async def slow() -> None:
        async with gate.request(A, "write"):
            asking.set()
            await answer.wait()
        seen.append("slow ended")

    async def later(kind: store_gate.Kind) -> None:
        async with gate.request(B, kind):
            seen.append(kind)

    async def batch() -> None:
        await gate.batch()
        seen.append("batch")

    async def hold() -> None:
        async with gate.closed():
            seen.append("closed")
            for kind in ("read", "write", "change"):
                tasks.start_soon(later, kind)
            tasks.start_soon(batch)
            await anyio.sleep(0.05)
            seen.append("opening")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow)
        await asking.wait()
        tasks.start_soon(hold)
        await anyio.sleep(0.05)
        assert seen == []
        answer.set()
        await until(lambda: len(seen) == 7)
    assert seen[:3] == ["slow ended", "closed", "opening"]
    assert set(seen[3:]) == {"read", "write", "change", "batch"}


async def test_a_batch_that_has_begun_is_ended_before_the_gate_is_closed() -> None:
    gate = StoreGate()
    seen: list[str] = []

    async def commit() -> None:
        await gate.batch()
        async with gate.request(A, "read"):
            await anyio.sleep(0.005)
        async with gate.request(A, "write"):
            await anyio.sleep(0.05)
        seen.append("written")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        await anyio.lowlevel.checkpoint()
        async with gate.closed():
            assert seen == ["written"]


async def test_what_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_gate, "DRAIN_S", 0.05)
    gate = StoreGate()

    async def stuck() -> None:
        async with gate.request(A, "read"):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stuck)
        await anyio.lowlevel.checkpoint()
        async with gate.closed():
            tasks.cancel_scope.cancel()


async def test_closed_to_batches_it_waits_for_those_before_and_lets_reads_and_changes_through() -> (
    None
):
    gate = StoreGate()
    written, order = anyio.Event(), list[str]()

    async def write() -> None:
        async with gate.request(A, "write"):
            await written.wait()
            order.append("written")

    async def close() -> None:
        async with gate.closed_to_batches():
            order.append("closed")
            async with gate.request(A, "read"), gate.request(A, "change"):
                order.append("read")
            await anyio.sleep(0.02)
            order.append("opened")

    async def begin() -> None:
        await gate.batch()
        order.append("batch")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(close)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(begin)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        written.set()
    assert order == ["written", "closed", "read", "opened", "batch"]


async def test_one_closes_it_at_a_time() -> None:
    gate = StoreGate()
    inside = most = 0

    async def hold() -> None:
        nonlocal inside, most
        async with gate.closed():
            inside += 1
            most = max(most, inside)
            await anyio.sleep(0.01)
            inside -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(hold)
    assert most == 1
    await gate.batch()


async def test_nothing_of_a_collection_is_changed_while_it_is_rewritten() -> None:
    gate = StoreGate()
    changed: list[str] = []

    async def change(collection: str) -> None:
        async with gate.request(collection, "change"):
            changed.append(collection)

    async with anyio.create_task_group() as tasks:
        async with gate.rewriting(A):
            tasks.start_soon(change, A)
            tasks.start_soon(change, B)
            async with gate.request(A, "write"), gate.request(A, "read"):
                await until(lambda: changed == [B])
        await until(lambda: changed == [B, A])


async def test_a_gate_whose_holder_fails_is_open_again() -> None:
    gate = StoreGate()
    with pytest.raises(RuntimeError):
        async with gate.closed():
            raise RuntimeError
    await gate.batch()
    async with gate.request(A, "write"):
        pass


async def test_it_knows_what_was_asked_about_lately() -> None:
    gate = StoreGate()
    async with gate.request(A, "read"), gate.request("", "read"):
        pass
    assert gate.asked_within(10) == {A}
    assert gate.asked_within(-1) == set()
