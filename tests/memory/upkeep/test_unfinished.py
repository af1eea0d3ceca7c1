from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory.errors import UpkeepRefused
from memory.placement import Sharded
from memory.upkeep.full_check import check_store
from memory.upkeep.migration import GOING, LEFT
from memory.upkeep.restore import RESTORED
from memory.upkeep.unfinished import see_to_unfinished
from memory.upkeep.vector_segments import DATABASE
from tests.memory.chroma_world import serving
from tests.memory.upkeep.migration_world import Store
from tests.memory.upkeep.store_world import filled, ignore

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
    see_to_unfinished(tmp_path, store.placement)
    seen: set[str] = set()
    for after in range(1, 100):
        await store.migrate(new, after=after)
        facts = (await store.collections())[store.placement.conversations]
        if facts.keys().isdisjoint({GOING, LEFT}) and facts["layout"] == new:
            break
        seen.add(facts["layout"])
        for placement in (store.placement, store.to(new)):
            with pytest.raises(UpkeepRefused, match="was interrupted: run it again, or undo it"):
                see_to_unfinished(tmp_path, placement)
        with pytest.raises(UpkeepRefused, match="was interrupted: run it again, or undo it"):
            check_store(tmp_path, ignore)
    assert seen == {"sharded/1", new if new == "per_user" else "sharded/1>sharded/2"}
    see_to_unfinished(tmp_path, store.to(new))
    assert check_store(tmp_path, ignore).record_faults == []
    with pytest.raises(UpkeepRefused, match=r"set that in config\.toml"):
        see_to_unfinished(tmp_path, store.placement)


async def test_what_was_restored_gets_its_place(tmp_path: Path) -> None:
    await filled(tmp_path / "other")
    (tmp_path / "data").mkdir()
    (tmp_path / "other" / "chroma").rename(tmp_path / "data" / RESTORED)
    see_to_unfinished(tmp_path / "data", Sharded())
    assert (tmp_path / "data" / "chroma" / DATABASE).is_file()


def test_where_nothing_is_or_nothing_can_be_read_nothing_is_unfinished(tmp_path: Path) -> None:
    see_to_unfinished(tmp_path, Sharded())
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / DATABASE).write_bytes(b"not a database")
    see_to_unfinished(tmp_path, Sharded())
