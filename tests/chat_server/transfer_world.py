"""Import and export on twins, as the routes use them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from chat_server.errors import ChatError
from chat_server.transfer_export import export_lines
from chat_server.transfer_import import Counts, Import
from chat_server.transfer_lines import Lines
from memory.dual_memory import DualMemory
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.in_process_embedder import InProcessEmbedder
from memory.in_process_long_term import InProcessLongTermMemory
from memory.in_process_short_term import InProcessShortTermMemory
from memory.messages import UserId
from memory.short_term import ShortTermPolicy

ANN, BOB = UserId("ann"), UserId("bob")
Fields = dict[str, Any]


class TransferWorld:
    """Both memories; what was told of lines since is in ``errors``."""

    def __init__(
        self,
        memory: DualMemory,
        long_term: InProcessLongTermMemory,
        short_term: InProcessShortTermMemory,
        embedder: InProcessEmbedder,
    ) -> None:
        self.memory = memory
        self.long_term = long_term
        self.short_term = short_term
        self.embedder = embedder
        self.errors: list[tuple[int, ChatError]] = []

    @property
    def wrong(self) -> list[tuple[int, str]]:
        return [(number, error.code) for number, error in self.errors]

    async def import_(self, content: bytes | Iterable[Fields], user: UserId = ANN) -> Counts:
        if not isinstance(content, bytes):
            content = b"".join(msgspec.json.encode(fields) + b"\n" for fields in content)
        self.errors = []
        work = Import(self.memory, user, lambda *told: self.errors.append(told))
        lines = Lines()
        for line in [*lines.feed(content), *lines.end()]:
            await work.take(line)
        await work.flush()
        await work.close()
        return work.counts

    async def export(self, user: UserId = ANN) -> bytes:
        return b"".join([part async for part in export_lines(self.memory, user)])

    async def exported(self, user: UserId = ANN) -> list[Fields]:
        return [msgspec.json.decode(line) for line in (await self.export(user)).splitlines()]

    async def texts(self, conversation: str, user: UserId = ANN) -> list[str]:
        found = await self.long_term.latest(user, conversation, limit=100)  # type: ignore[arg-type]  # tests name conversations plainly
        return [message.text for message in found]


def line(number: int | str, **more: Any) -> Fields:
    """A line as somebody would write it by hand."""
    return {
        "id": f"l{number}",
        "conversation": "c",
        "role": "user",
        "text": f"text {number}",
        **more,
    }


def without_ids(lines: Sequence[Fields]) -> list[Fields]:
    """*lines* with their places instead of ids: equal for equal trees."""
    places = {it["id"]: place for place, it in enumerate(lines)}
    return [
        {
            **it,
            "id": places[it["id"]],
            "parent": None if it["parent"] is None else places[it["parent"]],
            "head": places.get(it.get("head")),
        }
        for it in lines
    ]


@asynccontextmanager
async def transfer_world() -> AsyncIterator[TransferWorld]:
    long_term, embedder = InProcessLongTermMemory(), InProcessEmbedder()
    policy = ShortTermPolicy()
    short_term = InProcessShortTermMemory(policy)
    async with open_hot_memories(long_term, HotLimits(messages=100, size_bytes=10_000_000)) as hot:
        memory = DualMemory(
            long_term, short_term, embedder, hot, window_messages=policy.window_messages
        )
        yield TransferWorld(memory, long_term, short_term, embedder)
