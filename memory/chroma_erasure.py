"""Taking records out of Chroma: all of a user's, or the words of single messages.

Everything here may be done again, and is, until it has succeeded. Chroma's files hold the bytes
of what was deleted for long afterwards; see :mod:`memory.upkeep.scrubbing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio
import numpy as np
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.chroma_client import ChromaClient, CollectionGone
from memory.errors import StoreUnavailable
from memory.messages import Message, UserId
from memory.records import FORGOTTEN, UNEMBEDDED, MetadataValue, message_record, placeholder

RECORDS_PER_WRITE: Final = 100
REST_SHARE: Final = 1.0
"""As long as a write took, the next one waits: others' writes go between."""
TAKEN_AWAY: Final = ("author", "client_id", "model", UNEMBEDDED, FORGOTTEN)
"""Keys that a deleted message has no longer; Chroma keeps what it is not told to remove."""


class ChromaErasure:
    """Deletes through Chroma's own interface, few records at a time.

    Raises (all methods):
        StoreError: as a write of :class:`memory.chroma_client.ChromaClient`.
    """

    def __init__(self, client: ChromaClient, *, dimension: int) -> None:
        self._client = client
        self._dimension = dimension

    async def delete_user(self, name: str, user: UserId) -> int:
        """Delete *user*'s records from the collection *name*; how many there were."""
        collection = await self._collection(name)
        deleted = 0
        while collection is not None:
            found = await collection.get(
                where={"user_id": user}, limit=RECORDS_PER_WRITE, include=[]
            )
            if not found["ids"]:
                break
            begun = anyio.current_time()
            await collection.delete(ids=found["ids"])
            deleted += len(found["ids"])
            await anyio.sleep((anyio.current_time() - begun) * REST_SHARE)
        return deleted

    async def delete_records(self, name: str, user: UserId, ids: Sequence[str]) -> None:
        """Delete *user*'s records *ids* from the collection *name*."""
        collection = await self._collection(name)
        if collection is None or not ids:
            return
        found = await collection.get(ids=list(ids), where={"user_id": user}, include=[])
        if found["ids"]:
            await collection.delete(ids=found["ids"])

    async def drop(self, name: str, owner: UserId) -> int:
        """Delete the collection *name*, which is *owner*'s alone; how many records it had.

        Raises:
            StoreUnavailable: it is marked as another's; it was left alone.
        """
        collection = await self._collection(name)
        if collection is None:
            return 0
        if (collection.metadata or {}).get("owner") != owner:
            raise StoreUnavailable("a user's collection in Chroma is marked as another's")
        dropped = await collection.count()
        await self._client.delete_collection(name)
        return dropped

    async def redact(self, name: str, tombstones: Sequence[Message]) -> None:
        """Put *tombstones* in the places of the messages with their ids; makes no new records."""
        collection = await self._collection(name)
        for start in range(0, len(tombstones) if collection else 0, RECORDS_PER_WRITE):
            part = tombstones[start : start + RECORDS_PER_WRITE]
            records = [message_record(message) for message in part]
            metadatas: list[dict[str, MetadataValue | None]] = [
                {**dict.fromkeys(TAKEN_AWAY), **record.metadata} for record in records
            ]
            await collection.update(  # type: ignore[union-attr]  # none: no part
                ids=[record.id for record in records],
                documents=[record.document for record in records],
                metadatas=metadatas,  # type: ignore[arg-type]  # None: the key is removed
                embeddings=np.tile(placeholder(self._dimension), (len(part), 1)),
            )

    async def _collection(self, name: str) -> AsyncCollection | None:
        try:
            model = await self._client.get_collection(name)
        except CollectionGone:
            return None
        return AsyncCollection(self._client, model, embedding_function=None)
