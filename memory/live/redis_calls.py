"""The broker's calls to Redis: while it does not answer, the next ones fail at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
from redis.asyncio import Redis

from memory.errors import ShortTermUnavailable
from memory.redis_connection import RedisConnection, Script

T = TypeVar("T")

REST_S: Final = 0.5
"""For so long after a failure nothing is asked but for beats: a crowd does not wait for the
time-out of each."""
Call = tuple[Sequence[str], Sequence[str | bytes | int]]
"""Keys and arguments of a script."""


class RedisCalls:
    """Runs the scripts that lie beside this module.

    Raises (all methods):
        ShortTermUnavailable: no answer, or none just now; it may have been done.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._scripts: dict[str, Script] = {}
        self._rests_until = 0.0

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connection.aclose()

    async def run(
        self,
        name: str,
        calls: Sequence[Call],
        *,
        beside: Sequence[Sequence[str | bytes | int]] = (),
    ) -> list[Any]:
        """See :meth:`memory.redis_connection.RedisConnection.run_many`."""
        script = self._script(name)
        return await self._guarded(lambda: self._connection.run_many(script, calls, beside=beside))

    async def run_anyway(self, name: str, keys: Sequence[str], *arguments: str | int) -> Any:
        """What a script returns; asked whatever happened before. Its answer ends the rest."""
        answer = await self._connection.run(self._script(name), keys, *arguments)
        self._rests_until = 0.0
        return answer

    async def ask(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """See :meth:`memory.redis_connection.RedisConnection.ask`."""
        return await self._guarded(lambda: self._connection.ask(operation, call))

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = Script(name, Path(__file__).parent)
        return self._scripts[name]

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        if anyio.current_time() < self._rests_until:
            raise ShortTermUnavailable("not asked: the server did not answer just now")
        try:
            return await call()
        except ShortTermUnavailable:
            self._rests_until = anyio.current_time() + REST_S
            raise
