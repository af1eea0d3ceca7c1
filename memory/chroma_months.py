"""Walking a user's messages backwards in Chroma, a month at a time.

Chroma returns records in the order of their insertion and cannot turn it round, and a range of
times would scan all users' rows. An equality on the month is an index look-up, and within a month
a slice from the end of the order of insertion is read by its offset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from memory.chroma_collections import ChromaCollections, CollectionSpec, Select
from memory.chroma_month_index import MonthIndex
from memory.long_term import StoredPage
from memory.messages import Message, UserId, Vectors
from memory.paging import month_cursor
from memory.records import is_unembedded, stored_message

VECTORS_PER_READ: Final = 100
"""A hundred vectors are 0.8 MB of JSON; reading them holds the interpreter for some 2 ms."""


class MonthWalk:
    """Reads one user's messages: the last month first, within a month the last stored first.

    *note* is told of each that has no vector yet.
    """

    def __init__(
        self,
        collections: ChromaCollections,
        spec: CollectionSpec,
        user: UserId,
        note: Callable[[Message], None] = lambda _message: None,
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._user = user
        self._note = note
        self._months = MonthIndex(collections, spec, user, "month")

    async def page(self, month: int, left: int | None, limit: int) -> StoredPage:
        """At most *limit* messages, from *month* on backwards; of *month* itself the first *left*
        that were stored (``None``: all).
        """
        messages: list[Message] = []
        vectors: list[Vectors] = [np.empty((0, self._spec.dimension), dtype=np.float32)]
        while len(messages) < limit:
            if left is None:
                found = await self._months.last(month)
                if found is None:
                    return StoredPage(tuple(messages), np.concatenate(vectors), None)
                month, left = found, await self._count(found)
            wanted = min(left, limit - len(messages), VECTORS_PER_READ)
            part, part_vectors = await self._slice(month, left - wanted, wanted)
            messages += part[::-1]
            vectors.append(part_vectors[::-1])
            left -= wanted
            if left == 0:
                month, left = month - 1, None
        return StoredPage(tuple(messages), np.concatenate(vectors), month_cursor(month, left))

    async def _slice(self, month: int, offset: int, count: int) -> tuple[list[Message], Vectors]:
        select = Select(
            where=self._months.where(month, month),
            include=("documents", "metadatas", "embeddings"),
            limit=count,
            offset=offset,
        )
        rows, vectors = await self._collections.read(self._spec, select)
        messages = [stored_message(self._user, row.id, row.document, row.metadata) for row in rows]
        for message, row in zip(messages, rows, strict=True):
            if is_unembedded(row.metadata):
                self._note(message)
        return messages, vectors

    async def _count(self, month: int) -> int:
        select = Select(where=self._months.where(month, month), include=())
        return len(await self._collections.read_all(self._spec, select))
