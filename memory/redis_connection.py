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
    """A Lua script, ``<name>.lua`` in *folder*; without one, beside this module."""

    def __init__(self, name: str, folder: Path = Path(__file__).parent) -> None:
        self.name = name
        self.text = (folder / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def open_pool(
    address: str, connections: int, timeout_s: float, read_s: float | None = None
) -> BlockingConnectionPool:
    """Connections to the server at *address*: a URL (``redis://``, ``rediss://``, ``unix://``) or
    the absolute path of a unix socket. *read_s* is how long an answer may take, where that differs.

    Raises:
        ValueError: *address* is neither.
    """
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": timeout_s,
        "socket_timeout": read_s or timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,  # measured a tenth faster than RESP3, of which nothing is used
    }
    if address.startswith("/"):
        return BlockingConnectionPool(
            connection_class=UnixDomainSocketConnection, path=address, **options
        )
    return BlockingConnectionPool.from_url(address, **options)


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
        """To the server at *address*; connects with the first call. See :func:`open_pool`.

        *timeout_s* bounds each call, waiting for a connection included.
        """
        return cls(open_pool(address, CONNECTIONS, timeout_s), timeout_s=timeout_s)

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

    async def run_many(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[str | bytes | int]]],
        *,
        beside: Sequence[Sequence[str | bytes | int]] = (),
    ) -> list[Any]:
        """What *script* returns for each of *calls*, keys and arguments, in one round trip; the
        commands *beside* go before them, and their answers are of no interest.

        Raises:
            ShortTermUnavailable: as of :meth:`run`, for one of them or for all.
        """

        async def call() -> list[Any]:
            results = await self._pipelined(script, calls, beside)
            lacking = [at for at, it in enumerate(results) if isinstance(it, NoScriptError)]
            if lacking:  # new, restarted or flushed: nothing was done for these
                await self._redis.script_load(script.text)
                again = await self._pipelined(script, [calls[at] for at in lacking])
                for at, result in zip(lacking, again, strict=True):
                    results[at] = result
            failed = next((it for it in results if isinstance(it, Exception)), None)
            if failed is not None:
                raise failed
            return results

        return await self.ask(script.name, lambda _redis: call())

    async def _pipelined(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[str | bytes | int]]],
        beside: Sequence[Sequence[str | bytes | int]] = (),
    ) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in beside:
                pipeline.execute_command(*command)
            for keys, arguments in calls:
                pipeline.evalsha(script.digest, len(keys), *keys, *arguments)
            results: list[Any] = await pipeline.execute(raise_on_error=False)
            return results[len(beside) :]

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
