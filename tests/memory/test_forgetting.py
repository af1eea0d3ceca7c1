from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from memory.dual_memory import DualMemory
from memory.errors import StoreUnavailable, StoreUnknown
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.in_process_short_term import InProcessShortTermMemory
from memory.messages import Message, MessageId
from memory.short_term import ShortTermPolicy
from memory.warm import WarmMemories
from tests.contracts.short_term_world import ANN, BOB, line
from tests.memory.failing_short_term import FailingShortTerm
from tests.memory.warm_world import files

POLICY = ShortTermPolicy(user_limit=1000)
SEVERAL = 5


class Unsure(InProcessLongTermMemory):
    """It carries out a mark, and may fail to say so."""

    lost = False

    async def mark_forgotten(self, *args: object, **more: object) -> Message | None:
        found = await super().mark_forgotten(*args, **more)  # type: ignore[arg-type]  # passed on
        if self.lost:
            raise StoreUnknown("no answer")
        return found


@asynccontextmanager
async def process(
    long_term: InProcessLongTermMemory,
    short_term: FailingShortTerm | InProcessShortTermMemory,
    warm: WarmMemories | None = None,
) -> AsyncIterator[DualMemory]:
    """One of several processes on the same two memories."""
    limits = HotLimits(messages=500, size_bytes=10_000_000)
    with anyio.fail_after(20):
        async with open_hot_memories(long_term, limits, warm=warm) as hot:
            yield DualMemory(long_term, short_term, InProcessEmbedder(), hot, window_messages=20)


async def say(memory: DualMemory, messages: list[Message]) -> None:
    for message in messages:
        vector = await memory.embed(message.text)
        await memory.record(message, vector)
        await memory.append_window(message, vector, active=True)


async def found(memory: DualMemory) -> set[MessageId]:
    version = (await memory.short_term.admit(ANN, None)).version
    embedded = await memory.embed_marked(ANN, "text")
    recall = await memory.recall(ANN, "text", embedded, limit=99, version=version)
    assert not recall.partial
    return {item.id for item in recall.items}


@pytest.mark.parametrize("place", [0, 2, SEVERAL - 1])
async def test_every_process_forgets_and_remembers_with_its_next_search(place: int) -> None:
    long_term, short_term = InProcessLongTermMemory(), InProcessShortTermMemory(POLICY)
    async with process(long_term, short_term) as here, process(long_term, short_term) as there:
        messages = line(SEVERAL)
        await say(here, messages)
        everything = {message.id for message in messages}
        chosen = messages[place].id
        assert await found(here) == await found(there) == everything
        for forgotten in (True, False, True):
            marked = await here.forgetting.mark(ANN, chosen, forgotten=forgotten)
            assert marked is not None
            assert marked.forgotten == forgotten
            left = everything - {chosen} if forgotten else everything
            assert await found(there) == left
            assert await found(here) == left


async def test_forgetting_here_reads_nothing_again() -> None:
    long_term, short_term = InProcessLongTermMemory(), InProcessShortTermMemory(POLICY)
    async with process(long_term, short_term) as memory:
        messages = line(SEVERAL)
        await say(memory, messages)
        await found(memory)
        for message in messages[:2]:
            await memory.forgetting.mark(ANN, message.id, forgotten=True)
            await found(memory)
        assert memory.hot.figures().loads == 1


@pytest.mark.parametrize("forgotten", [True, False])
async def test_a_copy_on_disk_from_before_is_never_believed(
    tmp_path: Path, *, forgotten: bool
) -> None:
    long_term, messages = InProcessLongTermMemory(), line(60)
    chosen = messages[7].id

    def warm() -> WarmMemories:
        return WarmMemories(tmp_path, fingerprint="f", exclusive=True)

    async with process(long_term, InProcessShortTermMemory(POLICY), warm()) as memory:
        await say(memory, messages)
        if not forgotten:
            await memory.forgetting.mark(ANN, chosen, forgotten=True)
        await found(memory)
    assert files(tmp_path)
    # By another process that keeps no copies and whose count of commits was lost.
    await long_term.mark_forgotten(ANN, chosen, forgotten=forgotten)
    async with process(long_term, InProcessShortTermMemory(POLICY), warm()) as memory:
        assert (chosen in await found(memory)) is not forgotten
        assert memory.hot.figures().warm_loads == forgotten


async def test_without_short_term_memory_it_takes_effect_here() -> None:
    long_term = InProcessLongTermMemory()
    short_term = FailingShortTerm(POLICY)
    async with process(long_term, short_term) as memory:
        messages = line(SEVERAL)
        await say(memory, messages)
        await found(memory)
        short_term.away = True
        await memory.forgetting.mark(ANN, messages[1].id, forgotten=True)
        embedded = await memory.embed_marked(ANN, "text")
        recall = await memory.recall(ANN, "text", embedded, limit=99)
        assert {item.id for item in recall.items} == {it.id for it in messages} - {messages[1].id}


async def test_a_mark_that_may_have_been_set_is_looked_for() -> None:
    long_term = Unsure()
    async with process(long_term, InProcessShortTermMemory(POLICY)) as memory:
        messages = line(SEVERAL)
        await say(memory, messages)
        await found(memory)
        long_term.lost = True
        with pytest.raises(StoreUnknown):
            await memory.forgetting.mark(ANN, messages[0].id, forgotten=True)
        assert messages[0].id not in await found(memory)


async def test_nothing_becomes_of_what_is_not_there() -> None:
    long_term = InProcessLongTermMemory()
    async with process(long_term, InProcessShortTermMemory(POLICY)) as memory:
        messages = line(SEVERAL)
        await say(memory, messages)
        assert await memory.forgetting.mark(ANN, MessageId("unknown"), forgotten=True) is None
        assert await memory.forgetting.mark(BOB, messages[0].id, forgotten=True) is None
        long_term.away = True
        with pytest.raises(StoreUnavailable):
            await memory.forgetting.mark(ANN, messages[0].id, forgotten=True)
        long_term.away = False
        assert await found(memory) == {message.id for message in messages}
