"""The owners of long-lived tasks, and their boundary: an error in one begins it again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog
from anyio import create_task_group
from anyio.abc import TaskGroup

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


@asynccontextmanager
async def cancelled_at_end() -> AsyncIterator[TaskGroup]:
    """A task group whose tasks end with the context."""
    async with create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


async def supervise(name: str, task: Callable[[], Awaitable[None]]) -> None:
    """Run *task* until it returns or this is cancelled; an error begins it again.

    The pause before that grows to ``LONGEST_PAUSE_S``, so that a task that cannot run costs
    nothing but a log line. An error in one task never reaches another.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        begun = anyio.current_time()
        try:
            await task()
        except Exception:
            log.exception("task.failed", task=name, again_in_s=pause_s)
        else:
            return
        if anyio.current_time() - begun > LONGEST_PAUSE_S:
            pause_s = FIRST_PAUSE_S
        await anyio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
