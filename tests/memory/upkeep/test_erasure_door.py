"""Several processes over one ledger: each has a memory of its own, all have the same store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from memory.conversations import UNTITLED
from memory.dual_memory import DualMemory
from memory.errors import LineBroken, StoreUnavailable, UpkeepRefused, UserBeingErased
from memory.hidden_users import GuardedLongTermMemory
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import Message, MessageId, UserId
from memory.short_term import ShortTermPolicy
from memory.upkeep import erasure_door
from memory.upkeep.erasure import Erasures, ErasureTimes
from memory.upkeep.erasure_door import ErasureDoor, Keepsake
from memory.upkeep.ledger import Erasure, SqliteLedger
from tests.contracts.long_term_world import TEA, line, said, somebody
from tests.memory.failing_short_term import FailingShortTerm

AT_ONCE = ErasureTimes(gather_s=0.0, gather_at_most_s=0.1, retry_s=0.01)


class Notes:
    """One more place that keeps words."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget_user(self, user: UserId) -> None:
        self.forgotten.append(user)

    async def forget_messages(self, ids: Collection[MessageId]) -> None:
        self.forgotten += ids


class Servers:
    """The other processes, as a place that keeps words."""

    def __init__(self) -> None:
        self.doors: list[ErasureDoor] = []
        self.away = 0

    def check(self) -> None:
        if self.away:
            self.away -= 1
            raise LineBroken("a worker is not there")

    async def forget_user(self, user: UserId) -> None:
        self.check()
        for door in self.doors:
            await door.forget_user_here(user)

    async def forget_messages(self, ids: Collection[MessageId]) -> None:
        self.check()
        for door in self.doors:
            await door.forget_messages_here(ids)


class Process:
    def __init__(self, door: ErasureDoor, memory: DualMemory, notes: Notes) -> None:
        self.door = door
        self.memory = memory
        self.notes = notes
        self.begun: list[UserId] = []
        door.on_begin(self.begun.append)

    async def say(self, message: Message) -> None:
        vector = await self.memory.embed(message.text)
        await self.memory.record(message, vector)
        if message.parent is None:
            await self.memory.conversations.begin(message)
        await self.memory.append_window(message, vector, active=True)

    async def texts(self, user: UserId) -> list[str]:
        return [it.text for it in await self.memory.long_term.latest(user, TEA, limit=10)]

    async def title(self, user: UserId) -> str | None:
        page = await self.memory.conversations.page(user, limit=10)
        return page.conversations[0].title if page.conversations else None


