"""A circuit breaker around short-term memory: a sick Redis delays one message, not all."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from memory.errors import ShortTermUnavailable
from memory.messages import ConversationId, Message, UserId
from memory.short_term import Admission, AppendOutcome, ShortTermMemory, ShortTermUsage

log = structlog.get_logger(__name__)

T = TypeVar("T")

REST_S: Final = 1.0
"""How long nothing is asked of a server that did not answer: without it, every message would
wait for the time-out of each of its calls while Redis hangs."""


class ShortTermBreaker:
    """Short-term memory that fails at once while its server is known to be sick.

    After ``REST_S`` one call asks again while the others are still spared; so does each ``ping``.
    *on_failure* is called with the operation's name for each failure (not for the calls that
    were spared).
    """

    def __init__(
        self,
        inner: ShortTermMemory,
        *,
        on_failure: Callable[[str], None] = lambda _operation: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._on_failure = on_failure
        self._clock = clock
        self._rests_until = -math.inf
        self._sick = False

    @property
    def sick(self) -> bool:
        """Whether the last call that was made failed."""
        return self._sick

    async def _call(
        self, operation: str, call: Callable[[], Awaitable[T]], *, resting_or_not: bool = False
    ) -> T:
        now = self._clock()
        if now < self._rests_until and not resting_or_not:
            raise ShortTermUnavailable("not asked: the server did not answer just now")
        if self._sick:
            self._rests_until = now + REST_S  # the others wait for what this one call finds out
        try:
            result = await call()
        except ShortTermUnavailable as fault:
            self._rests_until = self._clock() + REST_S
            self._on_failure(operation)
            if not self._sick:
                log.warning("short_term.lost", operation=operation, reason=str(fault))
            self._sick = True
            raise
        if self._sick:
            log.info("short_term.restored", operation=operation)
        self._sick, self._rests_until = False, -math.inf
        return result

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        return await self._call("admit", lambda: self._inner.admit(user, conversation))

    async def lease_global(self, units: int) -> tuple[int, int]:
        return await self._call("lease_global", lambda: self._inner.lease_global(units))

    async def append(self, message: Message, *, active: bool) -> AppendOutcome:
        return await self._call("append", lambda: self._inner.append(message, active=active))

    async def replace(
        self,
        user: UserId,
        conversation: ConversationId,
        messages: Sequence[Message],
        *,
        active: bool,
    ) -> None:
        await self._call(
            "replace",
            lambda: self._inner.replace(user, conversation, messages, active=active),
        )

    async def drop(self, user: UserId, conversation: ConversationId) -> None:
        await self._call("drop", lambda: self._inner.drop(user, conversation))

    async def forget_user(self, user: UserId) -> None:
        await self._call("forget_user", lambda: self._inner.forget_user(user))

    async def ping(self) -> None:
        """Ask the server, resting or not: this is how its return is noticed."""
        await self._call("ping", self._inner.ping, resting_or_not=True)

    async def usage(self) -> ShortTermUsage:
        return await self._call("usage", self._inner.usage)
