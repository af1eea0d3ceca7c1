from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
from chromadb.api.models.AsyncCollection import AsyncCollection
from structlog.testing import capture_logs

from memory.chroma_client import ChromaClient
from memory.embedding import Embedder
from memory.errors import EmbeddingFailed
from memory.in_process_embedder import InProcessEmbedder
from memory.messages import Vectors
from memory.records import is_unembedded, placeholder
from memory.store_gate import StoreGate
from memory.upkeep import healing
from memory.upkeep.healing import Healing, HealingTools
from memory.upkeep.rebuilds import Rebuild, Rebuilds
from tests.memory.chroma_world import serving
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import DAMAGES, EMBEDDER, SHARD, index_of, segments, sql

pytestmark = pytest.mark.chroma


class World:
    """A Chroma whose shard has lost its index, and what heals it."""

    def __init__(self, data_dir: Path, client: ChromaClient, shard: AsyncCollection) -> None:
        self.data_dir = data_dir
        self.shard = shard
        self.rebuilds = Rebuilds(data_dir)
        self.segment = segments(data_dir)[SHARD]
        self._client = client

    def healing(self, embedder: Embedder = EMBEDDER) -> Healing:
        rebuild = Rebuild(collection=self.segment.collection, reason="a test")
        self.rebuilds.begin([rebuild])
        tools = HealingTools(
            database=self.data_dir / "chroma" / "chroma.sqlite3",
            client=self._client,
            gate=StoreGate(),
            embedder=embedder,
            rebuilds=self.rebuilds,
            rest_share=0,
        )
        return Healing(tools, rebuild, self.segment)

    async def vectors(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        found = await self.shard.get(include=["embeddings"])
        return dict(zip(found["ids"], np.asarray(found["embeddings"], np.float32), strict=True))


@asynccontextmanager
async def damaged(data_dir: Path) -> AsyncIterator[World]:
    DAMAGES["all removed"](index_of(data_dir))
    async with serving(data_dir) as (process, _child):
        client = ChromaClient(lambda: process.url, timeout_s=20)
        model = await client.get_collection(SHARD)
        yield World(data_dir, client, AsyncCollection(client, model, embedding_function=None))
        await client.aclose()


async def test_a_collection_is_whole_afterwards_and_nothing_is_noted_any_more(
    stopped: Stopped,
) -> None:
    async with damaged(stopped[0]) as world:
        with capture_logs() as logs:
            assert await world.healing().run()
        assert len(world.rebuilds) == 0
        vectors = await world.vectors()
    for message in stopped[1]:
        (expected,) = await EMBEDDER.embed([message.text])
        assert np.allclose(vectors[message.id], expected, atol=1e-5)
    events = [entry["event"] for entry in logs]
    assert events[0] == "healing.began"
    assert events[-1] == "healing.ended"
    assert logs[-1]["records"] == len(stopped[1])


async def test_words_and_metadata_stay_as_they_were(stopped: Stopped) -> None:
    async with damaged(stopped[0]) as world:
        before = await world.shard.get(include=["documents", "metadatas"])
        await world.healing().run()
        after = await world.shard.get(include=["documents", "metadatas"])
    assert after == before


async def test_marked_and_deleted_messages_get_placeholders(stopped: Stopped) -> None:
    marked, gone, *_ = (message.id for message in stopped[1])
    sql(
        stopped[0],
        "INSERT INTO embedding_metadata (id, key, string_value) "
        "SELECT id, 'unembedded', '1' FROM embeddings WHERE embedding_id = ?",
        marked,
    )
    sql(
        stopped[0],
        "UPDATE embedding_metadata SET string_value = '' WHERE key = 'chroma:document' "
        "AND id = (SELECT id FROM embeddings WHERE embedding_id = ?)",
        gone,
    )
    async with damaged(stopped[0]) as world:
        await world.healing().run()
        vectors = await world.vectors()
    assert np.array_equal(vectors[marked], placeholder(8))
    assert np.array_equal(vectors[gone], placeholder(8))
    (third,) = await EMBEDDER.embed([stopped[1][2].text])
    assert np.allclose(vectors[stopped[1][2].id], third, atol=1e-5)


class Picky(InProcessEmbedder):
    """Has no vector for one text, and for its first calls none at all."""

    def __init__(self, never: str, fails: int = 0) -> None:
        super().__init__(8)
        self._never = never
        self._fails = fails

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self._fails -= 1
        if self._fails >= 0 or self._never in texts:
            raise EmbeddingFailed("a test")
        return await super().embed(texts)


async def test_a_text_that_cannot_be_embedded_is_marked_and_the_others_are_healed(
    stopped: Stopped,
) -> None:
    bad = stopped[1][4]
    async with damaged(stopped[0]) as world:
        assert await world.healing(Picky(bad.text)).run()
        found = await world.shard.get(include=["metadatas", "documents"])
        vectors = await world.vectors()
    marked = [
        record
        for record, metadata in zip(found["ids"], found["metadatas"] or [], strict=True)
        if is_unembedded(metadata)
    ]
    assert marked == [bad.id]
    assert bad.text in (found["documents"] or [])
    assert (found["metadatas"] or [])[4]["user_id"] == bad.user
    assert np.array_equal(vectors[bad.id], placeholder(8))


async def test_an_embedder_that_is_away_is_waited_for(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "RETRY_S", 0.01)
    async with damaged(stopped[0]) as world:
        assert await world.healing(
            Picky("nothing", fails=2 * (1 + healing.RECORDS_PER_BATCH))
        ).run()
        vectors = await world.vectors()
        found = await world.shard.get(include=["metadatas"])
    assert not any(is_unembedded(metadata) for metadata in found["metadatas"] or [])
    for message in stopped[1]:
        assert np.allclose(vectors[message.id], await EMBEDDER.embed([message.text]), atol=1e-5)


async def test_a_healing_that_another_took_the_place_of_ends(stopped: Stopped) -> None:
    async with damaged(stopped[0]) as world:
        first = world.healing()
        second = world.healing()
        assert not await first.run()
        assert len(world.rebuilds) == 1
        assert await second.run()


async def test_what_a_write_without_an_answer_made_of_a_deleted_record_is_removed(
    stopped: Stopped,
) -> None:
    async with damaged(stopped[0]) as world:
        await world.shard.upsert(ids=["ghost"], embeddings=np.stack([placeholder(8)]))
        mending = world.healing()
        mending._in_doubt = True
        await mending.run()
        assert (await world.shard.get(ids=["ghost"]))["ids"] == []
        assert await world.shard.count() == len(stopped[1])


async def test_a_cancelled_healing_leaves_what_it_did(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "RECORDS_PER_READ", 10)
    monkeypatch.setattr(healing, "RECORDS_PER_BATCH", 10)
    monkeypatch.setattr(healing, "KEPT_EVERY_S", 0)
    async with damaged(stopped[0]) as world:
        mending = world.healing(Picky(sorted(stopped[1], key=lambda it: it.id)[25].text))
        with anyio.CancelScope() as scope:
            mark = mending._mark

            async def cancel(*arguments: object) -> None:
                await mark(*arguments)  # type: ignore[arg-type]
                scope.cancel()

            monkeypatch.setattr(mending, "_mark", cancel)
            await mending.run()
        (noted,) = Rebuilds(stopped[0])
        assert noted.done == 20
        assert noted.cursor == sorted(message.id for message in stopped[1])[19]
