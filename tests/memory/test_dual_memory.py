from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memory import dual_memory
from memory.dual_memory import DualMemory
from memory.embedding import Embedded
from memory.errors import StoreUnavailable
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.short_term import ShortTermPolicy, Window
from memory.token_marks import no_marks
from tests.contracts.short_term_world import ANN, BOB, TEA, line
from tests.memory.failing_short_term import FailingShortTerm
from tests.memory.test_embedding_fallback import Moody

NO_MARKS = no_marks(384)
RUM = ConversationId("rum")
PLACES = [(ANN, TEA), (ANN, RUM), (BOB, TEA)]
WINDOW = 4
NOTHING = np.zeros(384, dtype=np.float32)


class World:
    def __init__(
        self, memory: DualMemory, long_term: InProcessLongTermMemory, short_term: FailingShortTerm
    ) -> None:
        self.memory = memory
        self.long_term = long_term
        self.short_term = short_term

    async def say(self, message: Message) -> None:
        """As a turn does: stored first, then in the window and in recall."""
        vector = await self.memory.embed(message.text)
        await self.memory.record(message, vector)
        await self.memory.append_window(message, vector, active=True)

    async def cached(self, user: UserId, conversation: ConversationId) -> Window | None:
        """The window that short-term memory has, if it answers."""
        if self.short_term.away:
            return None
        return (await self.short_term.admit(user, conversation)).window

    async def window(self, user: UserId = ANN, conversation: ConversationId = TEA) -> list[str]:
        cached = await self.cached(user, conversation)
        window = await self.memory.window(user, conversation, cached, active=True)
        return [message.id for message in window.messages]

    async def recalled(self, user: UserId, text: str = "text") -> set[str]:
        vector = await self.memory.embed(text)
        return {
            it.id
            for it in (
                await self.memory.recall(user, text, Embedded(vector, NO_MARKS), limit=99)
            ).items
        }


@asynccontextmanager
async def opened(embedder: InProcessEmbedder | None = None) -> AsyncIterator[World]:
    long_term, embedder = InProcessLongTermMemory(), embedder or InProcessEmbedder()
    short_term = FailingShortTerm(ShortTermPolicy(user_limit=100_000, window_messages=WINDOW))
    async with open_hot_memories(long_term, HotLimits(messages=500, size_bytes=10_000_000)) as hot:
        memory = DualMemory(long_term, short_term, embedder, hot, window_messages=WINDOW)
        yield World(memory, long_term, short_term)


def ids(messages: list[Message]) -> list[str]:
    return [message.id for message in messages]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "say", "say", "look", "away", "back", "late answers", "flush"]),
            st.sampled_from(PLACES),
        ),
        max_size=40,
    )
)
async def test_windows_and_recall_are_the_store_s_whatever_short_term_memory_does(
    steps: list[tuple[str, tuple[UserId, ConversationId]]],
) -> None:
    said: dict[tuple[UserId, ConversationId], list[Message]] = {place: [] for place in PLACES}
    with capture_logs():
        async with opened() as world:
            for number, (what, (user, conversation)) in enumerate(steps):
                talk = said[user, conversation]
                if what == "say":
                    message = following(talk, f"{user}-{conversation}-{number}", user, conversation)
                    await world.say(message)
                    talk.append(message)
                elif what == "look":
                    assert await world.window(user, conversation) == ids(talk[-WINDOW:])
                elif what == "flush":
                    await lose(world)
                else:
                    world.short_term.away = what == "away"
                    world.short_term.loses_answers = what == "late answers"
                await check_that_nothing_is_cached_that_is_not_stored(world)
            for (user, conversation), talk in said.items():
                assert await world.window(user, conversation) == ids(talk[-WINDOW:])
            for user in (ANN, BOB):
                mine = [talk for (whose, _), talk in said.items() if whose == user]
                assert await world.recalled(user) == {it.id for talk in mine for it in talk}


def following(
    talk: list[Message], name: str, user: UserId, conversation: ConversationId
) -> Message:
    [first] = line(1, user=user, conversation=conversation)
    parent = talk[-1] if talk else None
    return msgspec.structs.replace(
        first,
        id=MessageId(name),
        text=f"text {name}",
        parent=parent.id if parent else None,
        depth=len(talk),
    )


async def lose(world: World) -> None:
    """Short-term memory comes back empty."""
    world.short_term._windows = type(world.short_term._windows)(world.short_term._clock)
    world.short_term._versions = type(world.short_term._versions)(world.short_term._clock)


async def check_that_nothing_is_cached_that_is_not_stored(world: World) -> None:
    for messages in world.short_term._windows.values():
        user = messages[0].user
        stored = await world.long_term.by_ids(user, [message.id for message in messages])
        assert stored == list(messages)


async def test_a_window_that_missed_an_append_is_not_trusted_until_it_was_rebuilt() -> None:
    messages = line(3)
    async with opened() as world:
        await world.say(messages[0])
        world.short_term.away = True
        await world.say(messages[1])
        world.short_term.away = False
        stale = await world.cached(ANN, TEA)
        assert stale == Window((messages[0],))
        assert await world.window() == ids(messages[:2])
        assert await world.cached(ANN, TEA) == Window(tuple(messages[:2]))
        world.long_term.away = True
        assert await world.window() == ids(messages[:2]), "it is trusted again"


async def test_an_append_whose_answer_was_lost_makes_the_window_suspect_too() -> None:
    messages = line(2)
    async with opened() as world:
        await world.say(messages[0])
        world.short_term.loses_answers = True
        await world.say(messages[1])
        world.short_term.loses_answers = False
        world.long_term.away = True
        with pytest.raises(StoreUnavailable):
            await world.window()
        world.long_term.away = False
        assert await world.window() == ids(messages)


