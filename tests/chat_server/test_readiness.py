from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from structlog.testing import capture_logs

from chat_server import readiness
from chat_server.readiness import PAUSES_S, Part, Readiness
from memory.errors import ShortTermUnavailable, StoreUnavailable


class Checked:
    """A part that answers, or not, as it is told."""

    def __init__(self, name: str, *, essential: bool) -> None:
        self.reason: str | None = "not there yet"
        self.asked = 0
        self.part = Part(name, self.check, essential=essential)

    async def check(self) -> None:
        self.asked += 1
        if self.reason is not None:
            raise StoreUnavailable(self.reason)


class World:
    def __init__(self) -> None:
        self.store = Checked("chroma", essential=True)
        self.cache = Checked("redis", essential=False)
        self.readiness = Readiness([self.store.part, self.cache.part])

    async def say(self, checked: Checked, reason: str | None) -> None:
        """Let *checked* answer so from now on, and wait until it was asked twice."""
        checked.reason = reason
        asked = checked.asked
        await until(lambda: checked.asked >= asked + 2)


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not fact():
            await anyio.sleep(0.001)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for state in ("ok", "starting", "lost"):
        monkeypatch.setitem(PAUSES_S, state, 0.001)


@asynccontextmanager
async def watching() -> AsyncIterator[World]:
    world = World()
    async with anyio.create_task_group() as tasks:
        for part in world.readiness.parts:
            tasks.start_soon(world.readiness.watch, part)
        yield world
        tasks.cancel_scope.cancel()


async def test_it_is_ready_once_all_parts_have_answered(quick: None) -> None:
    async with watching() as world:
        assert not world.readiness.ready
        await world.say(world.store, None)
        assert not world.readiness.ready
        assert not world.readiness.became_ready.is_set()
        await world.say(world.cache, None)
        assert world.readiness.ready
        await world.readiness.became_ready.wait()


async def test_only_an_essential_part_that_is_lost_costs_readiness(quick: None) -> None:
    async with watching() as world:
        await world.say(world.store, None)
        await world.say(world.cache, None)
        await world.say(world.cache, "no answer")
        assert world.readiness.ready
        assert world.cache.part.state == "lost"
        await world.say(world.store, "no answer")
        assert not world.readiness.ready
        await world.say(world.store, None)
        assert world.readiness.ready


async def test_the_report_says_what_is_wrong_and_nothing_of_what_is_well(quick: None) -> None:
    async with watching() as world:
        await world.say(world.store, None)
        await world.say(world.cache, None)
        await world.say(world.store, "the disk is full")
        assert world.readiness.report(reasons=True) == {
            "ready": False,
            "draining": False,
            "parts": {
                "chroma": {"state": "lost", "reason": "the disk is full"},
                "redis": {"state": "ok"},
            },
        }
        await world.say(world.store, None)
        assert world.readiness.report(reasons=True)["parts"] == {
            "chroma": {"state": "ok"},
            "redis": {"state": "ok"},
        }


async def test_a_server_that_drains_is_not_ready(quick: None) -> None:
    async with watching() as world:
        await world.say(world.store, None)
        await world.say(world.cache, None)
        world.readiness.draining = True
        assert not world.readiness.ready
        assert world.readiness.report(reasons=True)["draining"] is True


async def test_each_reason_is_logged_once_and_the_return_too(quick: None) -> None:
    with capture_logs() as logs:
        async with watching() as world:
            await world.say(world.cache, None)
            await world.say(world.store, None)
            await world.say(world.store, "first")
            await world.say(world.store, "first")
            await world.say(world.store, "second")
            await world.say(world.store, None)
    told = [(entry["event"], entry.get("reason")) for entry in logs if entry["part"] == "chroma"]
    assert told == [
        ("part.ready", None),
        ("part.not_ready", "first"),
        ("part.not_ready", "second"),
        ("part.ready", None),
    ]


async def test_a_part_that_is_slow_to_start_is_news_after_a_while_only(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        async with watching() as world:
            monkeypatch.setattr(readiness, "QUIET_START_S", 1e9)
            await world.say(world.store, "starting")
            assert logs == []
            monkeypatch.setattr(readiness, "QUIET_START_S", -1.0)
            await world.say(world.store, "starting")
    assert ("chroma", "starting", "starting") in [
        (entry["part"], entry["state"], entry["reason"]) for entry in logs
    ]


async def test_short_term_memory_s_own_faults_are_answers_too() -> None:
    async def check() -> None:
        raise ShortTermUnavailable("ping: ConnectionError")

    part = Part("redis", check, essential=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Readiness([part]).watch, part)
        await until(lambda: part.reason == "ping: ConnectionError")
        tasks.cancel_scope.cancel()


def test_what_is_lost_is_asked_for_more_often_than_what_is_well() -> None:
    assert PAUSES_S["starting"] < PAUSES_S["lost"] < PAUSES_S["ok"]


async def test_a_part_that_mends_itself_is_ready_and_says_how_far_it_is() -> None:
    world = World()
    world.store.part.state = "ok"
    world.store.part.healing = lambda: {"collections": 1, "done": 2, "total": 3}
    for reasons in (False, True):
        parts = world.readiness.report(reasons=reasons)["parts"]
        assert isinstance(parts, dict)
        assert parts["chroma"] == {
            "state": "ok",
            "healing": {"collections": 1, "done": 2, "total": 3},
        }
        assert parts["redis"] == {"state": "starting"}
