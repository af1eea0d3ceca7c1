"""Short-term memory in Redis: one script, and so one round trip, for each method."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Self

import msgspec
import structlog
from redis.asyncio import Redis

from memory.errors import ShortTermUnavailable
from memory.messages import ConversationId, Message, UserId, user_key
from memory.redis_connection import RedisConnection, Script
from memory.short_term import (
    Admission,
    Allowance,
    AppendOutcome,
    ShortTermPolicy,
    ShortTermUsage,
    Window,
)

log = structlog.get_logger(__name__)

SCAN_STEP: Final = 1_000
GLOB: Final = re.compile(r"[][*?\\^]")


class RedisShortTermMemory:
    r"""``ShortTermMemory`` on Redis or Valkey.

    Keys, with the encoded user as hash tag so that each script stays in one cluster slot
    (*prefix* is ``chat:``)::

        chat:{user}:rate            list    times of admissions, us
        chat:{user}:last_active     string  time, us
        chat:{user}:window:<conv>   list    "<id>\n<message as JSON>", oldest first
        chat:{user}:version         string  counts commits
        chat:global                 list    leases of the global limit

    A window whose entries cannot be read is dropped and reported as missing.
    """

    def __init__(
        self, connection: RedisConnection, *, policy: ShortTermPolicy, prefix: str
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._prefix = prefix
        self._admit = Script("admit")
        self._append = Script("append")
        self._replace = Script("replace")
        self._lease_global = Script("lease_global")
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Message).decode

    @classmethod
    def open(
        cls,
        address: str,
        *,
        policy: ShortTermPolicy,
        prefix: str = "chat:",
        timeout_s: float = 0.25,
    ) -> Self:
        """On the server at *address*; see ``RedisConnection.open``.

        Raises:
            ValueError: *address* is no address.
        """
        connection = RedisConnection.open(address, timeout_s=timeout_s)
        return cls(connection, policy=policy, prefix=prefix)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connection.aclose()

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        policy = self._policy
        keys = [self._key(user, part) for part in ("rate", "last_active", "version")]
        if conversation is not None:
            keys.append(self._window_key(user, conversation))
        allowed, used, free_us, active, version, entries = await self._connection.run(
            self._admit,
            keys,
            policy.user_limit,
            policy.limit_window_s * 1_000_000,
            policy.active_within_s * 1_000_000,
            2 * policy.active_within_s * 1_000,
        )
        window = None
        if conversation is not None and entries:
            window = await self._window(user, conversation, entries)
        return Admission(
            allowed=bool(allowed),
            user=Allowance(
                limit=policy.user_limit,
                remaining=max(0, policy.user_limit - used),
                reset_ms=math.ceil(free_us / 1_000),
            ),
            active=bool(active),
            window=window,
            version=None if version is None else int(version),
        )

    async def lease_global(self, units: int) -> tuple[int, int]:
        granted, free_us = await self._connection.run(
            self._lease_global,
            [f"{self._prefix}global"],
            units,
            self._policy.global_limit,
            self._policy.limit_window_s * 1_000_000,
        )
        return granted, math.ceil(free_us / 1_000)

    async def append(self, message: Message, *, active: bool) -> AppendOutcome:
        result, version = await self._connection.run(
            self._append,
            [
                self._window_key(message.user, message.conversation),
                self._key(message.user, "version"),
            ],
            message.id,
            self._entry(message),
            message.parent or "",
            self._policy.window_messages,
            self._policy.window_life_s(active=active) * 1_000,
            self._policy.version_life_s * 1_000,
        )
        return AppendOutcome(result=result.decode(), version=version)

    async def replace(
        self,
        user: UserId,
        conversation: ConversationId,
        messages: Sequence[Message],
        *,
        active: bool,
    ) -> None:
        kept = messages[-self._policy.window_messages :]
        await self._connection.run(
            self._replace,
            [self._window_key(user, conversation)],
            self._policy.window_life_s(active=active) * 1_000,
            *(self._entry(message) for message in kept),
        )

    async def drop(self, user: UserId, conversation: ConversationId) -> None:
        key = self._window_key(user, conversation)
        await self._connection.ask("drop", lambda redis: redis.delete(key))

    async def forget_user(self, user: UserId) -> None:
        pattern = GLOB.sub(r"\\\g<0>", self._key(user, "")) + "*"
        async with aclosing(self._matching(pattern)) as parts:
            async for keys in parts:
                if keys:
                    await self._connection.ask("unlink", partial(_unlink, keys=keys))

    async def ping(self) -> None:
        await self._connection.ask("ping", lambda redis: redis.ping())

    async def usage(self) -> ShortTermUsage:
        facts = await self._connection.ask("info", lambda redis: redis.info("memory"))
        return ShortTermUsage(
            active_users=await self._active_users(),
            total_keys=await self._connection.ask("dbsize", lambda redis: redis.dbsize()),
            memory_bytes=facts["used_memory"],
        )

    async def _active_users(self) -> int:
        seconds, micros = await self._connection.ask("time", lambda redis: redis.time())
        since_us = (seconds - self._policy.active_within_s) * 1_000_000 + micros
        pattern = GLOB.sub(r"\\\g<0>", self._prefix) + "{*}:last_active"
        active: set[bytes] = set()  # SCAN may show a key twice
        async with aclosing(self._matching(pattern)) as parts:
            async for found in parts:
                # The pattern fits windows of oddly named conversations too: those have more colons.
                keys = [key for key in found if key.count(b":", len(self._prefix.encode())) == 1]
                times = await self._connection.ask("get", partial(_get_each, keys=keys))
                pairs = zip(keys, times, strict=True)
                active.update(key for key, time in pairs if time and int(time) > since_us)
        return len(active)

    async def _matching(self, pattern: str) -> AsyncGenerator[list[bytes], None]:
        """Keys that fit *pattern*, some at a time: never holds the server up."""
        cursor = 0
        while True:
            cursor, keys = await self._connection.ask(
                "scan", partial(_scan, cursor=cursor, pattern=pattern)
            )
            yield keys
            if cursor == 0:
                return

    async def _window(
        self, user: UserId, conversation: ConversationId, entries: list[bytes]
    ) -> Window | None:
        """The window in *entries*; one that is not ours or cannot be read is dropped."""
        try:
            messages = tuple(self._decode(entry.partition(b"\n")[2]) for entry in entries)
        except (msgspec.DecodeError, UnicodeDecodeError):
            messages = ()
        if messages and all(
            message.user == user and message.conversation == conversation for message in messages
        ):
            return Window(messages)
        log.warning("window.dropped", reason="unreadable", entries=len(entries))
        try:
            await self.drop(user, conversation)
        except ShortTermUnavailable as fault:
            log.warning("window.drop_failed", reason=str(fault))
        return None

    def _key(self, user: UserId, part: str) -> str:
        return f"{self._prefix}{{{user_key(user)}}}:{part}"

    def _window_key(self, user: UserId, conversation: ConversationId) -> str:
        return self._key(user, f"window:{conversation}")

    def _entry(self, message: Message) -> bytes:
        return message.id.encode() + b"\n" + self._encode(message)


async def _scan(redis: Redis, *, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
    cursor, keys = await redis.scan(cursor, match=pattern, count=SCAN_STEP)
    return cursor, [key for key in keys if isinstance(key, bytes)]  # str only if asked to decode


async def _unlink(redis: Redis, *, keys: Sequence[bytes]) -> None:
    await redis.unlink(*keys)


async def _get_each(redis: Redis, *, keys: Sequence[bytes]) -> list[bytes | None]:
    """The values of *keys*; one by one, because they lie in different cluster slots."""
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.get(key)
        values: list[bytes | None] = await pipeline.execute()
        return values
