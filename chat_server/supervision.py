"""The boundary of long-lived tasks: an error in one is logged, and it is begun again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


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
