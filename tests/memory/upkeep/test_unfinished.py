from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory.errors import UpkeepRefused
from memory.upkeep.restore import RESTORED
from memory.upkeep.store_file import DATABASE
from memory.upkeep.unfinished import see_to_unfinished, unfinished_migration
from tests.memory.chroma_world import serving
from tests.memory.upkeep.migration_world import Store
from tests.memory.upkeep.store_world import filled

pytestmark = pytest.mark.chroma


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with serving(tmp_path) as (process, _):
        kept = Store(process.url, "sharded/1")
        await kept.fill()
        yield kept


@pytest.mark.parametrize("new", ["per_user", "sharded/2"])
async def test_half_a_migration_is_seen_wherever_it_was_cut_off(
    tmp_path: Path, store: Store, new: str
) -> None:
    database = tmp_path / "chroma" / DATABASE
    assert unfinished_migration(database) is None
    for after in range(1, 100):
        ending, _ = await store.migrate(new, after=after)
        if unfinished_migration(database) is None:
            break
        assert ending is None
        assert unfinished_migration(database) == new
        with pytest.raises(UpkeepRefused, match="was interrupted: run it again, or undo it"):
            see_to_unfinished(tmp_path)
    assert after > 2
    assert await store.layout() == new
    see_to_unfinished(tmp_path)


async def test_what_was_restored_gets_its_place(tmp_path: Path) -> None:
    await filled(tmp_path / "other")
    (tmp_path / "data").mkdir()
    (tmp_path / "other" / "chroma").rename(tmp_path / "data" / RESTORED)
    see_to_unfinished(tmp_path / "data")
    assert (tmp_path / "data" / "chroma" / DATABASE).is_file()


def test_where_nothing_is_or_nothing_can_be_read_nothing_is_unfinished(tmp_path: Path) -> None:
    see_to_unfinished(tmp_path)
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / DATABASE).write_bytes(b"not a database")
    see_to_unfinished(tmp_path)
