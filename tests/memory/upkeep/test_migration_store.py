from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from memory.chroma_client import ChromaClient
from memory.errors import UpkeepRefused
from memory.messages import UserId
from memory.records import Record
from memory.upkeep.migration_store import Copied, MigrationStore
from memory.upkeep.vector_segments import opened, vector_segments
from tests.memory.chroma_world import serving
from tests.memory.upkeep.migration_world import Store
from tests.memory.upkeep.store_world import USERS, filled

pytestmark = pytest.mark.chroma


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[tuple[MigrationStore, Store]]:
    async with serving(tmp_path) as (process, _):
        kept = Store(process.url, "sharded/3")
        await kept.fill()
        client = ChromaClient(process.url, timeout_s=20)
        yield MigrationStore(client, kept.prefix), kept
        await client.aclose()


async def test_a_store_is_found_by_its_prefix_and_its_collections_by_their_layout(
    store: tuple[MigrationStore, Store],
) -> None:
    migrations, kept = store
    directory = await migrations.directory()
    assert directory.name == f"{kept.prefix}.meta"
    shelves = await migrations.shelves("sharded/3")
    assert shelves
    assert {shelf.name for shelf in shelves} < set(await kept.collections())
    assert await migrations.shelves("sharded/2") == []
    assert await migrations.shelves("per_user") == []


async def test_a_record_without_an_owner_is_told_instead_of_left_behind(
    store: tuple[MigrationStore, Store],
) -> None:
    migrations, _ = store
    shelf = (await migrations.shelves("sharded/3"))[0]
    vector = np.eye(1, 8, dtype=np.float32)
    await migrations.add(shelf, Copied([Record("nobody's", "x", {"v": 1})], vector))
    with pytest.raises(UpkeepRefused, match="nobody's names no user"):
        await migrations.owners(shelf, 0, 100)


async def test_a_collection_that_is_in_the_way_is_not_written_into(
    store: tuple[MigrationStore, Store],
) -> None:
    migrations, _ = store
    shelf = (await migrations.shelves("sharded/3"))[0]
    with pytest.raises(UpkeepRefused, match="is in the way"):
        await migrations.make(shelf.name, {"kind": "messages", "layout": "per_user"})


async def test_what_is_gone_is_dropped_and_deleted_once_more(
    store: tuple[MigrationStore, Store],
) -> None:
    migrations, _ = store
    shelf = (await migrations.shelves("sharded/3"))[0]
    await migrations.delete(shelf, ["nothing"])
    await migrations.drop(shelf)
    await migrations.drop(shelf)
    assert shelf.name not in {it.name for it in await migrations.shelves("sharded/3")}


async def test_vectors_of_a_damaged_index_are_never_copied(tmp_path: Path) -> None:
    await filled(tmp_path, each=400)  # more than the log holds: the index is on the disk
    chroma = tmp_path / "chroma"
    with opened(chroma / "chroma.sqlite3") as database:
        folders = [chroma / segment.id for segment in vector_segments(database)]
    for file in (path for folder in folders if folder.exists() for path in folder.iterdir()):
        file.unlink()
    async with serving(tmp_path) as (process, _):
        client = ChromaClient(process.url, timeout_s=20)
        migrations = MigrationStore(client, "user_")
        (shelf,) = await migrations.shelves("sharded/1")
        with pytest.raises(UpkeepRefused, match="python -m memory heal"):
            await migrations.page(shelf, UserId(USERS[0]), 0, 200)
        await client.aclose()
