"""One subscription to Redis, opened again whenever it is lost or silent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

import anyio
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from memory.redis_connection import open_pool

log = structlog.get_logger(__name__)

SILENCE_S: Final = 4.0
"""Nodes hear their own beats: after so long without any the line is dead."""
PAUSE_S: Final = 0.25
CONNECT_WITHIN_S: Final = 2.0


class RedisListener:
    """Hears *channels* over one connection to the server at *address*."""

    def __init__(self, address: str, channels: Sequence[str]) -> None:
        self._address = address
        self._channels = channels

    async def messages(self) -> AsyncGenerator[bytes | None, None]:
        """What is published, for ever; ``None`` each time that the subscription is acknowledged:
        before that something may have been missed, after it nothing is.
        """
        was_open = True
        while True:
            try:
                async with aclosing(self._until_lost()) as messages:
                    async for message in messages:
                        was_open = True
                        yield message
            except (RedisError, OSError) as error:
                if was_open:  # said once, and not with each try
                    log.warning("broker.line_lost", reason=type(error).__name__)
                was_open = False
            await anyio.sleep(PAUSE_S)

    async def _until_lost(self) -> AsyncGenerator[bytes | None, None]:
        pool = open_pool(self._address, 1, CONNECT_WITHIN_S)
        redis = Redis(connection_pool=pool)
        try:
            async with redis.pubsub() as line:
                with anyio.fail_after(CONNECT_WITHIN_S):
                    await line.subscribe(*self._channels)
                    for _ in self._channels:
                        await _next(line, CONNECT_WITHIN_S)
                yield None
                while True:
                    yield await _next(line, SILENCE_S)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CONNECT_WITHIN_S):
                await redis.aclose()
                await pool.disconnect()


async def _next(line: PubSub, within_s: float) -> bytes:
    """The next message, or an empty one for the acknowledgement of a subscription.

    Raises:
        TimeoutError: there is none in time.
    """
    message = await line.get_message(timeout=within_s)
    if message is None:
        raise TimeoutError
    return message["data"] if message["type"] == "message" else b""
