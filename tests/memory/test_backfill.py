from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from memory import backfill
from memory.backfill import Backfill
from memory.embedding import Embedded
from memory.embedding_fallback import EmbeddingFallback
from memory.errors import StoreUnavailable
from memory.hot import HotMemories, open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import Message, MessageId, UserId
from tests.contracts.long_term_world import line, said, vector_of
from tests.memory.test_embedding_fallback import Moody

ANN, BEN = UserId("ann"), UserId("ben")
NOTHING = np.zeros(8, dtype=np.float32)


class World:
    """A store, what is in RAM of it, and a backfill with an embedder of moods."""

    def __init__(self, hot: HotMemories, store: InProcessLongTermMemory) -> None:
        self.store = store
        self.hot = hot
        self.embedder = Moody()
        self.backfill = Backfill(store, EmbeddingFallback(self.embedder, limit_s=0.05), hot)

    async def say(self, *messages: Message) -> None:
        """Store *messages* without vectors, and take them into RAM."""
        for message in messages:
            await self.store.append(message, NOTHING)
            self.hot.add(message, NOTHING, None)

    async def unembedded(self) -> set[MessageId]:
        return {message.id for message in await self.store.unembedded(limit=10_000)}

    async def until_left(self, count: int) -> None:
        while len(await self.unembedded()) > count:
            await anyio.sleep(0.005)

    @asynccontextmanager
    async def filling(self) -> AsyncIterator[None]:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.backfill.run)
                yield
                tasks.cancel_scope.cancel()


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(backfill, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(backfill, "LONGEST_PAUSE_S", 0.02)
    store = InProcessLongTermMemory(dimension=8)
    async with open_hot_memories(store, HotLimits(messages=500, size_bytes=10_000_000)) as hot:
        yield World(hot, store)


async def test_what_was_stored_without_vectors_before_the_start_is_found_and_filled(
    world: World,
) -> None:
    world.store.watch_unembedded(lambda _message: None)
    for message in [*line(ANN, 40), *line(BEN, 3)]:
        await world.store.append(message, NOTHING)
    async with world.filling():
        await world.until_left(0)
    page = await world.store.newest(ANN, limit=50)
    expected = await world.embedder.embed([message.text for message in page.messages])
    np.testing.assert_array_equal(page.vectors, expected)


async def test_what_is_said_while_the_embedder_fails_is_filled_in_when_it_works_again(
    world: World,
) -> None:
    memory = await world.hot.get(ANN, None)
    world.embedder.hates = ""
    async with world.filling():
        await world.say(*line(ANN, 3))
        while world.embedder.asked < 3:
            await anyio.sleep(0.005)
        assert (memory.unembedded, world.backfill.left) == (3, 3)
        world.embedder.hates = None
        await world.until_left(0)
    assert (memory.unembedded, world.backfill.left) == (0, 0)
    assert not memory.search("text", (await world.embedder.embed(["text"]))[0], limit=1).partial


async def test_a_text_that_has_no_vector_is_given_up_and_the_others_are_not(world: World) -> None:
    world.embedder.hates = "jazz"
    hopeless = [said(ANN, f"jazz {number}") for number in range(20)]
    async with world.filling():
        await world.say(*hopeless, *line(ANN, 3))
        await world.until_left(20)
        while world.backfill.left > 20 or world.backfill._waiting:
            await anyio.sleep(0.005)
        asked = world.embedder.asked
        world.backfill.note(hopeless[0])
        await world.say(said(ANN, "tea"))
        await world.until_left(20)
        assert world.embedder.asked == asked + 1
    assert world.backfill.left == 20


async def test_a_text_at_which_the_embedder_hangs_does_not_hold_up_the_others(
    world: World,
) -> None:
    world.backfill._embedding._retry_s = 0.01
    await world.say(said(ANN, "jazz"), *line(ANN, 3))

    class Hanging(Moody):
        async def embed_marked(self, texts: Sequence[str]) -> list[Embedded]:
            self.hangs = "jazz" in texts
            return await super().embed_marked(texts)

    world.backfill._embedding._embedder = Hanging()
    async with world.filling():
        await world.until_left(1)


async def test_a_store_that_is_away_is_asked_again(world: World) -> None:
    world.store.away = True
    async with world.filling():
        await anyio.wait_all_tasks_blocked()
        world.store.away = False
        await world.say(*line(ANN, 2))
        await world.until_left(0)


async def test_more_than_is_remembered_is_looked_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "MAX_WAITING", 20)
    await world.say(*line(ANN, 70))
    assert world.backfill.left == 20
    async with world.filling():
        await world.until_left(0)


async def test_what_was_deleted_gets_no_vector_and_does_not_come_back(world: World) -> None:
    gone, redacted, stays = line(ANN, 1)[0], said(BEN), said(BEN)
    await world.say(gone, redacted, stays)
    await world.store.forget_user(ANN)
    await world.store.delete(BEN, [redacted.id])
    async with world.filling():
        await world.until_left(0)
        while world.backfill.left:
            await anyio.sleep(0.005)
    assert await world.store.by_ids(ANN, [gone.id]) == []
    page = await world.store.newest(BEN, limit=5)
    assert page.vectors.any(axis=1).tolist() == [True, False]


async def test_while_a_user_is_held_nothing_is_filled_in_and_what_waits_is_dropped(
    world: World,
) -> None:
    async with world.filling():
        async with world.backfill.held(ANN):
            await world.say(said(ANN), said(BEN))
            await anyio.wait_all_tasks_blocked()
            assert len(await world.unembedded()) == 2
        await world.until_left(1)
        assert world.backfill.left == 0


async def test_a_failing_deletion_lets_the_filling_go_on(world: World) -> None:
    async with world.filling():
        with pytest.raises(StoreUnavailable):
            async with world.backfill.held(ANN):
                raise StoreUnavailable("away")
        await world.say(said(BEN))
        await world.until_left(0)


async def test_what_another_server_filled_in_is_taken_into_ram(world: World) -> None:
    message = said(ANN)
    memory = await world.hot.get(ANN, None)
    await world.say(message)
    await world.store.fill([message], vector_of(message)[np.newaxis])
    async with world.filling():
        while memory.unembedded:
            await anyio.sleep(0.005)
    page = await world.store.newest(ANN, limit=1)
    np.testing.assert_array_equal(page.vectors[0], vector_of(message))
