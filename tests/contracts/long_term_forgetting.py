"""What forgetting a message, and undoing that, mean in every long-term memory."""

from __future__ import annotations

import msgspec
import pytest

from memory.long_term import LongTermMemory
from memory.messages import Appended, Message, MessageId, UserId, tombstone
from tests.contracts.long_term_world import TEA, line, said, somebody, store, vector_of


def marked(message: Message) -> Message:
    return msgspec.structs.replace(message, forgotten=True)


class ForgettingContract:
    """Part of the suite for long-term memory."""

    async def test_what_is_forgotten_stands_where_it_was_said(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        first, second, third = line(user, 3)
        second = msgspec.structs.replace(second, author="Ann", client_id="c2")
        await store(memory, [first, second, third])
        gone = await memory.mark_forgotten(user, second.id, forgotten=True)
        assert gone == marked(second)
        assert not gone.recallable
        assert await memory.by_ids(user, [second.id]) == [gone]
        assert await memory.latest(user, TEA, limit=10) == [first, gone, third]
        assert (await memory.tree(user, TEA)).messages == (first, gone, third)
        assert set((await memory.newest(user, limit=10)).messages) == {first, gone, third}
        assert await memory.forgotten(user) == {second.id}

    async def test_forgetting_is_undone_without_a_trace(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        await store(memory, [message])
        before = await memory.newest(user, limit=10)
        for forgotten in (True, True, False, False):
            left = await memory.mark_forgotten(user, message.id, forgotten=forgotten)
            assert left == msgspec.structs.replace(message, forgotten=forgotten)
        assert await memory.forgotten(user) == frozenset()
        after = await memory.newest(user, limit=10)
        assert after.messages == before.messages == (message,)
        assert (after.vectors == before.vectors).all()

    @pytest.mark.parametrize("forgotten", [True, False])
    async def test_what_is_unknown_foreign_or_deleted_is_left_alone(
        self, memory: LongTermMemory, user: UserId, *, forgotten: bool
    ) -> None:
        mine, theirs = said(user), said(somebody("eve"))
        await store(memory, [mine, theirs])
        await memory.delete(user, [mine.id])
        for each in (MessageId("unknown"), theirs.id, mine.id):
            assert await memory.mark_forgotten(user, each, forgotten=forgotten) is None
        assert await memory.by_ids(theirs.user, [theirs.id]) == [theirs]
        assert await memory.by_ids(user, [mine.id]) == [tombstone(mine)]
        assert await memory.forgotten(user) == await memory.forgotten(theirs.user) == frozenset()

    async def test_a_forgotten_message_that_is_deleted_is_forgotten_no_more(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        await store(memory, [message])
        await memory.mark_forgotten(user, message.id, forgotten=True)
        await memory.delete(user, [message.id])
        assert await memory.by_ids(user, [message.id]) == [tombstone(message)]
        assert await memory.forgotten(user) == frozenset()

    async def test_saying_it_again_does_not_undo_it(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        await store(memory, [message])
        await memory.mark_forgotten(user, message.id, forgotten=True)
        again = await memory.append(message, vector_of(message))
        assert again == Appended(marked(message), duplicate=True)
        assert await memory.forgotten(user) == {message.id}

    async def test_a_message_may_be_stored_as_forgotten(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = marked(said(user))
        await store(memory, [message])
        assert await memory.by_ids(user, [message.id]) == [message]
        assert await memory.forgotten(user) == {message.id}

    async def test_nobody_is_told_what_another_has_forgotten(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        other = UserId(f"{user}-2")
        messages = [said(user), said(other)]
        await store(memory, messages)
        await memory.mark_forgotten(other, messages[1].id, forgotten=True)
        assert await memory.forgotten(user) == frozenset()
        await memory.forget_user(other)
        assert await memory.forgotten(other) == frozenset()
