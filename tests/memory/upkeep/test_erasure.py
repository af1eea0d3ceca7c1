from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest

from memory.conversations import UNTITLED
from memory.dual_memory import DualMemory
from memory.embedding import Embedded
from memory.errors import StoreUnavailable, UserBeingErased
from memory.hidden_users import GuardedLongTermMemory
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import Message, MessageId, UserId, tombstone
from memory.short_term import ShortTermPolicy
from memory.token_marks import no_marks
from memory.upkeep.erasure import Erasures, ErasureTimes
from memory.upkeep.ledger import Erasure, SqliteLedger
from memory.upkeep.scrubbing import Scrubbed
from tests.contracts.long_term_world import TEA, line, said, somebody
from tests.memory.failing_short_term import FailingShortTerm

NO_MARKS = no_marks(384)
AT_ONCE = ErasureTimes(gather_s=0.0, gather_at_most_s=0.1, retry_s=0.01)


class Scrubs:
    """Counts scrubs, waits at a gate, and fails when it is told to."""

    def __init__(self, inner: InProcessLongTermMemory) -> None:
        self._inner = inner
        self.count = 0
        self.failures = 0
        self.gate = anyio.Event()
        self.gate.set()
        self.began = anyio.Event()
        self.late: Message | None = None

    async def holds_user(self, user: UserId) -> bool:
        return bool((await self._inner.newest(user, limit=1)).messages)

    async def scrub(self) -> Scrubbed:
        self.began.set()
        await self.gate.wait()
        self.count += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is full")
        if self.late is not None:  # a write that was sent long ago
            self._inner._messages[self.late.id] = self.late
            self._inner._vectors[self.late.id] = np.zeros(self._inner._dimension, np.float32)
            self.late = None
        return Scrubbed(0.0, 0.0, 0)


class Notes:
    """One more place that keeps words; fails for *stuck*."""

    def __init__(self, forgotten: list[str], stuck: UserId | None = None) -> None:
        self._forgotten = forgotten
        self._stuck = stuck

    async def forget_user(self, user: UserId) -> None:
        if user == self._stuck:
            raise StoreUnavailable("in use")
        self._forgotten.append(user)

    async def forget_messages(self, ids: Collection[MessageId]) -> None:
        self._forgotten += ids


class World:
    def __init__(self, folder: Path, memory: DualMemory, erasures: Erasures) -> None:
        self.folder = folder
        self.memory = memory
        self.erasures = erasures
        self.begun: list[UserId] = []
        self.forgotten: list[str] = []

    async def say(self, message: Message) -> None:
        vector = await self.memory.embed(message.text)
        await self.memory.record(message, vector)
        if message.parent is None:
            await self.memory.conversations.begin(message)
        await self.memory.append_window(message, vector, active=True)

    async def finished(self, erasure: Erasure) -> Erasure:
        with anyio.fail_after(10):
            while True:
                (found,) = [it for it in await self.erasures.latest(50) if it.id == erasure.id]
                if found.finished_at is not None:
                    return found
                await anyio.sleep(0.005)


@pytest.fixture
def inner() -> InProcessLongTermMemory:
    return InProcessLongTermMemory(dimension=InProcessEmbedder().dimension)


@pytest.fixture
def short_term() -> FailingShortTerm:
    return FailingShortTerm(ShortTermPolicy())


@pytest.fixture
def scrubs(inner: InProcessLongTermMemory) -> Scrubs:
    return Scrubs(inner)


@asynccontextmanager
async def opened(
    folder: Path,
    inner: InProcessLongTermMemory,
    short_term: FailingShortTerm,
    scrubs: Scrubs | None,
    times: ErasureTimes = AT_ONCE,
) -> AsyncIterator[World]:
    """A process's memory; what it did not finish is resumed by the next one."""
    guard = GuardedLongTermMemory(inner)
    ledger = SqliteLedger.open(folder)
    async with (
        open_hot_memories(guard, HotLimits(messages=100, size_bytes=10_000_000)) as hot,
        anyio.create_task_group() as tasks,
    ):
        memory = DualMemory(guard, short_term, InProcessEmbedder(), hot, window_messages=10)
        forgotten: list[str] = []

        erasures = Erasures(
            ledger, memory, guard, scrubs, keepsakes=[Notes(forgotten)], times=times
        )
        world = World(folder, memory, erasures)
        world.forgotten = forgotten
        erasures.on_begin(world.begun.append)
        await erasures.resume()
        tasks.start_soon(erasures.run)
        yield world
        tasks.cancel_scope.cancel()
    ledger.close()


