"""A conversation is deleted with all that was said in it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from memory.errors import ConversationDeleted, StoreUnavailable
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.short_term import ShortTermPolicy
from tests.contracts.long_term_world import TEA, line, said, somebody, vector_of
from tests.memory.failing_short_term import FailingShortTerm
from tests.memory.upkeep.test_erasure import Scrubs, World, opened


@pytest.fixture
def inner() -> InProcessLongTermMemory:
    return InProcessLongTermMemory(dimension=InProcessEmbedder().dimension)


async def test_it_is_hidden_at_once_and_gone_a_moment_later(
    tmp_path: Path, inner: InProcessLongTermMemory
) -> None:
    scrubs, user = Scrubs(inner), somebody()
    scrubs.gate = anyio.Event()
    async with opened(tmp_path, inner, FailingShortTerm(ShortTermPolicy()), scrubs) as world:
        messages = line(user, 2)
        other = said(somebody("ben"))
        for message in (*messages, other):
            await world.say(message)
        await world.memory.conversations.touch(messages[1])
        waiting = said(user, after=messages[1])
        ids = [*(message.id for message in messages), waiting.id]
        erasure = await world.erasures.delete_conversation(user, TEA, ids)
        store = world.memory.long_term
        assert await world.memory.conversations.find(user, TEA) is None
        assert (await world.memory.conversations.page(user, limit=5)).conversations == ()
        assert [it.status for it in await store.latest(user, TEA, limit=5)] == ["deleted"] * 2
        assert await world.memory.conversations.touch(messages[1]) is None
        with pytest.raises(ConversationDeleted):
            await store.append(waiting, await world.memory.embed(waiting.text))
        scrubs.gate.set()
        await world.finished(erasure)
        assert scrubs.count == 1, "the bytes of the title too"
        assert waiting.id in world.forgotten
        await gone(world, inner, user)
        assert await inner.conversation(other.user, TEA) is not None
        assert await inner.by_ids(other.user, [other.id]) == [other]


async def test_what_a_dead_process_did_not_finish_the_next_one_does(
    tmp_path: Path, inner: InProcessLongTermMemory
) -> None:
    scrubs, user = Scrubs(inner), somebody()
    short_term = FailingShortTerm(ShortTermPolicy())
    messages = line(user, 2)
    async with opened(tmp_path, inner, short_term, scrubs) as world:
        for message in messages:
            await world.say(message)
        scrubs.gate = anyio.Event()
        erasure = await world.erasures.delete_conversation(
            user, TEA, [message.id for message in messages]
        )
    assert (await inner.conversation(user, TEA)) is not None or scrubs.began.is_set()
    async with opened(tmp_path, inner, short_term, scrubs) as world:
        assert await world.memory.conversations.find(user, TEA) is None
        scrubs.gate.set()
        await world.finished(erasure)
        await gone(world, inner, user)


async def test_a_write_of_the_list_that_came_late_is_taken_out_as_well(
    tmp_path: Path, inner: InProcessLongTermMemory
) -> None:
    scrubs, user = Scrubs(inner), somebody()
    async with opened(tmp_path, inner, FailingShortTerm(ShortTermPolicy()), scrubs) as world:
        [message] = line(user, 1)
        await world.say(message)
        known = await inner.conversation(user, TEA)
        assert known is not None
        scrubs.gate = anyio.Event()
        erasure = await world.erasures.delete_conversation(user, TEA, [message.id])
        with anyio.fail_after(10):
            await scrubs.began.wait()
        await inner.save_conversation(known)
        scrubs.gate.set()
        await world.finished(erasure)
        await gone(world, inner, user)


async def test_a_store_that_is_away_only_delays_it(
    tmp_path: Path, inner: InProcessLongTermMemory
) -> None:
    scrubs, user = Scrubs(inner), somebody()
    scrubs.failures = 2
    async with opened(tmp_path, inner, FailingShortTerm(ShortTermPolicy()), scrubs) as world:
        [message] = line(user, 1)
        await world.say(message)
        inner.away = True
        erasure = await world.erasures.delete_conversation(user, TEA, [message.id])
        with pytest.raises(StoreUnavailable):
            await inner.append(message, vector_of(message)[:1].repeat(384))
        inner.away = False
        await world.finished(erasure)
        await gone(world, inner, user)


async def gone(world: World, inner: InProcessLongTermMemory, user: str) -> None:
    assert not [key for key in inner._conversations if key[0] == user]
    left = [it for it in inner._messages.values() if it.user == user]
    assert all((it.text, it.status) == ("", "deleted") for it in left)
    assert not world.memory.conversations._unsaved
