"""What the tests of warm copies of hot memories share: a later process on the same folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from memory.embedding import Embedded
from memory.hot import HotMemories, open_hot_memories
from memory.hot_entries import HotLimits
from memory.warm import WarmMemories
from tests.memory.hot_world import ROOMY, VECTOR, Clock, Store
from tests.memory.test_packed_marks import made


class Marker:
    """An embedder of marks that counts its texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.working = True

    async def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.texts += texts
        return [Embedded(VECTOR * self.working, made(len(text))) for text in texts]


@asynccontextmanager
async def process(  # noqa: PLR0913 - facts of a test
    store: Store,
    folder: Path,
    *,
    messages: int = 500,
    deep_messages: int = 0,
    exclusive: bool = True,
    marker: Marker | None = None,
    clock: Clock | None = None,
) -> AsyncGenerator[HotMemories, None]:
    """A process's hot memories; what is in RAM is kept when it ends."""
    warm = WarmMemories(folder, fingerprint="f", exclusive=exclusive)
    limits = HotLimits(messages=messages, size_bytes=ROOMY, deep_messages=deep_messages)
    embed = marker.embed if marker is not None else None
    with anyio.fail_after(30):
        async with open_hot_memories(
            store, limits, warm=warm, embed=embed, clock=clock or Clock()
        ) as memories:
            yield memories


def files(folder: Path) -> list[str]:
    """The names of what stands in *folder*."""
    return sorted(path.name for path in folder.iterdir())


async def until_kept(folder: Path) -> None:
    """A copy of somebody's stands in *folder*."""
    while not any(name.endswith(".warm") for name in files(folder)):
        await anyio.sleep(0.005)
