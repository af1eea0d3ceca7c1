"""What the suite for long-term memory says to a backend."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import anyio
import msgspec
import numpy as np

from memory.errors import StoreError
from memory.long_term import LongTermMemory
from memory.messages import (
    Appended,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    UserId,
    Vector,
    Vectors,
)

DIMENSION = 8
TEA = ConversationId("tea")


def somebody(name: str = "ann") -> UserId:
    """A user that no other test knows: backends are shared by the tests of a file."""
    return UserId(f"{name}-{uuid.uuid4().hex[:12]}")


def vector_of(message: Message) -> Vector:
    """A vector that tells messages apart."""
    seed = int.from_bytes(message.id.encode()[-6:], "big")
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


def vectors_of(messages: Sequence[Message]) -> Vectors:
    vectors = [vector_of(message) for message in messages]
    return np.array(vectors, dtype=np.float32).reshape(len(messages), DIMENSION)


def said(
    user: UserId,
    text: str = "hello",
    *,
    after: Message | None = None,
    conversation: ConversationId = TEA,
    timestamp: float = 1_700_000_000.25,
) -> Message:
    """A message that follows *after*; ids do not sort in the order of their making."""
    return Message(
        id=MessageId(f"m{uuid.uuid4().hex}"),
        user=user,
        conversation=after.conversation if after else conversation,
        role="user",
        text=text,
        timestamp=timestamp,
        depth=after.depth + 1 if after else 0,
        parent=after.id if after else None,
    )


def line(
    user: UserId,
    count: int,
    *,
    conversation: ConversationId = TEA,
    after: Message | None = None,
) -> list[Message]:
    """*count* messages, each the parent of the next."""
    messages: list[Message] = []
    for number in range(count):
        after = said(user, f"text {number}", after=after, conversation=conversation)
        messages.append(after)
    return messages


async def store(memory: LongTermMemory, messages: Sequence[Message]) -> None:
    """Append *messages*, which are new, in order."""
    for message in messages:
        assert not (await memory.append(message, vector_of(message))).duplicate


async def store_at_once(
    memory: LongTermMemory, messages: Sequence[Message]
) -> list[Appended | StoreError]:
    """Append *messages* concurrently; the outcomes in their order."""
    outcomes: list[Appended | StoreError | None] = [None] * len(messages)

    async def append(index: int, message: Message) -> None:
        try:
            outcomes[index] = await memory.append(message, vector_of(message))
        except StoreError as error:
            outcomes[index] = error

    async with anyio.create_task_group() as tasks:
        for index, message in enumerate(messages):
            tasks.start_soon(append, index, message)
    return [outcome for outcome in outcomes if outcome is not None]


def chat(user: UserId, name: str, *, updated_at: float = 2.0) -> Conversation:
    return Conversation(
        id=ConversationId(name),
        user=user,
        title=f"about {name}",
        created_at=1.5,
        updated_at=updated_at,
    )


def headed(conversation: Conversation, head: Message) -> Conversation:
    return msgspec.structs.replace(conversation, head=head.id)
