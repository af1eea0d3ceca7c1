"""Which way through a conversation in Chroma is asked for: to its head, or to another message."""

from __future__ import annotations

from typing import Protocol

import structlog

from memory.chroma_conversations import ConversationWalk
from memory.messages import Conversation, ConversationId, Message, MessageId, UserId

log = structlog.get_logger(__name__)


class Store(Protocol):
    """What is needed of a long-term memory beside the walk."""

    async def by_ids(self, user: UserId, ids: list[MessageId]) -> list[Message]: ...

    async def conversation(
        self, user: UserId, conversation: ConversationId
    ) -> Conversation | None: ...


class ConversationLines:
    """Reads stretches of one conversation of one user; each method the *limit* last messages of a
    way, oldest first.
    """

    def __init__(
        self, store: Store, walk: ConversationWalk, user: UserId, conversation: ConversationId
    ) -> None:
        self._store = store
        self._walk = walk
        self._user = user
        self._conversation = conversation

    async def before(self, message: MessageId, limit: int) -> list[Message]:
        """On the way to *message*, without it."""
        end = await self._message(message)
        if end is None or end.parent is None:
            return []
        return await self._walk.up_to(end.parent, end.depth - 1, limit)

    async def through(self, head: MessageId, limit: int) -> list[Message]:
        """On the way to the newest leaf below *head*; none if that is not here."""
        top = await self._message(head)
        if top is None:
            return []
        leaf = await self._walk.newest_leaf_below(top)
        return await self._walk.up_to(leaf.id, leaf.depth, limit)

    async def latest(self, limit: int) -> list[Message]:
        """On the way to what is shown."""
        known = await self._store.conversation(self._user, self._conversation)
        if known is not None and known.head is not None:
            found = await self.through(known.head, limit)
            if found:
                return found
            log.warning("conversation.head_missed")
        return await self._walk.latest(limit)

    async def _message(self, message: MessageId) -> Message | None:
        found = await self._store.by_ids(self._user, [message])
        return found[0] if found and found[0].conversation == self._conversation else None
