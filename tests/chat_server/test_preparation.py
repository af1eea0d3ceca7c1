"""Drafts and messages, and which of them goes first."""

from __future__ import annotations

import anyio
import pytest

from chat_server.preparation import GiveWay
from memory.errors import StoreUnavailable
from memory.messages import Appended, Message, UserId, Vector
from tests.chat_server.twin_world import TwinWorld, twin_world


async def test_a_draft_waits_for_messages_and_for_other_drafts() -> None:
    giving_way, order = GiveWay(), list[str]()
    gate = anyio.Event()

    async def draft(name: str) -> None:
        async with giving_way.draft():
            order.append(name)
            await gate.wait()

    async with anyio.create_task_group() as tasks:
        with giving_way.message():
            tasks.start_soon(draft, "first")
            tasks.start_soon(draft, "second")
            with giving_way.message():
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            order.append("message")
        await anyio.wait_all_tasks_blocked()
        assert order == ["message", "first"]
        gate.set()
    assert order == ["message", "first", "second"]


async def remembered(world: TwinWorld) -> list[str]:
    """What the last prompt was given."""
    return [memory.text for memory in world.model.prompts[-1].memories]


async def test_a_message_that_was_prepared_is_not_searched_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with twin_world() as world:
        await world.ask("My boat is called Gaivota.", conversation="before")
        await anyio.wait_all_tasks_blocked()
        text = "What is my boat called"
        drafted = await world.turns.preparation.prepare(world.user, text)
        assert drafted is not None
        assert drafted.took_ms > 0
        memories = await world.desk.memory.hot.get(world.user, None)

        def search(*_: object, **__: object) -> None:
            raise AssertionError("searched again")

        world.model.asked = anyio.Event()
        record = world.desk.memory.record

        async def recording(message: Message, vector: Vector) -> Appended:
            await world.model.asked.wait()  # as in life: storing takes longer than recall
            return await record(message, vector)

        monkeypatch.setattr(world.desk.memory, "record", recording)
        monkeypatch.setattr(memories, "search", search)
        await world.ask(f"{text}?", drafted=drafted)
        assert "My boat is called Gaivota." in await remembered(world)


async def test_what_is_stored_has_the_vector_of_all_of_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with twin_world() as world:
        stored: dict[str, Vector] = {}
        append = world.long_term.append

        async def noting(message: Message, vector: Vector) -> Appended:
            stored[message.text] = vector
            return await append(message, vector)

        monkeypatch.setattr(world.long_term, "append", noting)
        for text in ("Where is my boat \u2026", "Where  is my boat"):
            drafted = await world.turns.preparation.prepare(world.user, "Where is my boat")
            await world.ask(text, drafted=drafted)
            assert (stored[text] == await world.desk.memory.embed(text)).all()


async def test_what_was_said_after_the_draft_is_found() -> None:
    async with twin_world() as world:
        text = "Where is my boat Gaivota?"
        drafted = await world.turns.preparation.prepare(world.user, text)
        await world.ask("My boat Gaivota is in Faro.", conversation="meanwhile")
        await world.ask(text, drafted=drafted)
        assert "My boat Gaivota is in Faro." in await remembered(world)


async def test_a_draft_is_nowhere_and_spends_nothing() -> None:
    async with twin_world() as world:
        await world.turns.preparation.prepare(world.user, "A secret that is never sent")
        page = await world.long_term.newest(world.user, limit=10)
        assert not page.messages
        await world.ask("Hello.")
        limits = next(frame for frame in world.frames if frame["type"] == "limits")
        assert limits["user"]["remaining"] == limits["user"]["limit"] - 1


async def test_a_store_that_cannot_be_read_costs_the_draft_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with twin_world() as world:

        async def broken(*_: object, **__: object) -> None:
            raise StoreUnavailable("no")

        monkeypatch.setattr(world.desk.memory, "recall", broken)
        assert await world.turns.preparation.prepare(UserId("new"), "Where is it?") is None
