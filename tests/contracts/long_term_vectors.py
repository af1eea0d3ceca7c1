"""What every long-term memory must do with messages that have no vector yet."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from memory.long_term import LongTermMemory
from memory.messages import Appended, Message, UserId
from tests.contracts.long_term_world import (
    DIMENSION,
    TEA,
    line,
    said,
    somebody,
    vector_of,
    vectors_of,
)

NOTHING = np.zeros(DIMENSION, dtype=np.float32)


class VectorsContract:
    """Subclasses provide the fixture ``memory``; its tests share it and use users of their own."""

    @pytest.fixture
    def noted(self, memory: LongTermMemory) -> list[Message]:
        noted: list[Message] = []
        memory.watch_unembedded(noted.append)
        return noted

    async def test_a_message_without_a_vector_is_stored_and_told_of(
        self, memory: LongTermMemory, user: UserId, noted: list[Message]
    ) -> None:
        without, having = line(user, 2)
        assert await memory.append(without, NOTHING) == Appended(without, duplicate=False)
        await memory.append(having, vector_of(having))
        assert noted == [without]
        assert await memory.latest(user, TEA, limit=5) == [without, having]
        page = await memory.newest(user, limit=5)
        assert list(page.messages) == [having, without]
        np.testing.assert_allclose(page.vectors, [vector_of(having), NOTHING], atol=1e-6)
        assert noted == [without, without]

    async def test_of_many_only_those_without_a_vector_are_told_of(
        self, memory: LongTermMemory, user: UserId, noted: list[Message]
    ) -> None:
        messages = line(user, 4)
        vectors = vectors_of(messages)
        vectors[1:3] = 0
        await memory.append_many(messages, vectors)
        assert noted == messages[1:3]

    async def test_a_vector_that_is_filled_in_stays(
        self, memory: LongTermMemory, user: UserId, noted: list[Message]
    ) -> None:
        messages = line(user, 3)
        for message in messages:
            await memory.append(message, NOTHING)
        wanted = vectors_of(messages)
        assert await memory.fill(messages[:2], wanted[:2]) == [it.id for it in messages[:2]]
        noted.clear()
        page = await memory.newest(user, limit=5)
        assert noted == messages[2:]
        np.testing.assert_allclose(page.vectors[::-1][:2], wanted[:2], atol=1e-6)
        assert not page.vectors[0].any()
        assert await memory.by_ids(user, [it.id for it in messages]) == messages

    async def test_a_vector_that_is_there_is_not_replaced(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        message = said(user)
        await memory.append(message, vector_of(message))
        assert await memory.fill([message], -vector_of(message)[np.newaxis]) == [message.id]
        page = await memory.newest(user, limit=1)
        np.testing.assert_allclose(page.vectors, [vector_of(message)], atol=1e-6)

    async def test_what_is_gone_or_has_other_words_is_left_alone(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        gone, stays = said(somebody()), said(user)
        redacted = said(user, after=stays)
        for message in (gone, stays, redacted):
            await memory.append(message, NOTHING)
        await memory.forget_user(gone.user)
        await memory.delete(user, [redacted.id])
        other = msgspec.structs.replace(stays, text="other words")
        theirs = msgspec.structs.replace(stays, user=somebody("eve"))
        for wanted in ([gone, redacted, other], [theirs]):
            assert await memory.fill(wanted, vectors_of(wanted)) == []
        assert await memory.by_ids(gone.user, [gone.id]) == []
        assert not (await memory.newest(user, limit=5)).vectors[-1].any()

    async def test_those_without_a_vector_are_looked_up(
        self, memory: LongTermMemory, user: UserId, noted: list[Message]
    ) -> None:
        messages = line(user, 5)
        for message in messages:
            await memory.append(message, NOTHING)
        found = [it for it in await memory.unembedded(limit=10_000) if it.user == user]
        # Where each user has a collection, they are noticed when they are read.
        assert found in (messages, [])
        assert noted == messages
        if found:
            known = {it.id for it in await memory.unembedded(limit=10_000)} - {messages[3].id}
            assert await memory.unembedded(limit=1, without=known) == [messages[3]]
            assert len(await memory.unembedded(limit=2)) == 2
        await memory.fill(messages, vectors_of(messages))
        assert not [it for it in await memory.unembedded(limit=10_000) if it.user == user]
