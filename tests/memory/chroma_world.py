"""A real Chroma for tests, and long-term memory on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from memory.child_process import ChildProcess
from memory.chroma import ChromaLongTermMemory
from memory.chroma_client import Address
from memory.chroma_process import ChromaProcess
from memory.placement import Placement, Sharded
from memory.surroundings import ALONE, Surroundings
from tests.contracts.long_term_world import DIMENSION


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[ChromaProcess, ChildProcess]]:
    """A Chroma of its own with its data in *folder*."""
    process = ChromaProcess(folder)
    child = ChildProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(30)
        yield process, child
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def opened(
    address: Address,
    placement: Placement | None = None,
    *,
    fingerprint: str = "test",
    timeout_s: float = 20,
    surroundings: Surroundings = ALONE,
) -> AsyncIterator[ChromaLongTermMemory]:
    """Long-term memory at work; at the end it writes what waits still."""
    memory = ChromaLongTermMemory(
        address,
        placement or Sharded(),
        fingerprint=fingerprint,
        dimension=DIMENSION,
        timeout_s=timeout_s,
        surroundings=surroundings,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(memory.run)
        yield memory
        tasks.cancel_scope.cancel()
    await memory.aclose()
