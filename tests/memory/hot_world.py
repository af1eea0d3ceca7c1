"""What the tests of hot memories share: a store with a gate, a clock, messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import msgspec
import numpy as np

from memory.errors import StoreUnavailable
from memory.hot import HotMemories, open_hot_memories
from memory.hot_entries import HotLimits
from memory.long_term import StoredPage
from memory.messages import ConversationId, Message, MessageId, UserId, Vector

ADA = UserId("ada")
BEN = UserId("ben")
ROOMY = 50_000_000
VECTOR: Vector = np.array([1, 0, 0, 0], np.float32)
NOTHING: Vector = np.zeros(4, np.float32)


def said(number: int, user: UserId = ADA, text: str = "tea") -> Message:
    return Message(
        id=MessageId(f"{user}-{number}"),
        user=user,
        conversation=ConversationId(f"talk-{number % 2}"),
        role="user",
        text=f"{text} {user} {number}",
        timestamp=float(number),
        depth=number,
    )


class Store:
    """What hot memories need of a store, with a gate before each page and failures on demand."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.vector = VECTOR
        self.gate = anyio.Event()
        self.gate.set()
        self.failing = False
        self.reads = 0
        self.reading = 0
        self.most_reading = 0
        self.cut_off = 0

    def fill(self, count: int, user: UserId = ADA) -> None:
        self.messages.extend(said(number, user) for number in range(count))

    def mark(self, message_id: MessageId, *, forgotten: bool) -> None:
        self.messages = [
            msgspec.structs.replace(it, forgotten=forgotten) if it.id == message_id else it
            for it in self.messages
        ]

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        await anyio.lowlevel.checkpoint()
        if self.failing:
            raise StoreUnavailable("the store is away")
        return frozenset(it.id for it in self.messages if it.user == user and it.forgotten)

    async def newest(self, user: UserId, *, limit: int, before: str | None = None) -> StoredPage:
        newest_first = [message for message in reversed(self.messages) if message.user == user]
        self.reads += 1
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            await anyio.lowlevel.checkpoint()
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.cut_off += 1
            raise
        finally:
            self.reading -= 1
        if self.failing:
            raise StoreUnavailable("the store is away")
        if before is not None:
            newest_first = [m for m in newest_first if m.timestamp < float(before)]
        page = tuple(newest_first[:limit])
        more = len(newest_first) > limit
        vectors = np.tile(self.vector, (len(page), 1))
        return StoredPage(page, vectors, str(page[-1].timestamp) if more else None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    store: Store, *, hot_messages: int = 500, hot_bytes: int = ROOMY, clock: Clock | None = None
) -> AsyncGenerator[HotMemories, None]:
    with anyio.fail_after(20):
        async with open_hot_memories(
            store, HotLimits(messages=hot_messages, size_bytes=hot_bytes), clock=clock or Clock()
        ) as memories:
            yield memories


async def held(memories: HotMemories, user: UserId = ADA, version: int | None = None) -> list[str]:
    memory = await memories.get(user, version)
    return [item.id for item in memory.search("tea", VECTOR, limit=10_000).items]


def ids(numbers: range, user: UserId = ADA) -> set[str]:
    return {f"{user}-{number}" for number in numbers}


async def until_reading(store: Store, readers: int) -> None:
    while store.reading < readers:
        await anyio.lowlevel.checkpoint()