@pytest.fixture
async def world(
    tmp_path: Path,
    inner: InProcessLongTermMemory,
    short_term: FailingShortTerm,
    scrubs: Scrubs,
) -> AsyncIterator[World]:
    async with opened(tmp_path, inner, short_term, scrubs) as it:
        yield it


async def test_a_user_is_hidden_at_once_and_gone_when_it_is_finished(
    world: World, scrubs: Scrubs, inner: InProcessLongTermMemory, short_term: FailingShortTerm
) -> None:
    user, other = somebody(), somebody("ben")
    for each in (user, other):
        for message in line(each, 3):
            await world.say(message)
    scrubs.gate = anyio.Event()
    erasure = await world.erasures.forget_user(user)
    assert erasure.finished_at is None
    assert world.begun == [user]
    assert await world.memory.long_term.latest(user, TEA, limit=10) == []
    assert (await world.memory.conversations.page(user, limit=10)).conversations == ()
    vector = await world.memory.embed("text")
    assert (
        await world.memory.recall(user, "text", Embedded(vector, NO_MARKS), limit=5)
    ).items == ()
    with pytest.raises(UserBeingErased):
        await world.say(said(user))
    scrubs.gate.set()
    await world.finished(erasure)
    assert not await scrubs.holds_user(user)
    assert world.forgotten == [user, user], "and what was kept there while it was being erased"
    assert (await short_term.admit(user, TEA)).window is None
    assert (
        len((await world.memory.recall(other, "text", Embedded(vector, NO_MARKS), limit=5)).items)
        == 3
    )
    await world.say(said(user, "a new beginning"))
    found = await world.memory.recall(user, "beginning", Embedded(vector, NO_MARKS), limit=5)
    assert [item.text for item in found.items] == ["a new beginning"]


async def test_a_deleted_message_is_a_tombstone_at_once_and_everywhere(
    world: World, scrubs: Scrubs, inner: InProcessLongTermMemory, short_term: FailingShortTerm
) -> None:
    user = somebody()
    first, second, third = line(user, 3)
    for message in (first, second, third):
        await world.say(message)
    scrubs.gate = anyio.Event()
    erasure = await world.erasures.delete_messages(user, [first.id])
    assert erasure is not None
    assert erasure.messages == (first.id,)
    assert await world.memory.long_term.by_ids(user, [first.id]) == [tombstone(first)]
    (conversation,) = (await world.memory.conversations.page(user, limit=5)).conversations
    assert conversation.title == UNTITLED
    vector = await world.memory.embed(first.text)
    found = await world.memory.recall(user, first.text, Embedded(vector, NO_MARKS), limit=5)
    assert first.id not in {item.id for item in found.items}
    scrubs.gate.set()
    await world.finished(erasure)
    assert world.forgotten == [first.id]
    assert await inner.by_ids(user, [first.id]) == [tombstone(first)]
    assert await world.memory.long_term.latest(user, TEA, limit=5) == [
        tombstone(first),
        second,
        third,
    ]
    assert (await short_term.admit(user, TEA)).window is None
    (conversation,) = (await world.memory.conversations.page(user, limit=5)).conversations
    assert conversation.title == UNTITLED
    assert await world.erasures.delete_messages(user, [first.id]) is None


async def test_a_title_that_somebody_else_gave_stays(
    world: World, inner: InProcessLongTermMemory
) -> None:
    user = somebody()
    first, second = line(user, 2)
    for message in (first, second):
        await world.say(message)
    erasure = await world.erasures.delete_messages(user, [second.id])
    assert erasure is not None
    await world.finished(erasure)
    (conversation,) = (await world.memory.conversations.page(user, limit=5)).conversations
    assert conversation.title == first.text


async def test_a_message_and_then_all_of_its_user_are_erased_together(
    world: World, scrubs: Scrubs
) -> None:
    user = somebody()
    messages = line(user, 3)
    for message in messages:
        await world.say(message)
    scrubs.gate = anyio.Event()
    single = await world.erasures.delete_messages(user, [messages[0].id])
    everything = await world.erasures.forget_user(user)
    assert single is not None
    scrubs.gate.set()
    await world.finished(single)
    await world.finished(everything)
    assert not await scrubs.holds_user(user)
    await world.say(said(user))