class World:
    """Processes over one store in *folder*; those that serve watch the ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inner = InProcessLongTermMemory(dimension=InProcessEmbedder().dimension)
        self._short_term = FailingShortTerm(ShortTermPolicy())
        self.servers = Servers()

    @asynccontextmanager
    async def serving(self, *, watched: bool = True) -> AsyncIterator[Process]:
        def make(
            ledger: SqliteLedger, memory: DualMemory, guard: GuardedLongTermMemory, notes: Notes
        ) -> ErasureDoor:
            return ErasureDoor(ledger, memory, guard, keepsakes=[notes], scrubs=True)

        async with self._process(make) as process, anyio.create_task_group() as tasks:
            self.servers.doors.append(process.door)
            if watched:
                tasks.start_soon(process.door.watch)
            yield process
            tasks.cancel_scope.cancel()
            self.servers.doors.remove(process.door)

    @asynccontextmanager
    async def erasing(self) -> AsyncIterator[Erasures]:
        async with self._process(self._make_eraser) as process, anyio.create_task_group() as tasks:
            eraser = process.door
            assert isinstance(eraser, Erasures)
            tasks.start_soon(eraser.watch)
            tasks.start_soon(eraser.run)
            yield eraser
            tasks.cancel_scope.cancel()

    def _make_eraser(
        self, ledger: SqliteLedger, memory: DualMemory, guard: GuardedLongTermMemory, notes: Notes
    ) -> ErasureDoor:
        keepsakes: Sequence[Keepsake] = [self.servers, notes]
        eraser = Erasures(ledger, memory, guard, None, keepsakes=keepsakes, times=AT_ONCE)
        eraser.serves = False
        return eraser

    @asynccontextmanager
    async def _process(
        self,
        make: Callable[[SqliteLedger, DualMemory, GuardedLongTermMemory, Notes], ErasureDoor],
    ) -> AsyncIterator[Process]:
        guard, notes = GuardedLongTermMemory(self._inner), Notes()
        with closing(SqliteLedger.open(self._folder)) as ledger:
            async with open_hot_memories(
                guard, HotLimits(messages=100, size_bytes=10_000_000)
            ) as hot:
                memory = DualMemory(
                    guard, self._short_term, InProcessEmbedder(), hot, window_messages=10
                )
                process = Process(make(ledger, memory, guard, notes), memory, notes)
                await process.door.resume()
                yield process


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(erasure_door, "LOOK_EVERY_S", 0.01)
    return World(tmp_path)


async def finished(process: Process, erasure: Erasure) -> None:
    with anyio.fail_after(10):
        while True:
            found = await process.door.find(erasure.id)
            if found is not None and found.finished_at is not None:
                return
            await anyio.sleep(0.005)


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not fact():
            await anyio.sleep(0.005)


async def test_what_one_process_enters_all_hide_and_forget_before_it_is_carried_out(
    world: World,
) -> None:
    user = somebody()
    async with world.serving() as one, world.serving() as other:
        for message in line(user, 2):
            await one.say(message)
        assert len(await other.texts(user)) == 2
        erasure = await one.door.forget_user(user)
        await until(lambda: other.begun == [user])
        assert await other.texts(user) == []
        with pytest.raises(UserBeingErased):
            await other.say(said(user))
        async with world.erasing():
            await finished(one, erasure)
        for each in (one, other):
            assert each.notes.forgotten == [user, user], "before the records went, and after"
            await until(lambda at=each: not at.door._unfinished)  # type: ignore[misc]
            await each.say(said(user, "a new beginning"))


async def test_others_have_looked_when_it_is_answered(world: World) -> None:
    user = somebody()
    async with (
        world.serving(watched=False) as one,
        world.serving(watched=False) as other,
    ):
        one.door.tell_others = other.door.refresh
        await other.say(said(user))
        await one.door.forget_user(user)
        assert await other.texts(user) == []


async def test_others_that_cannot_be_told_look_by_themselves(world: World) -> None:
    async def nobody_there() -> None:
        raise LineBroken("gone")

    user = somebody()
    async with world.serving() as one, world.serving() as other:
        one.door.tell_others = nobody_there
        await one.door.forget_user(user)
        await until(lambda: other.begun == [user])


async def test_nothing_is_carried_out_while_a_process_has_not_forgotten(world: World) -> None:
    user = somebody()
    world.servers.away = 3
    async with world.serving() as one:
        await one.say(said(user))
        erasure = await one.door.forget_user(user)
        async with world.erasing():
            await finished(one, erasure)
        assert world.servers.away == 0


async def test_a_deleted_message_leaves_no_title_that_another_process_would_write(
    world: World,
) -> None:
    user = somebody()
    first, second = line(user, 2)
    async with world.serving(watched=False) as one, world.serving(watched=False) as other:
        for message in (first, second):
            await one.say(message)
        await other.memory.conversations.touch(second)  # it waits there to be written
        one.door.tell_others = other.door.refresh
        erasure = await one.door.delete_messages(user, [first.id])
        assert erasure is not None
        for each in (other, one):
            assert await each.title(user) == UNTITLED
            assert await each.texts(user) == ["", second.text]
        async with world.erasing():
            await finished(one, erasure)
        for each in (other, one):
            assert first.id in each.notes.forgotten
            await each.door.refresh()
            assert await each.title(user) == UNTITLED
            assert await each.texts(user) == ["", second.text]


async def test_two_processes_enter_one_erasure(world: World) -> None:
    user = somebody()
    async with world.serving() as one, world.serving() as other:
        entered: list[Erasure] = []

        async def enter(process: Process) -> None:
            entered.append(await process.door.forget_user(user))

        async with anyio.create_task_group() as tasks:
            for each in (one, other, one, other):
                tasks.start_soon(enter, each)
        assert len({erasure.id for erasure in entered}) == 1
        assert len(await one.door.latest(10)) == 1


async def test_a_process_that_begins_later_hides_what_is_unfinished(world: World) -> None:
    user = somebody()
    async with world.serving() as one:
        await one.say(said(user))
        await one.door.forget_user(user)
        async with world.serving() as late:
            assert await late.texts(user) == []


async def test_a_store_that_cannot_be_read_hides_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> list[Message]:
        raise StoreUnavailable("away")

    user = somebody()
    async with world.serving(watched=False) as one, world.serving(watched=False) as other:
        message = said(user)
        await one.say(message)
        await one.door.delete_messages(user, [message.id])
        monkeypatch.setattr(InProcessLongTermMemory, "by_ids", away)
        await other.door.refresh()
        monkeypatch.undo()
        assert await other.texts(user) == [""]


async def test_whose_messages_are_deleted_is_told_when_they_are_hidden_and_when_they_are_gone(
    world: World,
) -> None:
    user = somebody()
    message = said(user, "a secret")
    async with world.serving() as one, world.serving() as two:
        await one.say(message)
        told: list[UserId] = []
        two.door.on_messages(told.append)
        erasure = await one.door.delete_messages(user, [message.id])
        assert erasure is not None
        await until(lambda: told == [user])
        async with world.erasing():
            await finished(one, erasure)
        await until(lambda: told == [user, user])


async def test_what_the_ledger_does_not_take_is_not_begun_and_can_be_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = somebody()

    def is_full(*_: object) -> Erasure:
        raise UpkeepRefused("the ledger of erasures cannot be used: disk is full")

    async with world.serving() as one:
        await one.say(said(user, "still there"))
        with monkeypatch.context() as full:
            full.setattr(one.door._ledger, "begin", is_full)
            with pytest.raises(StoreUnavailable):
                await one.door.forget_user(user)
            assert await one.texts(user) == ["still there"]
        await one.door.forget_user(user)
        assert await one.texts(user) == []
