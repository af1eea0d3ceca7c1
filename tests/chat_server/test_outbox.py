from __future__ import annotations

from collections import deque

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_server.errors import ChatError
from chat_server.outbox import Outbox

MOST_BYTES = 40

frames = st.text(alphabet=st.sampled_from("ab€👍"), max_size=8)
steps = st.lists(st.one_of(frames, st.none()), max_size=60)
"""A frame is put; ``None``: the oldest one is taken and written."""


def size(frame: str) -> int:
    return len(frame.encode())


@settings(deadline=None)
@given(steps)
async def test_frames_leave_in_order_and_never_more_than_fits_is_waiting(
    taken: list[str | None],
) -> None:
    outbox = Outbox(MOST_BYTES)
    waiting: deque[str] = deque()
    for step in taken:
        if step is None:
            if waiting:
                assert await outbox.take() == waiting.popleft()
                outbox.written()
            continue
        outbox.put(step)
        if sum(map(size, waiting)) + size(step) > MOST_BYTES:
            reason = await outbox.closed()
            assert reason is not None
            assert reason.code == "slow_client"
            await outbox.drained()
            return
        waiting.append(step)
    for frame in waiting:
        assert await outbox.take() == frame
        outbox.written()
    await outbox.drained()


async def test_a_reader_that_keeps_up_gets_everything_in_order() -> None:
    outbox, received = Outbox(20), list[str]()
    sent = [f"frame {number}" for number in range(200)]

    async def read() -> None:
        while len(received) < len(sent):
            received.append(await outbox.take())
            outbox.written()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for frame in sent:
                outbox.put(frame)
                await outbox.drained()
    assert received == sent


async def test_a_frame_counts_until_it_was_written() -> None:
    outbox = Outbox(10)
    outbox.put("12345678")
    assert await outbox.take() == "12345678"
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await outbox.drained()
    outbox.put("abc")
    reason = await outbox.closed()
    assert reason is not None
    assert reason.code == "slow_client"
    assert reason.retryable


async def test_a_frame_that_was_taken_in_vain_is_taken_again() -> None:
    outbox = Outbox()
    with anyio.move_on_after(0.01):
        await outbox.take()
    outbox.put("kept")
    assert await outbox.take() == "kept"
    assert await outbox.take() == "kept"


async def test_a_waiting_reader_is_woken_by_a_frame() -> None:
    outbox, received = Outbox(), list[str]()

    async def read() -> None:
        received.append(await outbox.take())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            outbox.put("hello")
    assert received == ["hello"]


async def test_after_the_end_nothing_is_taken_in_and_the_first_reason_holds() -> None:
    outbox = Outbox()
    outbox.put("before")
    outbox.close(None)
    outbox.close(ChatError("internal", "too late"))
    outbox.put("after")
    assert await outbox.closed() is None
    assert await outbox.take() == "before"
    outbox.written()
    await outbox.drained()


async def test_what_a_slow_client_did_not_read_is_dropped() -> None:
    outbox = Outbox(5)
    outbox.put("12345")
    assert await outbox.take() == "12345"
    outbox.put("6")
    await outbox.drained()
    outbox.written()
    with anyio.move_on_after(0.01) as scope:
        await outbox.take()
    assert scope.cancelled_caught
