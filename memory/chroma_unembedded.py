"""Messages in Chroma that have no vector yet: finding them, and giving them one."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from itertools import islice
from typing import Final

import numpy as np
import structlog

from memory.chroma_collections import ChromaCollections, CollectionSpec, Row, Select
from memory.chroma_requests import filled
from memory.errors import CorruptRecord, StoreUnavailable
from memory.messages import Message, MessageId, UserId, Vector, Vectors
from memory.placement import Placement, Shelf
from memory.records import IS_UNEMBEDDED, UNEMBEDDED, is_unembedded, stored_message

log = structlog.get_logger(__name__)

MARKED: Final = (UNEMBEDDED, [IS_UNEMBEDDED])


class ChromaUnembedded:
    """Reads and fills the records that are marked as unembedded.

    While the index of a collection is *incomplete* nothing is filled in it: whoever completes it
    writes the same records.
    """

    def __init__(
        self,
        collections: ChromaCollections,
        spec: Callable[[Shelf], CollectionSpec],
        placement: Placement,
        *,
        incomplete: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._placement = placement
        self._incomplete = incomplete
        self.note: Callable[[Message], None] = lambda _message: None
        """Is told of each message that is stored, or read, without a vector."""

    def found(self, message: Message) -> None:
        """*message* was stored or read without a vector."""
        self.note(message)

    async def find(self, *, limit: int, without: Set[MessageId]) -> list[Message]:
        """At most *limit* marked messages of the shared collections, but for those in *without*.

        Looks the mark up in an index, whatever else is stored.
        """
        messages: list[Message] = []
        for shelf in self._placement.shards:
            spec = self._spec(shelf)
            marked = await self._collections.read_all(spec, Select(where=MARKED, include=()))
            new = (row.id for row in marked if row.id not in without)
            ids = list(islice(new, limit - len(messages)))
            rows = (await self._collections.read(spec, Select(ids=ids))).rows
            messages += [message for row in rows if (message := _message(row)) is not None]
        return messages

    async def fill(self, messages: Sequence[Message], vectors: Vectors) -> list[MessageId]:
        """Store *vectors* of *messages*, whose words they were made of.

        Returns those that have a vector now, also because they had one before. What is gone or
        has other words is left alone.

        Raises:
            StoreUnavailable: nothing was written to the collection of the first that is missing.
            StoreUnknown: that may have been written.
        """
        shelves: dict[Shelf, dict[str, tuple[Message, Vector]]] = {}
        for message, vector in zip(messages, vectors, strict=True):
            shelf = self._placement.shelf(message.user)
            shelves.setdefault(shelf, {})[message.id] = (message, vector)
        filled: list[MessageId] = []
        for shelf, wanted in shelves.items():
            filled += await self._fill(self._spec(shelf), wanted)
        return filled

    async def _fill(
        self, spec: CollectionSpec, wanted: dict[str, tuple[Message, Vector]]
    ) -> list[MessageId]:
        if self._incomplete(spec.name):
            raise StoreUnavailable("the collection's index is being rebuilt")
        rows = (await self._collections.read(spec, Select(ids=list(wanted)))).rows
        same = [row for row in rows if _has_the_words_of(row, wanted[row.id][0])]
        marked = [row.id for row in same if is_unembedded(row.metadata)]
        if marked:
            vectors = [np.asarray(wanted[each][1], dtype=np.float32) for each in marked]
            await self._collections.update(spec, lambda update: filled(update, marked, vectors))
        return [MessageId(row.id) for row in same]


def _has_the_words_of(row: Row, message: Message) -> bool:
    return row.document == message.text and (row.metadata or {}).get("user_id") == message.user


def _message(row: Row) -> Message | None:
    """The marked message; ``None`` for what is not one, which must not keep the others waiting."""
    user = (row.metadata or {}).get("user_id")
    if not is_unembedded(row.metadata) or not isinstance(user, str):
        return None
    try:
        return stored_message(UserId(user), row.id, row.document, row.metadata)
    except CorruptRecord as fault:
        log.warning("unembedded.not_read", record=row.id, field=fault.field)
        return None
