"""A private Chroma with messages in it, and its files once it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from memory.chroma import ChromaLongTermMemory
from memory.messages import ConversationId, Message, UserId
from memory.placement import Placement
from tests.contracts.long_term_world import chat, line, vectors_of
from tests.memory.chroma_world import opened, serving

USERS = (UserId("ann"), UserId("Bob.1"), UserId("chloé"))


def ignore(_step: str, _done: float) -> None:
    """Nobody is told how far it is."""


async def fill(
    memory: ChromaLongTermMemory, users: Sequence[UserId] = USERS, *, each: int = 5
) -> dict[UserId, list[Message]]:
    """A conversation of *each* messages for every user; what was stored."""
    stored: dict[UserId, list[Message]] = {}
    for user in users:
        said = line(user, each, conversation=ConversationId("tea"))
        await memory.save_conversation(chat(user, "tea"))
        await memory.append_many(said, vectors_of(said))
        stored[user] = said
    return stored


async def filled(
    data_dir: Path, placement: Placement | None = None, *, each: int = 5
) -> dict[UserId, list[Message]]:
    """A store in *data_dir* whose server has stopped; what it holds."""
    async with (
        serving(data_dir) as (process, _),
        opened(lambda: process.url, placement) as memory,
    ):
        return await fill(memory, each=each)


async def everything(
    memory: ChromaLongTermMemory, users: Sequence[UserId] = USERS
) -> dict[UserId, list[Message]]:
    """What a reader sees of *users*: their conversation in order."""
    return {user: await memory.latest(user, ConversationId("tea"), limit=1_000) for user in users}


def reworded(message: Message, text: str) -> Message:
    return msgspec.structs.replace(message, text=text)
