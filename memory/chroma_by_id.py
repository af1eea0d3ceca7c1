"""Single messages in Chroma, by their ids: reading them, and marking what is not to be recalled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from memory.chroma_collections import ChromaCollections, CollectionSpec, Select
from memory.chroma_requests import noted
from memory.messages import Message, MessageId, UserId
from memory.placement import Placement, Shelf
from memory.records import FORGOTTEN, forgotten_key, stored_message

IDS_PER_READ: Final = 1_000


class ChromaById:
    """Each method as in :class:`memory.long_term.LongTermMemory`."""

    def __init__(
        self,
        collections: ChromaCollections,
        spec: Callable[[Shelf], CollectionSpec],
        placement: Placement,
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._placement = placement

    async def read(self, user: UserId, ids: Sequence[MessageId]) -> list[Message]:
        distinct = list(dict.fromkeys(ids))
        spec = self._spec(self._placement.shelf(user))
        own: dict[MessageId, Message] = {}
        for start in range(0, len(distinct), IDS_PER_READ):
            select = Select(ids=distinct[start : start + IDS_PER_READ])
            for row in (await self._collections.read(spec, select)).rows:
                if (row.metadata or {}).get("user_id") == user:
                    message = stored_message(user, row.id, row.document, row.metadata)
                    own[message.id] = message
        return [own[message_id] for message_id in distinct if message_id in own]

    async def mark_forgotten(
        self, user: UserId, message: MessageId, *, forgotten: bool
    ) -> Message | None:
        """One that is deleted meanwhile may keep the mark, which says nothing of it."""
        found = await self.read(user, [message])
        if not found or found[0].status == "deleted":
            return None
        if found[0].forgotten != forgotten:
            value = forgotten_key(user) if forgotten else None
            await self._collections.update(
                self._spec(self._placement.shelf(user)),
                lambda update: noted(update, message, {FORGOTTEN: value}),
            )
        return msgspec.structs.replace(found[0], forgotten=forgotten)

    async def forgotten(self, user: UserId) -> frozenset[MessageId]:
        """A look-up in an index, as is that of a month."""
        spec = self._spec(self._placement.shelf(user))
        where = (FORGOTTEN, [forgotten_key(user)])
        rows = await self._collections.read_all(spec, Select(where=where, include=()))
        return frozenset(MessageId(row.id) for row in rows)
