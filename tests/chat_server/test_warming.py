from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from chat_server.warming import AT_ONCE, MOST_WAITING, Warming
from memory.messages import UserId


class Loads:
    """What was loaded, in order; at the gate it waits."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gate = anyio.Event()
        self.busy = False

    async def warm(self, user: UserId) -> None:
        self.begun.append(user)
        await self.gate.wait()

    async def until(self, count: int) -> None:
        with anyio.fail_after(10):
            while len(self.begun) < count:
                await anyio.sleep(0.01)


@asynccontextmanager
async def warming(quiet_s: float = 0.01) -> AsyncIterator[tuple[Warming, Loads]]:
    loads = Loads()
    async with anyio.create_task_group() as tasks:
        yield Warming(loads.warm, tasks, busy=lambda: loads.busy, quiet_s=quiet_s), loads
        tasks.cancel_scope.cancel()


async def test_two_are_loaded_at_a_time_and_all_in_the_end_the_last_ones_first() -> None:
    async with warming() as (warm, loads):
        for number in range(6):
            warm.want(UserId(str(number)))
        await loads.until(AT_ONCE)
        await anyio.sleep(0.05)
        assert loads.begun == ["5", "4"]
        loads.gate.set()
        await loads.until(6)
        assert loads.begun == ["5", "4", "3", "2", "1", "0"]


async def test_nobody_is_loaded_while_others_come_or_messages_are_prepared() -> None:
    async with warming(quiet_s=0.1) as (warm, loads):
        loads.gate.set()
        loads.busy = True
        warm.want(UserId("ana"))
        await anyio.sleep(0.2)
        assert loads.begun == []
        loads.busy = False
        await loads.until(1)


async def test_who_does_not_fit_is_dropped_and_who_comes_twice_is_loaded_once() -> None:
    async with warming() as (warm, loads):
        loads.gate.set()
        for number in range(MOST_WAITING + 10):
            warm.want(UserId(str(number)))
            warm.want(UserId(str(number)))
        await loads.until(MOST_WAITING)
        await anyio.sleep(0.05)
        assert len(loads.begun) == len(set(loads.begun)) == MOST_WAITING
        assert "0" not in loads.begun


async def test_who_comes_after_all_were_loaded_is_loaded_too() -> None:
    async with warming() as (warm, loads):
        loads.gate.set()
        warm.want(UserId("ana"))
        await loads.until(1)
        warm.want(UserId("bob"))
        await loads.until(2)
