"""What every long-term memory must do; a backend's tests subclass this suite."""

from __future__ import annotations

import anyio
import msgspec
import numpy as np
import pytest

from memory.errors import IdConflict
from memory.long_term import LongTermMemory
from memory.messages import Appended, Message, MessageId, UserId
from tests.contracts.long_term_branches import BranchesContract
from tests.contracts.long_term_erasure import ErasureContract
from tests.contracts.long_term_forgetting import ForgettingContract
from tests.contracts.long_term_reading import ReadingContract
from tests.contracts.long_term_vectors import VectorsContract
from tests.contracts.long_term_world import (
    TEA,
    line,
    said,
    somebody,
    store,
    store_at_once,
    vector_of,
    vectors_of,
)


class LongTermContract(
    ReadingContract, BranchesContract, ErasureContract, ForgettingContract, VectorsContract
):
    """Subclasses provide the fixture ``memory``; its tests share it and use users of their own."""

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

    # Many at once

    async def test_many_are_stored_in_order_each_with_its_own_outcome(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 50)
        await store(memory, messages[:2])
        changed = msgspec.structs.replace(messages[1], text="other")
        many = [messages[0], changed, *messages[2:], messages[3]]
        outcomes = await memory.append_many(many, vectors_of(many))
        assert outcomes[0] == Appended(messages[0], duplicate=True)
        assert isinstance(outcomes[1], IdConflict)
        assert outcomes[2:-1] == [Appended(it, duplicate=False) for it in messages[2:]]
        assert outcomes[-1] == Appended(messages[3], duplicate=True)
        assert await memory.latest(user, TEA, limit=50) == messages
        assert await memory.append_many([], vectors_of([])) == []

    async def test_what_is_said_meanwhile_is_stored_too(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        many, other = line(user, 120), somebody("bob")
        said_meanwhile = line(other, 5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memory.append_many, many, vectors_of(many))
            tasks.start_soon(store, memory, said_meanwhile)
        assert await memory.latest(user, TEA, limit=200) == many
        assert await memory.latest(other, TEA, limit=10) == said_meanwhile

    async def test_many_are_of_one_user_and_have_a_vector_each(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        messages = line(user, 2)
        with pytest.raises(ValueError, match="2 messages with 1 vectors"):
            await memory.append_many(messages, vectors_of(messages[:1]))
        several = [said(user), said(somebody("eve"))]
        with pytest.raises(ValueError, match="several users"):
            await memory.append_many(several, vectors_of(several))
        with pytest.raises(ValueError, match="shape"):
            await memory.append_many([said(user)], np.ones((1, 3), dtype=np.float32))

    # By id

    async def test_messages_come_in_the_order_asked_for_without_unknown_and_foreign_ones(
        self, memory: LongTermMemory, user: UserId
    ) -> None:
        mine, theirs = line(user, 3), line(somebody("eve"), 2)
        await store(memory, [*mine, *theirs])
        asked = [mine[2].id, theirs[0].id, MessageId("unknown"), mine[0].id, mine[2].id]
        assert await memory.by_ids(user, asked) == [mine[2], mine[0]]
        assert await memory.by_ids(user, []) == []

    # For operators

    async def test_it_answers_and_counts(self, memory: LongTermMemory, user: UserId) -> None:
        await store(memory, line(user, 2))
        await memory.ping()
        usage = await memory.usage()
        assert usage["collections"] >= 1
        assert usage.get("records", 2) >= 2
