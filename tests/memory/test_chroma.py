from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from memory.child_process import ChildProcess
from memory.chroma import ChromaLongTermMemory
from memory.chroma_process import ChromaProcess
from memory.placement import PerUser, Placement, Sharded
from tests.contracts.long_term import LongTermContract
from tests.contracts.long_term_world import DIMENSION

pytestmark = pytest.mark.chroma

PLACEMENTS: dict[str, Placement] = {
    "one shard": Sharded("one_"),
    "three shards": Sharded("three_", 3),
    "per user": PerUser("user_"),
}


@asynccontextmanager
async def opened(
    process: ChromaProcess, placement: Placement, *, timeout_s: float = 20
) -> AsyncIterator[ChromaLongTermMemory]:
    memory = ChromaLongTermMemory(
        lambda: process.url,
        placement,
        fingerprint="test",
        dimension=DIMENSION,
        timeout_s=timeout_s,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(memory.run)
        yield memory
        tasks.cancel_scope.cancel()
    await memory.aclose()


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    process = ChromaProcess(tmp_path_factory.mktemp("chroma"))
    child = ChildProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(30)
        yield process
        tasks.cancel_scope.cancel()


class TestContract(LongTermContract):
    @pytest.fixture(scope="class", params=PLACEMENTS)
    async def memory(
        self, chroma: ChromaProcess, request: pytest.FixtureRequest
    ) -> AsyncIterator[ChromaLongTermMemory]:
        async with opened(chroma, PLACEMENTS[request.param]) as memory:
            yield memory
