from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from structlog.testing import capture_logs

from memory.errors import ShortTermUnavailable
from memory.short_term import ShortTermPolicy, Window
from memory.short_term_breaker import REST_S, ShortTermBreaker
from tests.contracts.short_term_world import ANN, TEA, line
from tests.memory.failing_short_term import FailingShortTerm


class World:
    def __init__(self) -> None:
        self.inner = FailingShortTerm(ShortTermPolicy())
        self.failures: list[str] = []
        self.now = 100.0
        self.breaker = ShortTermBreaker(
            self.inner, on_failure=self.failures.append, clock=lambda: self.now
        )

    async def fails(self) -> None:
        with pytest.raises(ShortTermUnavailable):
            await self.breaker.admit(ANN, TEA)

    async def many(self, count: int) -> list[bool]:
        """Whether each of so many calls at the same time was answered."""
        answered: list[bool] = []

        async def call() -> None:
            try:
                await self.breaker.admit(ANN, TEA)
            except ShortTermUnavailable:
                answered.append(False)
            else:
                answered.append(True)

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(call)
        return answered


@pytest.fixture
def world() -> World:
    return World()


async def test_a_server_that_is_well_is_asked_everything(world: World) -> None:
    [first, second, third] = line(3)
    breaker = world.breaker
    assert (await breaker.append(first, active=True)).result == "appended"
    await breaker.replace(ANN, TEA, [first, second], active=True)
    assert (await breaker.admit(ANN, TEA)).window == Window((first, second))
    assert (await breaker.append(third, active=False)).result == "appended"
    await breaker.drop(ANN, TEA)
    assert (await breaker.admit(ANN, TEA)).window is None
    assert (await breaker.lease_global(3))[0] == 3
    assert (await breaker.usage()).active_users == 1
    await breaker.ping()
    assert not breaker.sick
    assert world.failures == []


async def test_after_a_failure_nothing_is_asked_for_a_while(world: World) -> None:
    world.inner.away = True
    await world.fails()
    assert world.breaker.sick
    [message] = line(1)
    spared: list[Callable[[], Awaitable[object]]] = [
        lambda: world.breaker.admit(ANN, TEA),
        lambda: world.breaker.lease_global(1),
        lambda: world.breaker.append(message, active=True),
        lambda: world.breaker.replace(ANN, TEA, [message], active=True),
        lambda: world.breaker.drop(ANN, TEA),
        world.breaker.usage,
    ]
    world.now += REST_S - 0.01
    for call in spared:
        with pytest.raises(ShortTermUnavailable, match="not asked"):
            await call()
    assert world.inner.asked == ["admit"]
    assert world.failures == ["admit"]


async def test_after_the_rest_one_call_asks_while_the_others_are_spared(world: World) -> None:
    world.inner.away = True
    await world.fails()
    world.now += REST_S
    world.inner.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.many, 1)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await world.many(20) == [False] * 20
        world.inner.gate.set()
    assert world.inner.asked == ["admit", "admit"]
    assert await world.many(5) == [False] * 5
    assert world.inner.asked == ["admit", "admit"]


async def test_an_answer_ends_the_rest_for_all(world: World) -> None:
    world.inner.away = True
    await world.fails()
    world.inner.away = False
    await world.fails()
    world.now += REST_S
    assert await world.many(1) == [True]
    assert await world.many(20) == [True] * 20
    assert not world.breaker.sick


async def test_a_ping_asks_during_the_rest_and_brings_it_to_an_end(world: World) -> None:
    world.inner.away = True
    await world.fails()
    with pytest.raises(ShortTermUnavailable, match="ping: away"):
        await world.breaker.ping()
    await world.fails()
    assert world.inner.asked == ["admit", "ping"]
    world.inner.away = False
    await world.breaker.ping()
    assert await world.many(3) == [True] * 3


async def test_while_a_ping_hangs_messages_are_still_spared(world: World) -> None:
    world.inner.away = True
    await world.fails()
    world.now += REST_S
    world.inner.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(self_failing, world.breaker.ping)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await world.many(10) == [False] * 10
        world.inner.gate.set()
    assert world.inner.asked == ["admit", "ping"]


async def self_failing(call: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(ShortTermUnavailable):
        await call()


async def test_a_probe_that_is_cancelled_leaves_the_next_one_to_ask(world: World) -> None:
    world.inner.away = True
    await world.fails()
    world.now += REST_S
    world.inner.gate, world.inner.away = anyio.Event(), False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.many, 1)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    world.inner.gate = None
    world.now += REST_S
    assert await world.many(1) == [True]


async def test_each_failure_is_counted_and_an_outage_is_logged_once(world: World) -> None:
    with capture_logs() as logs:
        for _ in range(2):
            world.inner.away = True
            for _ in range(3):
                await world.fails()
                world.now += REST_S
            world.inner.away = False
            await world.breaker.ping()
    assert world.failures == ["admit"] * 6
    assert [entry["event"] for entry in logs] == ["short_term.lost", "short_term.restored"] * 2
    assert not any(ANN in str(entry) for entry in logs)