async def test_foreign_messages_are_not_deleted(world: World) -> None:
    user, eve = somebody(), somebody("eve")
    message = said(user)
    await world.say(message)
    assert await world.erasures.delete_messages(eve, [message.id]) is None
    assert await world.memory.long_term.by_ids(user, [message.id]) == [message]


async def test_what_a_process_did_not_finish_the_next_one_does(
    tmp_path: Path, inner: InProcessLongTermMemory, short_term: FailingShortTerm, scrubs: Scrubs
) -> None:
    user, other = somebody(), somebody("ben")
    theirs = said(other)
    scrubs.gate = anyio.Event()
    async with opened(tmp_path, inner, short_term, scrubs) as world:
        for message in (*line(user, 3), theirs):
            await world.say(message)
        erasure = await world.erasures.forget_user(user)
        deletion = await world.erasures.delete_messages(other, [theirs.id])
        assert deletion is not None
        await scrubs.began.wait()  # killed in the middle of it
    inner._messages[theirs.id] = theirs  # as if it had been killed earlier still
    async with opened(tmp_path, inner, short_term, scrubs) as world:
        assert world.begun == [user]
        with pytest.raises(UserBeingErased):
            await world.say(said(user))
        assert await world.memory.long_term.by_ids(other, [theirs.id]) == [tombstone(theirs)]
        scrubs.gate.set()
        await world.finished(erasure)
        await world.finished(deletion)
    assert not await scrubs.holds_user(user)
    assert await inner.by_ids(other, [theirs.id]) == [tombstone(theirs)]


async def test_several_erasures_share_a_scrub(
    tmp_path: Path, inner: InProcessLongTermMemory, short_term: FailingShortTerm, scrubs: Scrubs
) -> None:
    gathering = ErasureTimes(gather_s=0.1, gather_at_most_s=5.0)
    async with opened(tmp_path, inner, short_term, scrubs, gathering) as world:
        users = [somebody(str(number)) for number in range(5)]
        for user in users:
            await world.say(said(user))
        for erasure in [await world.erasures.forget_user(user) for user in users]:
            await world.finished(erasure)
    assert scrubs.count == 1


async def test_asking_again_meanwhile_is_the_same_erasure(world: World, scrubs: Scrubs) -> None:
    user = somebody()
    scrubs.gate = anyio.Event()
    first = await world.erasures.forget_user(user)
    assert await world.erasures.forget_user(user) == first
    scrubs.gate.set()
    await world.finished(first)
    await world.say(said(user))


async def test_what_is_in_the_way_is_waited_for_and_the_user_stays_hidden(
    world: World, scrubs: Scrubs, short_term: FailingShortTerm
) -> None:
    user = somebody()
    await world.say(said(user))
    scrubs.failures = 2
    short_term.away = True
    erasure = await world.erasures.forget_user(user)
    await anyio.sleep(0.05)
    assert world.memory.long_term.is_hidden(user)  # type: ignore[attr-defined]
    assert scrubs.count == 0
    short_term.away = False
    await world.finished(erasure)
    assert scrubs.count == 3


async def test_one_that_cannot_be_done_keeps_no_other_from_being_done(
    tmp_path: Path, inner: InProcessLongTermMemory, short_term: FailingShortTerm, scrubs: Scrubs
) -> None:
    stuck, other = somebody("stuck"), somebody()

    async with opened(tmp_path, inner, short_term, scrubs) as world:
        world.erasures._keepsakes = (Notes([], stuck),)
        await world.erasures.forget_user(stuck)
        await world.finished(await world.erasures.forget_user(other))


async def test_a_write_that_comes_late_begins_the_erasure_again(
    world: World, scrubs: Scrubs
) -> None:
    user, other = somebody(), somebody("ben")
    await world.say(said(user))
    await world.say(said(other))
    scrubs.late = said(user, "late")
    await world.finished(await world.erasures.forget_user(user))
    assert not await scrubs.holds_user(user)
    assert scrubs.count >= 2


async def test_without_files_records_are_deleted_and_nothing_is_scrubbed(
    tmp_path: Path, inner: InProcessLongTermMemory, short_term: FailingShortTerm
) -> None:
    async with opened(tmp_path, inner, short_term, None) as world:
        assert not world.erasures.scrubs
        user = somebody()
        await world.say(said(user))
        await world.finished(await world.erasures.forget_user(user))
        assert (await inner.newest(user, limit=5)).messages == ()
