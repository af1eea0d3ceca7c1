"""The contract of short-term memory: what is going on right now; may be lost at any time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from memory.messages import ConversationId, Message, UserId

LEAST_VERSION_LIFE_S: Final = 7 * 86_400


class ShortTermPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that short-term memory works with; all times in seconds."""

    user_limit: int = 30
    global_limit: int = 10_000
    limit_window_s: int = 60
    ttl_active_s: int = 86_400
    ttl_inactive_s: int = 3_600
    active_within_s: int = 86_400
    window_messages: int = 10

    @property
    def version_life_s(self) -> int:
        """How long a version lasts: longer than any process remembers a user."""
        return max(self.ttl_active_s, LEAST_VERSION_LIFE_S)

    def window_life_s(self, *, active: bool) -> int:
        """How long a window lasts after it was written to."""
        return self.ttl_active_s if active else self.ttl_inactive_s


class Window(msgspec.Struct, frozen=True):
    """The recent part of a conversation, oldest first; the last message is its head.

    Empty only for a conversation in which nothing was said yet.
    """

    messages: tuple[Message, ...]

    @property
    def head(self) -> Message | None:
        return self.messages[-1] if self.messages else None


class Allowance(msgspec.Struct, frozen=True):
    """What is left of a limit. ``reset_ms``: until one more unit is free (0: none is spent)."""

    limit: int
    remaining: int
    reset_ms: int


class Admission(msgspec.Struct, frozen=True):
    """What one round trip says about a message before anything is done with it.

    ``active``: the user's last activity before this one is less than ``active_within_s`` ago.
    ``window`` is ``None`` when nothing is known (expired, flushed, never written): read the
    long-term memory then, never take it for an empty conversation. ``version`` grows with
    each of the user's commits; ``None``: not known.
    """

    allowed: bool
    user: Allowance
    active: bool
    window: Window | None
    version: int | None


class AppendOutcome(msgspec.Struct, frozen=True):
    """What became of an append; ``version`` is the user's new one.

    ``missing``: there was no window, and none was made (half a window would be taken for a
    whole one). ``stale``: the window did not end with the message's parent and was dropped.
    """

    result: Literal["appended", "missing", "stale"]
    version: int


class ShortTermUsage(msgspec.Struct, frozen=True):
    """Figures for operators."""

    active_users: int
    total_keys: int
    memory_bytes: int


class ShortTermMemory(Protocol):
    """Windows, limits and activity of users; a cache, never a source.

    Whatever is here is also in long-term memory. Each method is atomic per user, takes one
    round trip and its own time-out, and may raise ``ShortTermUnavailable``. Times are the
    server's. Everything expires: windows after ``ttl_active_s`` or ``ttl_inactive_s`` without
    an append or a replacement. Cancelling a call leaves the state before or after it.
    """

    async def admit(self, user: UserId, conversation: ConversationId | None) -> Admission:
        """Spend one unit of *user*'s limit, note the activity, and read the window.

        The limit is a moving window: never more than ``user_limit`` admissions in any
        ``limit_window_s``. A refused call spends nothing and counts as no activity.
        """
        ...

    async def lease_global(self, units: int) -> tuple[int, int]:
        """Take at most *units* of the global limit for this process.

        Returns what was granted (0: the limit is spent) and the ms until it frees.
        """
        ...

    async def append(self, message: Message, *, active: bool) -> AppendOutcome:
        """Add *message* to its conversation's window and count the commit.

        A window is begun by a message without parent only. The oldest message leaves a
        window of ``window_messages``. Appending its head once more changes nothing but the
        expiry.
        """
        ...

    async def replace(
        self,
        user: UserId,
        conversation: ConversationId,
        messages: Sequence[Message],
        *,
        active: bool,
    ) -> None:
        """Make the last ``window_messages`` of *messages* (oldest first) the window."""
        ...

    async def drop(self, user: UserId, conversation: ConversationId) -> None:
        """Forget the window."""
        ...

    async def forget_user(self, user: UserId) -> None:
        """Forget all that is known of *user*; alone of all methods, not in one round trip.

        What is written meanwhile may stay: let nothing be written first, or forget again.
        """
        ...

    async def ping(self) -> None:
        """Return once the server answers."""
        ...

    async def usage(self) -> ShortTermUsage:
        """Figures for operators; may take a while, never on the path of a message."""
        ...
