"""What the suites for short-term memory need of a backend, and what they say to it."""

from __future__ import annotations

from typing import Protocol

from memory.messages import ConversationId, Message, MessageId, UserId
from memory.short_term import ShortTermMemory, ShortTermPolicy, Window

ANN = UserId("ann")
BOB = UserId("bob")
TEA = ConversationId("tea")

DAY_S = 86_400
HOUR_S = 3_600
SLACK_MS = 10_000
"""Real servers' clocks go on while a test runs, but not as far as this."""


class World(Protocol):
    """A backend with nothing in it, and with a clock that tests can move."""

    def open(self, policy: ShortTermPolicy) -> ShortTermMemory: ...

    async def pass_time(self, seconds: float) -> None:
        """Make everything that was stored older by *seconds*."""
        ...

    async def clear(self) -> None: ...


def line(
    count: int, *, user: UserId = ANN, conversation: ConversationId = TEA, begin: str = "m"
) -> list[Message]:
    """A conversation of *count* messages, each the parent of the next."""
    return [
        Message(
            id=MessageId(f"{begin}{depth}"),
            user=user,
            conversation=conversation,
            role="user" if depth % 2 == 0 else "assistant",
            text=f"text {depth}",
            timestamp=1_700_000_000.25 + depth,
            depth=depth,
            parent=MessageId(f"{begin}{depth - 1}") if depth else None,
        )
        for depth in range(count)
    ]


def lenient(**changes: int) -> ShortTermPolicy:
    """A policy with a limit that does not get in a test's way."""
    return ShortTermPolicy(**({"user_limit": 1_000} | changes))


async def window_of(
    memory: ShortTermMemory, user: UserId = ANN, conversation: ConversationId = TEA
) -> Window | None:
    return (await memory.admit(user, conversation)).window