async def test_a_rebuild_that_could_not_be_kept_leaves_the_window_suspect() -> None:
    messages = line(2)
    async with opened() as world:
        await world.say(messages[0])
        world.short_term.away = True
        await world.say(messages[1])
        assert await world.window() == ids(messages)
        world.short_term.away = False
        assert await world.window() == ids(messages)
        assert await world.cached(ANN, TEA) == Window(tuple(messages))


async def test_a_window_that_short_term_memory_lacks_is_never_taken_for_an_empty_one() -> None:
    messages = line(6)
    async with opened() as world:
        for message in messages:
            await world.say(message)
        await lose(world)
        assert await world.window() == ids(messages[-WINDOW:])
        assert await world.cached(ANN, TEA) == Window(tuple(messages[-WINDOW:]))


async def test_an_empty_conversation_has_an_empty_window_and_leaves_nothing_behind() -> None:
    async with opened() as world:
        await world.short_term.replace(ANN, TEA, line(1), active=True)
        assert await world.memory.rebuild_window(ANN, TEA, active=True) == Window(())
        assert await world.cached(ANN, TEA) is None


async def test_while_it_is_away_windows_come_from_the_store() -> None:
    messages = line(3)
    async with opened() as world:
        world.short_term.away = True
        for message in messages:
            await world.say(message)
        assert await world.window() == ids(messages)
        assert await world.recalled(ANN) == set(ids(messages))


async def test_a_branch_has_a_window_of_its_own_which_is_kept_nowhere() -> None:
    messages = line(6)
    async with opened() as world:
        for message in messages:
            await world.say(message)
        before = await world.cached(ANN, TEA)
        branch = await world.memory.branch_window(ANN, TEA, messages[2])
        assert list(branch.messages) == messages[:3]
        assert await world.cached(ANN, TEA) == before
        longer = await world.memory.branch_window(ANN, TEA, messages[5])
        assert list(longer.messages) == messages[-WINDOW:]


async def test_suspect_windows_are_dropped_for_other_servers_once_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dual_memory, "DROP_EVERY_S", 0.001)
    messages = line(2)
    async with opened() as world, anyio.create_task_group() as tasks:
        await world.say(messages[0])
        world.short_term.away = True
        await world.say(messages[1])
        tasks.start_soon(world.memory.drop_distrusted)
        with anyio.fail_after(10):
            while "drop" not in world.short_term.asked:
                await anyio.sleep(0.001)
            world.short_term.away = False
            while await world.cached(ANN, TEA) is not None:
                await anyio.sleep(0.001)
        assert await world.window() == ids(messages)
        tasks.cancel_scope.cancel()


async def test_a_message_recorded_twice_is_stored_once() -> None:
    [message] = line(1)
    async with opened() as world:
        vector = await world.memory.embed(message.text)
        assert not (await world.memory.record(message, vector)).duplicate
        again = await world.memory.record(msgspec.structs.replace(message, timestamp=9.0), vector)
        assert again.duplicate
        assert again.message == message


async def test_a_user_recalls_nobody_else_s_messages() -> None:
    async with opened() as world:
        for message in [*line(3), *line(3, user=BOB, begin="b")]:
            await world.say(message)
        assert await world.recalled(ANN) == {"m0", "m1", "m2"}
        assert await world.recalled(BOB) == {"b0", "b1", "b2"}


async def test_what_is_excluded_is_not_recalled_and_the_best_comes_first() -> None:
    async with opened() as world:
        for message in line(5):
            await world.say(message)
        vector = await world.memory.embed("text 3")
        found = await world.memory.recall(ANN, "text 3", Embedded(vector, NO_MARKS), limit=1)
        assert [item.id for item in found.items] == ["m3"]
        without = await world.memory.recall(
            ANN, "text 3", Embedded(vector, NO_MARKS), limit=9, exclude={MessageId("m3")}
        )
        assert {item.id for item in without.items} == {"m0", "m1", "m2", "m4"}


async def test_what_is_said_while_the_embedder_fails_is_found_by_words_then_by_meaning() -> None:
    embedder = Moody(384)
    async with opened(embedder) as world, anyio.create_task_group() as tasks:
        await world.recalled(ANN)
        embedder.hates = ""
        for message in line(3):
            await world.say(message)
        await world.memory.record_many(line(2, conversation=RUM, begin="r"))
        assert await world.window() == ["m0", "m1", "m2"]
        partial = await world.memory.recall(ANN, "text 1", Embedded(NOTHING, NO_MARKS), limit=1)
        assert ([it.id for it in partial.items], partial.partial) == (["m1"], True)
        embedder.hates = None
        tasks.start_soon(world.memory.backfill.run)
        with anyio.fail_after(10):
            while world.memory.backfill.left:
                await anyio.sleep(0.001)
        whole = await world.memory.recall(
            ANN, "1", await world.memory.embed_marked(ANN, "text 1"), limit=1
        )
        assert [(it.id, "meaning" in it.why) for it in whole.items] == [("m1", True)]
        assert not whole.partial
        tasks.cancel_scope.cancel()


async def test_a_store_that_cannot_be_read_does_not_stop_the_warming_up() -> None:
    async with opened() as world:
        world.long_term.away = True
        with capture_logs() as logs:
            await world.memory.warm(ANN)
        assert "recall.not_warmed" in [entry["event"] for entry in logs]
        world.long_term.away = False
        await world.memory.warm(ANN)
        assert await world.recalled(ANN) == set()
