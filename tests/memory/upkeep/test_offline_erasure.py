from __future__ import annotations

from pathlib import Path

import pytest

from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.configured import StorePlace
from memory.upkeep.ledger import SqliteLedger
from memory.upkeep.offline_erasure import erase_user
from tests.contracts.long_term_world import TEA, chat, line, somebody, vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.test_scrubbing import canaries

pytestmark = pytest.mark.chroma


@pytest.mark.parametrize("placement", [Sharded(), PerUser()], ids=["sharded", "per user"])
async def test_on_another_server_records_are_deleted_and_its_files_left_to_it(
    tmp_path: Path, placement: Placement
) -> None:
    user, other = somebody(), somebody("ben")
    mine, theirs = canaries(user, 20), line(other, 20)
    folder = tmp_path / "data"
    folder.mkdir()
    told: list[str] = []
    async with (
        serving(tmp_path / "elsewhere") as (process, _),
        opened(process.url, placement) as memory,
    ):
        for messages in (mine, theirs):
            await memory.append_many(messages, vectors_of(messages))
            await memory.save_conversation(chat(messages[0].user, "tea"))
        place = StorePlace(data_dir=folder, url=process.url, prefix=placement.prefix)
        for records in (21, 0):
            erased = await erase_user(place, user, lambda step, _done: told.append(step))
            assert erased == records
        assert await memory.latest(user, TEA, limit=50) == []
        assert (await memory.conversations(user, limit=5)).conversations == ()
        assert await memory.latest(other, TEA, limit=50) == theirs
    assert "scrubbing the files" not in told
    assert not (folder / "chroma").exists()
    ledger = SqliteLedger.open(folder)
    assert len(ledger.latest(5)) == 2
    assert ledger.unfinished() == []
    ledger.close()
