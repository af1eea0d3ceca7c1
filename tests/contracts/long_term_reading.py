"""What every long-term memory must find: conversations, a user's newest, nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.long_term import LongTermMemory
from memory.messages import Conversation, ConversationId, Message, MessageId, UserId
from tests.contracts.long_term_world import (
    TEA,
    chat,
    headed,
    line,
    said,
    somebody,
    store,
    store_at_once,
    vector_of,
)

ids = st.one_of(
    st.sampled_from(
        ["a", "a/0", "a/0/0", "a/0/1", "/", "", "A", "%61", "2024-05", "a.b", "..", "ü"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)


class ReadingContract:
    """Subclasses provide the fixture ``memory``; its tests share it and use users of their own."""

    @pytest.fixture
    def user(self) -> UserId:
        return somebody()

    # A conversation

    async def test_the_latest_are_found_across_all_boundaries(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 70)
        await store_at_once(memory, messages)
        for limit in range(1, 41):
            assert await memory.latest(user, TEA, limit=limit) == messages[-limit:]
        for end in (0, 1, 15, 16, 17, 31, 32, 48, 69):
            before = await memory.latest(user, TEA, limit=20, before=messages[end].id)
            assert before == messages[max(0, end - 20) : end]
        assert await memory.latest(user, TEA, limit=1_000) == messages
        assert await memory.latest(user, TEA, limit=0) == []

    @pytest.mark.parametrize("length", [1, 16, 49, 64, 65, 80, 81, 161, 400, 560])
    async def test_the_end_of_a_conversation_of_any_length_is_found(
        self, memory: LongTermMemory, user: UserId, length: int
    ) -> None:
        messages = line(user, length)
        for start in range(0, length, 400):  # more at once from one user would be too busy
            await store_at_once(memory, messages[start : start + 400])
        assert await memory.latest(user, TEA, limit=3) == messages[-3:]

    async def test_an_unknown_conversation_is_empty(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        assert await memory.latest(user, TEA, limit=10) == []
        await store(memory, [said(user)])
        assert await memory.latest(user, ConversationId("other"), limit=10) == []
        assert await memory.latest(somebody("eve"), TEA, limit=10) == []

    async def test_nothing_leads_to_a_message_of_another_conversation(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        here = line(user, 2)
        there = line(user, 2, conversation=ConversationId("there"))
        await store(memory, [*here, *there])
        assert await memory.latest(user, TEA, limit=10, before=there[1].id) == []
        assert await memory.latest(user, TEA, limit=10, before=MessageId("unknown")) == []
        assert await memory.latest(somebody("eve"), TEA, limit=10, before=here[1].id) == []

    async def test_of_siblings_the_newest_is_shown_until_a_head_is_chosen(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        trunk = line(user, 2)
        left, right = said(user, "left", after=trunk[-1]), said(user, "right", after=trunk[-1])
        await store(memory, [*trunk, left, right])
        assert await memory.latest(user, TEA, limit=10) == [*trunk, right]
        conversation = chat(user, TEA)
        await memory.save_conversation(headed(conversation, left))
        assert await memory.latest(user, TEA, limit=10) == [*trunk, left]
        await memory.save_conversation(headed(conversation, trunk[0]))
        assert await memory.latest(user, TEA, limit=10) == [*trunk, right]

    async def test_below_a_chosen_head_the_newest_leaf_is_shown(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        trunk = line(user, 10)
        long = line(user, 300, after=trunk[4])
        short = line(user, 40, after=trunk[4])
        await store_at_once(memory, [*trunk, *long])
        await store_at_once(memory, short)
        conversation = chat(user, TEA)
        await memory.save_conversation(headed(conversation, long[0]))
        assert await memory.latest(user, TEA, limit=7) == long[-7:]
        await memory.save_conversation(headed(conversation, short[0]))
        assert await memory.latest(user, TEA, limit=42) == [*trunk[3:5], *short]
        await memory.save_conversation(headed(conversation, trunk[4]))
        assert await memory.latest(user, TEA, limit=7) == short[-7:]
        last = said(user, "after all", after=long[20])
        await store(memory, [last])
        assert await memory.latest(user, TEA, limit=3) == [*long[19:21], last]

    async def test_a_head_that_is_not_in_the_conversation_is_passed_over(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 3)
        await store(memory, messages)
        stray = said(user, conversation=ConversationId("other"))
        await memory.save_conversation(headed(chat(user, TEA), stray))
        assert await memory.latest(user, TEA, limit=10) == messages

    # All branches

    async def test_a_tree_is_read_from_its_roots_to_its_leaves(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        trunk = line(user, 300)
        left, right = line(user, 3, after=trunk[4]), line(user, 290, after=trunk[4])
        await store_at_once(memory, [*trunk, *left])
        await store_at_once(memory, right)
        found: list[Message] = []
        depth: int | None = 0
        while depth is not None:
            page = await memory.tree(user, TEA, depth=depth)
            assert all(message.depth >= depth for message in page.messages)
            found += page.messages
            depth = page.depth
        assert len(found) == len(trunk) + len(left) + len(right)
        assert {it.id for it in found} == {it.id for it in [*trunk, *left, *right]}
        assert [it.depth for it in found] == sorted(it.depth for it in found)
        branches = [it for it in found if it.parent == trunk[4].id]
        assert branches == [trunk[5], left[0], right[0]]
        below = await memory.tree(user, TEA, depth=293)
        assert {it.depth for it in below.messages} >= {293, 294}
        nothing = await memory.tree(somebody("eve"), TEA)
        assert (nothing.messages, nothing.depth) == ((), None)

    # All of a user's

    async def test_the_newest_are_read_backwards_through_the_months(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        days = [(1999, 12, 31), (2024, 2, 1), (2024, 2, 29), (2024, 3, 1), (2026, 1, 1)]
        times = [datetime(*day, tzinfo=UTC).timestamp() for day in days]
        messages = [said(user, timestamp=time) for time in times for _ in range(3)]
        await store(memory, [*messages, *line(somebody("eve"), 3)])
        for limit in (1, 2, 4, 15, 16):
            found: list[Message] = []
            before: str | None = None
            while True:
                page = await memory.newest(user, limit=limit, before=before)
                assert page.vectors.shape == (len(page.messages), 8)
                assert page.vectors.dtype == np.float32
                for message, vector in zip(page.messages, page.vectors, strict=True):
                    np.testing.assert_allclose(vector, vector_of(message), atol=1e-6)
                found += page.messages
                before = page.before
                if before is None:
                    break
                assert len(page.messages) == limit
            assert found == messages[::-1]

    async def test_a_walk_is_not_disturbed_by_what_is_stored_meanwhile(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 9)
        await store(memory, messages)
        first = await memory.newest(user, limit=4)
        await store(memory, line(user, 3, conversation=ConversationId("other")))
        second = await memory.newest(user, limit=10, before=first.before)
        assert [*first.messages, *second.messages] == messages[::-1]
        assert second.before is None

    async def test_somebody_new_has_nothing(self, memory: LongTermMemory, user: UserId) -> None:
        page = await memory.newest(user, limit=10)
        assert (page.messages, page.vectors.shape, page.before) == ((), (0, 8), None)
        assert (await memory.conversations(user, limit=10)).conversations == ()
        assert await memory.conversation(user, TEA) is None
        assert await memory.by_ids(user, [MessageId("m")]) == []

    # Conversations

    async def test_the_last_saved_conversation_counts(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        first = chat(user, TEA)
        await memory.save_conversation(first)
        assert await memory.conversation(user, TEA) == first
        second = msgspec.structs.replace(first, title="", updated_at=9.25, head=MessageId("m1"))
        await memory.save_conversation(second)
        assert await memory.conversation(user, TEA) == second
        assert (await memory.conversations(user, limit=10)).conversations == (second,)
        await memory.save_conversation(first)
        assert await memory.conversation(user, TEA) == first

    async def test_conversations_come_last_updated_first_in_pages(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        saved = [chat(user, f"c{number}", updated_at=number // 2) for number in range(9)]
        async with anyio.create_task_group() as tasks:
            for conversation in [*saved, chat(somebody("eve"), "c1", updated_at=99)]:
                tasks.start_soon(memory.save_conversation, conversation)
        for limit in (1, 2, 9, 10):
            found: list[Conversation] = []
            before: str | None = None
            while True:
                page = await memory.conversations(user, limit=limit, before=before)
                found += page.conversations
                before = page.before
                if before is None:
                    break
            assert sorted(found, key=lambda it: it.updated_at, reverse=True) == found
            assert sorted(found, key=lambda it: it.id) == saved

    # Apart from each other

    @given(places=st.lists(st.tuples(ids, ids), min_size=2, max_size=4, unique=True))
    @settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    async def test_users_and_conversations_never_mix(
        self, memory: LongTermMemory, places: list[tuple[str, str]]
    ) -> None:
        salt = somebody("")
        stored = {
            (UserId(user + salt), ConversationId(conversation)): line(
                UserId(user + salt), 2, conversation=ConversationId(conversation)
            )
            for user, conversation in places
        }
        await store_at_once(memory, [message for own in stored.values() for message in own])
        everything = [message.id for own in stored.values() for message in own]
        for user, conversation in stored:
            await memory.save_conversation(chat(user, conversation))
        for (user, conversation), messages in stored.items():
            assert await memory.latest(user, conversation, limit=10) == messages
            own = [message for key, value in stored.items() if key[0] == user for message in value]
            assert await memory.by_ids(user, everything) == own
            newest = (await memory.newest(user, limit=100)).messages
            assert {message.id for message in newest} == {message.id for message in own}
            listed = (await memory.conversations(user, limit=100)).conversations
            assert {it.id for it in listed} == {key[1] for key in stored if key[0] == user}
            assert await memory.conversation(user, conversation) == chat(user, conversation)
