"""A bounded, impatient connection to Redis, and the one place that knows its errors."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import anyio
from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from memory.errors import ShortTermUnavailable

T = TypeVar("T")

CONNECTIONS: Final = 32


class Script:
    """A Lua script that lies beside this module."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisConnection:
    """A pool of connections to one Redis or Valkey.

    Nothing is tried twice: what was sent may have been done. A cancelled call closes its
    connection, so that its late answer is never taken for another's.
    """

    def __init__(self, pool: BlockingConnectionPool, *, timeout_s: float) -> None:
        self._pool = pool
        self._redis = Redis(connection_pool=pool)
        self._timeout_s = timeout_s

    @classmethod
    def open(cls, address: str, *, timeout_s: float) -> Self:
        """To the server at *address*; connects with the first call.

        *address* is a URL (``redis://``, ``rediss://``, ``unix://``) or the absolute path of a
        unix socket; *timeout_s* bounds each call, waiting for a connection included.

        Raises:
            ValueError: *address* is neither.
        """
        options: dict[str, Any] = {
            "max_connections": CONNECTIONS,
            "timeout": timeout_s,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,  # measured a tenth faster than RESP3, of which nothing is used
        }
        if address.startswith("/"):
            pool = BlockingConnectionPool(
                connection_class=UnixDomainSocketConnection, path=address, **options
            )
        else:
            pool = BlockingConnectionPool.from_url(address, **options)
        return cls(pool, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    async def run(self, script: Script, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """What *script* returns.

        Raises:
            ShortTermUnavailable: no answer in time, or an error; it may have been done.
        """

        async def call() -> Any:
            try:
                return await self._redis.evalsha(script.digest, len(keys), *keys, *arguments)
            except NoScriptError:  # new, restarted or flushed: nothing was done
                return await self._redis.eval(script.text, len(keys), *keys, *arguments)

        return await self.ask(script.name, lambda _redis: call())

    async def ask(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """What *call* returns; *operation* names it in errors.

        Raises:
            ShortTermUnavailable: no answer in time, or an error; it may have been done.
        """
        try:
            with anyio.fail_after(self._timeout_s):
                return await call(self._redis)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            raise ShortTermUnavailable(f"{operation}: {type(error).__name__}") from error
