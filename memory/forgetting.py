"""Forgetting a message, and undoing that: it stays where it was said, and is not recalled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from memory.errors import StoreUnknown
from memory.hot import HotMemories
from memory.long_term import LongTermMemory
from memory.messages import Message, MessageId, UserId

CountChange = Callable[[Message], Awaitable[int | None]]
"""Counts a commit of the message's user, so that every process looks for what is new; the user's
version, ``None`` where it could not be counted."""


class Forgetting:
    """Takes effect with the next search, in every process, and lasts."""

    def __init__(
        self, long_term: LongTermMemory, hot: HotMemories, count_change: CountChange
    ) -> None:
        self._long_term = long_term
        self._hot = hot
        self._count_change = count_change

    async def mark(self, user: UserId, message: MessageId, *, forgotten: bool) -> Message | None:
        """Let recall never find *user*'s *message* again, or find it again; as it is then.

        ``None``: there is no such message of the user's, or it is deleted.

        Raises:
            StoreUnavailable: nothing was done.
            StoreUnknown: it may have been done; again is safe.
        """
        try:
            found = await self._long_term.mark_forgotten(user, message, forgotten=forgotten)
        except StoreUnknown:
            self._hot.forget(user)
            raise
        if found is None:
            return None
        if forgotten:
            self._hot.set_aside(user, message)
        else:
            # Where it stands among the others is known to the store alone.
            self._hot.forget(user)
        # Also if nothing was to be changed: somebody who changed it may have been cut off here.
        self._hot.note(user, await self._count_change(found))
        return found
