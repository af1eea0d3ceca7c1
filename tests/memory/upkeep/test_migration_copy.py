from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.chroma_client import ChromaClient
from memory.errors import UpkeepRefused
from memory.messages import UserId
from memory.upkeep.migration import at_ease
from memory.upkeep.migration_copy import MigrationCopy, Shelves
from memory.upkeep.migration_store import MigrationStore
from tests.contracts.long_term_world import vectors_of
from tests.memory.chroma_world import serving
from tests.memory.upkeep.migration_world import Store
from tests.memory.upkeep.store_world import USERS, ignore

pytestmark = pytest.mark.chroma

ANN, BOB, CHLOE = USERS


@dataclass
class World:
    """A store with one shard, and a copy of it in three, which has begun."""

    store: Store
    copy: MigrationCopy
    source: AsyncCollection
    targets: dict[UserId, AsyncCollection]

    @property
    def victim(self) -> str:
        return self.store.stored[ANN][1].id

    async def reword(self) -> None:
        """Alter the words of a message of Ann's in the copy, and nothing else."""
        vector = vectors_of(self.store.stored[ANN])[1:2]
        await self.targets[ANN].update(
            ids=[self.victim], documents=["other words"], embeddings=vector
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serving(tmp_path) as (process, _):
        store = Store(process.url, "sharded/1")
        await store.fill(each=5)
        client = ChromaClient(process.url, timeout_s=20)
        migrations = MigrationStore(client, store.prefix)
        facts = dict((await migrations.directory()).metadata or {}) | {
            "kind": "messages",
            "layout": "per_user",
        }
        targets: dict[UserId, AsyncCollection] = {}

        async def target(user: UserId) -> AsyncCollection:
            name = store.to("per_user").shelf(user).name
            made = await migrations.make(name, {**facts, "owner": user})
            targets[user] = made
            return made

        shelves = Shelves("sharded/1", "per_user", target)
        copy = MigrationCopy(migrations, shelves, ignore, relieve=at_ease)
        assert await copy.sweep() == 15
        assert await copy.sweep() == 0
        (source,) = await migrations.shelves("sharded/1")
        yield World(store, copy, source, targets)
        await client.aclose()


async def test_what_is_equal_has_one_digest(world: World) -> None:
    assert await world.copy.check() == 15


async def test_records_that_differ_in_anything_are_mended(world: World) -> None:
    target = world.targets[ANN]
    await world.reword()
    assert await world.copy.sweep() == 1
    await target.update(ids=[world.victim], metadatas=[{"depth": 7, "stray": "x"}])
    assert await world.copy.sweep() == 1
    turned = np.roll(vectors_of(world.store.stored[ANN])[1], 1)
    await target.update(ids=[world.victim], embeddings=turned[None])
    assert await world.copy.sweep() == 1
    assert await world.copy.sweep() == 0
    assert await world.copy.check() == 15
    found = await target.get(include=["metadatas"])
    assert found["ids"] == [message.id for message in world.store.stored[ANN]]
    assert "stray" not in (found["metadatas"] or [])[1]


async def test_what_is_missing_comes_and_what_is_too_much_goes(world: World) -> None:
    await world.targets[ANN].delete(ids=[world.victim])
    await world.targets[BOB].add(
        ids=["stranger"],
        documents=["x"],
        metadatas=[{"user_id": BOB}],
        embeddings=vectors_of(world.store.stored[BOB])[:1],
    )
    await world.source.delete(where={"user_id": CHLOE})
    assert await world.copy.sweep() == 1 + 1 + 5
    assert await world.copy.sweep() == 0
    assert await world.copy.check() == 10


async def test_a_difference_that_no_sweep_saw_is_found_by_the_digests(world: World) -> None:
    await world.reword()
    with pytest.raises(UpkeepRefused, match="nothing was changed over"):
        await world.copy.check()
