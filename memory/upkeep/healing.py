"""Making the vectors of a collection anew, from its words, while it is being used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from sqlite3 import Connection
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import msgspec
import numpy as np
import structlog
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.chroma_client import ChromaClient, CollectionGone
from memory.embedding import Embedder
from memory.errors import EmbeddingFailed, StoreError, StoreUnknown, UpkeepRefused, one_line
from memory.messages import Vector, Vectors
from memory.records import UNEMBEDDED, is_unembedded, placeholder
from memory.store_gate import StoreGate
from memory.upkeep.embedding_ahead import EmbeddingAhead
from memory.upkeep.rebuilds import Rebuild, Rebuilds
from memory.upkeep.vector_segments import (
    VectorSegment,
    count_after,
    hollow_ids,
    ids_after,
    opened,
)

log = structlog.get_logger(__name__)

RECORDS_PER_READ: Final = 200
RECORDS_PER_BATCH: Final = 50
"""Chroma writes these in 15 to 60 ms, for which a message may have to wait. While it does, the next
ones are embedded: two processors halve the time."""
REST_SHARE: Final = 0.25
"""After each batch a rest in proportion to its work: others get the processors."""
KEPT_EVERY_S: Final = 1.0
RETRY_S: Final = 0.25
LONGEST_RETRY_S: Final = 10.0
STEPS: Final = 10
EMBED_TIMEOUT_S: Final = 20.0

_Answer = TypeVar("_Answer")


class HealingTools(msgspec.Struct, frozen=True, kw_only=True):
    """What healing needs; *rest_share* 0 never rests."""

    database: Path
    client: ChromaClient
    gate: StoreGate
    embedder: Embedder
    rebuilds: Rebuilds
    rest_share: float = REST_SHARE


class Healing:
    """Heals the collection *segment* from where *rebuild* is.

    Records are walked in the order of their ids. A batch is read from Chroma, embedded and
    upserted while nothing that stands in the collection can be changed or deleted, so that no
    vector is made of old words, and no record of a vector. A record that is added meanwhile has
    its vector already; writing it again does no harm. Messages marked as unembedded, and deleted
    ones, get placeholders.
    """

    def __init__(self, tools: HealingTools, rebuild: Rebuild, segment: VectorSegment) -> None:
        self._tools = tools
        self._rebuild = rebuild
        self._segment = segment
        self._collection: AsyncCollection | None = None
        self._kept_at = anyio.current_time()
        self._told = 0
        self._in_doubt = False

    async def run(self) -> bool:
        """Heal; whether the collection is whole now, and its rebuild forgotten.

        It is not where another rebuild took the place of this one meanwhile. What Chroma, the
        embedder or the disk fails in is tried again, for ever. Cancelling leaves what was done.
        """
        begun = anyio.current_time()
        rebuild = self._rebuild
        await self._tried(self._begin)
        while self._is_current() and await self._tried(self._step):
            pass
        if not self._is_current():
            return False
        await self._tried(self._end)
        log.warning(
            "healing.ended",
            collection=rebuild.collection,
            records=rebuild.done,
            took_s=round(anyio.current_time() - begun, 1),
        )
        return True

    def _is_current(self) -> bool:
        return self._tools.rebuilds.get(self._rebuild.collection) is self._rebuild

    async def _tried(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """What *step* returns, once it does; ``False`` if that is not to be expected any more."""
        retry_s = RETRY_S
        while self._is_current():
            try:
                return await step()
            except CollectionGone:
                return False
            except (StoreError, EmbeddingFailed, UpkeepRefused, OSError) as error:
                self._in_doubt |= isinstance(error, StoreUnknown)
                log.warning("healing.delayed", reason=one_line(error), again_in_s=retry_s)
                await anyio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        return False

    async def _begin(self) -> bool:
        rebuild = self._rebuild
        rebuild.total = rebuild.done + await self._looked_up(self._count_left)
        self._told = rebuild.done * STEPS // max(rebuild.total, 1)
        log.warning(
            "healing.began",
            collection=rebuild.collection,
            reason=rebuild.reason,
            records=rebuild.total,
            done=rebuild.done,
        )
        model = await self._tools.client.get_collection(self._segment.name)
        self._collection = AsyncCollection(self._tools.client, model, embedding_function=None)
        return True

    async def _end(self) -> bool:
        await anyio.to_thread.run_sync(self._tools.rebuilds.end, {self._rebuild.collection})
        return True

    async def _step(self) -> bool:
        """Heal the next batch, and rest; ``False`` when nothing is left."""
        begun = anyio.current_time()
        ids = await self._looked_up(self._next_ids)
        if not ids:
            await self._remove_hollow()
            return False
        await self._tools.gate.batch()
        async with self._tools.gate.rewriting(self._rebuild.collection):
            await self._rewrite(ids)
        if not self._is_current():
            return False
        self._rebuild.cursor = ids[-1]
        self._rebuild.done += len(ids)
        await self._tell()
        await anyio.sleep((anyio.current_time() - begun) * self._tools.rest_share)
        return True

    async def _rewrite(self, ids: Sequence[str]) -> None:
        """Give those of *ids* that stand their vectors."""
        collection = self._opened()
        found = await collection.get(ids=list(ids), include=["documents", "metadatas"])
        standing = found["ids"]
        if not standing:
            return
        if self._segment.kind != "messages":
            blank = placeholder(self._segment.dimension or 1)
            await collection.upsert(ids=standing, embeddings=np.stack([blank] * len(standing)))
            return
        blanks = [None] * len(standing)
        rows = zip(
            standing, found["documents"] or blanks, found["metadatas"] or blanks, strict=True
        )
        texts = {
            record: document
            for record, document, metadata in rows
            if document and not is_unembedded(metadata)
        }
        starts = range(0, len(standing), RECORDS_PER_BATCH)
        batches = [standing[start : start + RECORDS_PER_BATCH] for start in starts]
        ahead = EmbeddingAhead(self._embedded)
        await ahead.embed(texts, batches[0])
        for batch, following in zip_longest(batches, batches[1:]):
            vectors = ahead.vectors()
            async with anyio.create_task_group() as tasks:
                if following is not None:
                    tasks.start_soon(ahead.embed, texts, following)
                fault = await self._write(batch, texts, vectors)
            if fault is not None:
                raise fault

    async def _write(
        self, batch: Sequence[str], texts: Mapping[str, str], vectors: Mapping[str, Vector]
    ) -> StoreError | None:
        """Give the records of *batch* their vectors; what went wrong is returned."""
        blank = placeholder(self._tools.embedder.dimension)
        embeddings = np.stack([vectors.get(record, blank) for record in batch])
        try:
            await self._opened().upsert(ids=list(batch), embeddings=embeddings)
            if failed := [record for record in batch if record in texts and record not in vectors]:
                await self._mark(failed, blank)
        except StoreError as fault:
            return fault
        return None

    async def _embedded(self, texts: Mapping[str, str]) -> dict[str, Vector]:
        """The vector of each text that has one.

        Raises:
            EmbeddingFailed: none of several has: it is the embedder, not the texts.
        """
        if not texts:
            return {}
        try:
            return dict(zip(texts, await self._embed(list(texts.values())), strict=True))
        except EmbeddingFailed:
            if len(texts) == 1:
                return {}
        vectors: dict[str, Vector] = {}
        fault: EmbeddingFailed | None = None
        for record, text in texts.items():
            try:
                vectors[record] = (await self._embed([text]))[0]
            except EmbeddingFailed as error:
                fault = error
        if fault is not None and not vectors:
            raise fault
        return vectors

    async def _embed(self, texts: list[str]) -> Vectors:
        try:
            with anyio.fail_after(EMBED_TIMEOUT_S):
                return await self._tools.embedder.embed(texts)
        except TimeoutError as error:
            raise EmbeddingFailed("the embedder does not answer") from error

    async def _mark(self, failed: Sequence[str], blank: Vector) -> None:
        """Note that these have no vector yet; others try again."""
        log.warning("healing.left_unembedded", records=len(failed))
        await self._opened().upsert(
            ids=list(failed),
            embeddings=np.stack([blank] * len(failed)),
            metadatas=[{UNEMBEDDED: "1"}] * len(failed),
        )

    async def _remove_hollow(self) -> None:
        """Delete what an upsert without an answer may have made of records that were gone."""
        if not self._in_doubt:
            return
        hollow = await self._looked_up(hollow_ids)
        if hollow:
            log.warning("healing.hollow_removed", records=len(hollow))
            await self._opened().delete(ids=hollow)

    async def _tell(self) -> None:
        """Write down how far it is, now and then; every tenth goes into the log."""
        rebuild = self._rebuild
        if anyio.current_time() - self._kept_at >= KEPT_EVERY_S:
            self._kept_at = anyio.current_time()
            await anyio.to_thread.run_sync(self._tools.rebuilds.keep, rebuild)
        steps = rebuild.done * STEPS // max(rebuild.total, 1)
        if steps > self._told:
            self._told = steps
            log.info(
                "healing.progressed",
                collection=rebuild.collection,
                done=rebuild.done,
                records=rebuild.total,
            )

    def _opened(self) -> AsyncCollection:
        assert self._collection is not None  # noqa: S101  # by _begin
        return self._collection

    def _next_ids(self, connection: Connection, segment: VectorSegment) -> list[str]:
        return ids_after(connection, segment, self._rebuild.cursor, RECORDS_PER_READ)

    def _count_left(self, connection: Connection, segment: VectorSegment) -> int:
        return count_after(connection, segment, self._rebuild.cursor)

    async def _looked_up(self, question: Callable[[Connection, VectorSegment], _Answer]) -> _Answer:
        """The answer of Chroma's database, which may be read while Chroma runs."""

        def ask() -> _Answer:
            with opened(self._tools.database) as connection:
                return question(connection, self._segment)

        return await anyio.to_thread.run_sync(ask)
