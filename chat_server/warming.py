"""Memories loaded before they are asked for, when nothing else has to be done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from memory.messages import UserId

AT_ONCE: Final = 2
MOST_WAITING: Final = 256
"""Users who came last; whoever does not fit is loaded by the first draft or message."""
QUIET_S: Final = 0.2
"""Nobody came for so long: a crowd that reconnects is let in first."""


class Warming:
    """Calls *warm* for users who came, ``AT_ONCE`` at a time, while *busy* says no.

    *warm* lets no error out. Its tasks belong to *tasks* and end when nobody is left.
    """

    def __init__(
        self,
        warm: Callable[[UserId], Awaitable[None]],
        tasks: TaskGroup,
        *,
        busy: Callable[[], bool],
        quiet_s: float = QUIET_S,
    ) -> None:
        self._warm = warm
        self._tasks = tasks
        self._busy = busy
        self._quiet_s = quiet_s
        self._waiting: dict[UserId, None] = {}
        self._came_at = 0.0
        self._working = 0

    def want(self, user: UserId) -> None:
        """Have *user*'s memories loaded some time, perhaps."""
        self._came_at = anyio.current_time()
        self._waiting.pop(user, None)
        self._waiting[user] = None
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        if self._working < min(AT_ONCE, len(self._waiting)):
            self._working += 1
            self._tasks.start_soon(self._work, name="warming")

    async def _work(self) -> None:
        try:
            while True:
                await self._quiet()
                if not self._waiting:
                    return
                user = next(reversed(self._waiting))  # who came last is most likely still there
                del self._waiting[user]
                await self._warm(user)
        finally:
            self._working -= 1

    async def _quiet(self) -> None:
        while self._waiting:
            left_s = self._came_at + self._quiet_s - anyio.current_time()
            if left_s <= 0 and not self._busy():
                return
            await anyio.sleep(max(left_s, self._quiet_s / 4))
