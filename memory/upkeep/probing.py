"""Asking each collection for something small, so that damage is noticed before users do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.chroma_client import ChromaClient
from memory.errors import IndexDamaged, StoreError, UpkeepRefused
from memory.upkeep.suspicions import CONFIRMED_AFTER_S
from memory.upkeep.vector_segments import VectorSegment, newest_id, opened

log = structlog.get_logger(__name__)

MOST_COLLECTIONS: Final = 20
"""To ask opens an index, 2.6 MB: not for each of thousands of users."""
AGAIN_AFTER_S: Final = CONFIRMED_AFTER_S * 1.5


class Probe:
    """Asks through *client*, which reports what it sees; *healing* have vectors missing."""

    def __init__(
        self, database: Path, client: ChromaClient, *, healing: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._client = client
        self._healing = healing

    async def ask(self, segments: Iterable[VectorSegment]) -> None:
        """Ask the first ``MOST_COLLECTIONS`` of *segments*; a sign of damage is looked at twice."""
        for segment in list(segments)[:MOST_COLLECTIONS]:
            try:
                await self._ask(segment)
            except IndexDamaged:
                await anyio.sleep(AGAIN_AFTER_S)
                await self._ask_again(segment)
            except (StoreError, UpkeepRefused) as error:
                log.info("probe.not_answered", reason=type(error).__name__)

    async def _ask(self, segment: VectorSegment) -> None:
        """Count, and read the newest record's vector."""
        model = await self._client.get_collection(segment.name)
        collection = AsyncCollection(self._client, model, embedding_function=None)
        await collection.count()
        newest = await anyio.to_thread.run_sync(self._newest_id, segment)
        if newest is not None and not self._healing(segment.name):
            await collection.get(ids=[newest], include=["embeddings"])

    async def _ask_again(self, segment: VectorSegment) -> None:
        try:
            await self._ask(segment)
        except (StoreError, UpkeepRefused):
            return  # reported by the client

    def _newest_id(self, segment: VectorSegment) -> str | None:
        with opened(self._database) as connection:
            return newest_id(connection, segment)
