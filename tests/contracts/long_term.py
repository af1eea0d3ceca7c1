"""What every long-term memory must do; a backend's tests subclass this suite."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.errors import IdConflict
from memory.long_term import LongTermMemory
from memory.messages import Appended, Conversation, ConversationId, Message, MessageId, UserId
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


class LongTermContract:
    """Subclasses provide the fixture ``memory``; its tests share it and use users of their own."""

    @pytest.fixture
    def user(self) -> UserId:
        return somebody()

    # Storing once

    async def test_every_field_of_a_message_comes_back(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        first = said(user)
        reply = Message(
            id=MessageId(f"r{first.id}"),
            user=user,
            conversation=TEA,
            role="assistant",
            text='\n"}{\\\0 \u2028 \U0001f375',
            timestamp=1_700_000_000.123456,
            depth=1,
            parent=first.id,
            client_id="c",
            author="Ann",
            status="stopped",
            model="m",
            reply_to=first.id,
        )
        assert await memory.append(first, vector_of(first)) == Appended(first, duplicate=False)
        assert await memory.append(reply, vector_of(reply)) == Appended(reply, duplicate=False)
        assert await memory.by_ids(user, [first.id, reply.id]) == [first, reply]

    async def test_a_message_is_stored_once(self, memory: LongTermMemory, user: UserId) -> None:
        message = said(user)
        later = msgspec.structs.replace(message, timestamp=message.timestamp + 60)
        await memory.append(message, vector_of(message))
        assert await memory.append(later, vector_of(later)) == Appended(message, duplicate=True)
        assert await memory.latest(user, TEA, limit=10) == [message]

    @pytest.mark.parametrize(
        "change", [{"text": "other"}, {"role": "assistant"}, {"conversation": "elsewhere"}]
    )
    async def test_an_id_never_gets_other_words(
        self, memory: LongTermMemory, user: UserId, change: dict[str, str]
    ) -> None:
        message = said(user)
        await memory.append(message, vector_of(message))
        other = msgspec.structs.replace(message, **change)
        with pytest.raises(IdConflict):
            await memory.append(other, vector_of(other))
        assert await memory.by_ids(user, [message.id]) == [message]
        assert memory.healthy

    async def test_another_users_id_is_never_answered_with_that_users_words(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user, "a secret")
        await memory.append(message, vector_of(message))
        stranger = somebody("eve")
        theirs = msgspec.structs.replace(message, user=stranger)
        (outcome,) = await store_at_once(memory, [theirs])
        assert isinstance(outcome, IdConflict) or outcome == Appended(theirs, duplicate=False)
        assert await memory.by_ids(user, [message.id]) == [message]

    async def test_a_hundred_appends_of_one_message_store_it_once(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        outcomes = await store_at_once(memory, [message] * 100)
        assert outcomes.count(Appended(message, duplicate=False)) == 1
        assert outcomes.count(Appended(message, duplicate=True)) == 99
        assert await memory.latest(user, TEA, limit=10) == [message]

    async def test_of_two_texts_that_race_for_an_id_one_is_stored(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        other = msgspec.structs.replace(message, text="other")
        outcomes = await store_at_once(memory, [message, other] * 10)
        (stored,) = await memory.by_ids(user, [message.id])
        assert outcomes.count(Appended(stored, duplicate=False)) == 1
        assert outcomes.count(Appended(stored, duplicate=True)) == 9
        assert sum(isinstance(outcome, IdConflict) for outcome in outcomes) == 10

    async def test_many_appends_at_once_are_all_stored(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        users = [user, somebody("bob"), somebody("cid"), somebody("dan")]
        messages = [message for each in users for message in line(each, 40)]
        outcomes = await store_at_once(memory, messages)
        assert outcomes == [Appended(message, duplicate=False) for message in messages]
        for each in users:
            own = [message for message in messages if message.user == each]
            assert await memory.latest(each, TEA, limit=50) == own

    async def test_a_cancelled_append_harms_nobody_and_can_be_repeated(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = [said(user, str(number)) for number in range(20)]
        given_up = said(user, "given up")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await memory.append(given_up, vector_of(given_up))
        assert scope.cancelled_caught
        await store(memory, messages)
        assert (await memory.append(given_up, vector_of(given_up))).message == given_up
        found = await memory.by_ids(user, [given_up.id, *(message.id for message in messages)])
        assert found == [given_up, *messages]

    @pytest.mark.parametrize(
        "text", ["", " ", "x" * 12_000, "語" * 4_000, "a\u0301e\u200d\ufeff\U0001f9d1\U0001f3fd"]
    )
    async def test_any_text_comes_back_as_it_was(
        self, memory: LongTermMemory, user: UserId, text: str
    ) -> None:
        message = said(user, text)
        await store(memory, [message])
        assert await memory.by_ids(user, [message.id]) == [message]

    async def test_a_vector_of_another_embedder_is_a_mistake(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        with pytest.raises(ValueError, match="shape"):
            await memory.append(said(user), np.ones(3, dtype=np.float32))

    # By id

    async def test_messages_come_in_the_order_asked_for_without_unknown_and_foreign_ones(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        mine, theirs = line(user, 3), line(somebody("eve"), 2)
        await store(memory, [*mine, *theirs])
        asked = [mine[2].id, theirs[0].id, MessageId("unknown"), mine[0].id, mine[2].id]
        assert await memory.by_ids(user, asked) == [mine[2], mine[0]]
        assert await memory.by_ids(user, []) == []

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

    @pytest.mark.parametrize("length", [1, 16, 49, 64, 65, 80, 81, 161, 400])
    async def test_the_end_of_a_conversation_of_any_length_is_found(
        self, memory: LongTermMemory, user: UserId, length: int
    ) -> None:
        messages = line(user, length)
        await store_at_once(memory, messages)
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

    # For operators

    async def test_it_answers_and_counts(self, memory: LongTermMemory, user: UserId) -> None:
        await store(memory, line(user, 2))
        await memory.ping()
        usage = await memory.usage()
        assert usage["collections"] >= 1
        assert usage.get("records", 2) >= 2
