"""A real Redis or Valkey for a module's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from memory.child_process import ChildProcess
from memory.redis_process import RedisProcess

READY_WITHIN_S = 20


@asynccontextmanager
async def redis_server(
    folder: Path, binary: Path | None = None
) -> AsyncIterator[tuple[RedisProcess, ChildProcess]]:
    """*binary*, or what the server would take, in *folder*; it is stopped at the end."""
    process = RedisProcess(folder) if binary is None else RedisProcess(folder, binary=binary)
    child = ChildProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(READY_WITHIN_S)
        yield process, child
        tasks.cancel_scope.cancel()
