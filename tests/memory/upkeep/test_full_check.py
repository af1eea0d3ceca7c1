from __future__ import annotations

import pytest

from memory.upkeep.full_check import check_store
from memory.upkeep.rebuilds import Rebuild, Rebuilds
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import DAMAGES, SHARD, index_of, segments, sql

pytestmark = pytest.mark.chroma


def test_a_sound_store_is_sound_and_progress_goes_forward(stopped: Stopped) -> None:
    told: list[float] = []
    found = check_store(stopped[0], lambda _step, done: told.append(done))
    assert found.sound
    assert (found.collections, found.records, found.healing) == (2, 51, 0)
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= 1


def test_faults_of_all_kinds_are_told_together(stopped: Stopped) -> None:
    DAMAGES["length.bin zeroed"](index_of(stopped[0]))
    sql(stopped[0], "DELETE FROM embedding_metadata WHERE id = 7 AND key = 'timestamp'")
    found = check_store(stopped[0], lambda *_: None)
    assert not found.sound
    assert found.index_faults == ["the index of user_00: some of its vectors have no length"]
    assert len(found.record_faults) == 2  # and its child has no parent that could be read


def test_what_is_being_healed_is_no_fault(stopped: Stopped) -> None:
    DAMAGES["all removed"](index_of(stopped[0]))
    collection = segments(stopped[0])[SHARD].collection
    Rebuilds(stopped[0]).begin([Rebuild(collection=collection, reason="a test", total=51)])
    found = check_store(stopped[0], lambda *_: None)
    assert found.sound
    assert found.healing == 51
