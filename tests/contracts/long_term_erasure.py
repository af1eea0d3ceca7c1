"""What deleting and forgetting mean in every long-term memory."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import msgspec
import pytest

from memory.errors import IdConflict
from memory.long_term import LongTermMemory
from memory.messages import Appended, ConversationId, MessageId, UserId, tombstone
from tests.contracts.long_term_world import (
    TEA,
    chat,
    line,
    said,
    somebody,
    store,
    vector_of,
    vectors_of,
)


class ErasureContract:
    """Part of the suite for long-term memory."""

    async def test_a_deleted_message_keeps_its_place_and_nothing_else(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        first, second, third = line(user, 3)
        second = msgspec.structs.replace(second, author="Ann", client_id="c2", model="m")
        await store(memory, [first, second, third])
        await memory.delete(user, [second.id])
        left = tombstone(second)
        assert (left.text, left.author, left.status) == ("", None, "deleted")
        assert await memory.by_ids(user, [second.id]) == [left]
        assert await memory.latest(user, TEA, limit=10) == [first, left, third]
        assert (await memory.tree(user, TEA)).messages == (first, left, third)
        page = await memory.newest(user, limit=10)
        assert set(page.messages) == {first, left, third}
        assert not left.recallable

    async def test_what_follows_a_deleted_message_can_be_said_still(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 2)
        await store(memory, messages)
        await memory.delete(user, [message.id for message in messages])
        after = said(user, "later", after=messages[1])
        await store(memory, [after])
        assert await memory.latest(user, TEA, limit=1) == [after]

    async def test_deleting_again_or_what_is_unknown_or_foreign_changes_nothing(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        mine, theirs = said(user), said(somebody("eve"))
        await store(memory, [mine, theirs])
        await memory.delete(user, [MessageId("unknown"), theirs.id])
        await memory.delete(user, [])
        assert await memory.by_ids(theirs.user, [theirs.id]) == [theirs]
        for _ in range(2):
            await memory.delete(user, [mine.id])
        assert await memory.by_ids(user, [mine.id, MessageId("unknown")]) == [tombstone(mine)]

    async def test_deleted_words_do_not_come_back_under_their_id(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        await store(memory, [message])
        await memory.delete(user, [message.id])
        with pytest.raises(IdConflict):
            await memory.append(message, vector_of(message))

    async def test_more_messages_are_deleted_than_fit_one_write(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 230)
        await memory.append_many(messages, vectors_of(messages))
        await memory.delete(user, [message.id for message in messages])
        found = await memory.latest(user, TEA, limit=300)
        assert found == [tombstone(message) for message in messages]

    async def test_all_of_a_user_is_forgotten_and_nothing_of_anybody_else(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        other = somebody("ben")
        mine, theirs = line(user, 130), line(other, 3)
        await memory.append_many(mine, vectors_of(mine))
        await store(memory, theirs)
        for each in (user, other):
            for name in ("tea", "coffee"):
                await memory.save_conversation(chat(each, name))
        await memory.forget_user(user)
        assert await memory.by_ids(user, [message.id for message in mine]) == []
        assert await memory.latest(user, TEA, limit=10) == []
        assert (await memory.tree(user, TEA)).messages == ()
        assert (await memory.newest(user, limit=10)).messages == ()
        assert (await memory.conversations(user, limit=10)).conversations == ()
        assert await memory.conversation(user, ConversationId("tea")) is None
        assert await memory.latest(other, TEA, limit=10) == theirs
        assert len((await memory.conversations(other, limit=10)).conversations) == 2

    async def test_who_was_forgotten_may_begin_anew(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        await store(memory, [message])
        await memory.save_conversation(chat(user, "tea"))
        for _ in range(2):
            await memory.forget_user(user)
        again = await memory.append(message, vector_of(message))
        assert again == Appended(message, duplicate=False)
        assert await memory.latest(user, TEA, limit=10) == [message]
        await memory.save_conversation(chat(user, "tea"))
        assert len((await memory.conversations(user, limit=10)).conversations) == 1

    async def test_forgetting_somebody_unknown_is_nothing(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        await memory.forget_user(user)
        assert await memory.latest(user, TEA, limit=10) == []

    async def test_what_was_asked_for_before_is_not_stored_afterwards(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 300)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memory.append_many, messages, vectors_of(messages))
            await anyio.lowlevel.checkpoint()
            await memory.forget_user(user)
        assert await memory.latest(user, TEA, limit=10) == []
        await memory.ping()
        assert (await memory.newest(user, limit=10)).messages == ()
