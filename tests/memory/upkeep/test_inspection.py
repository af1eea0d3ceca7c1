from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from memory.errors import UpkeepRefused
from memory.upkeep.index_files import Elements, read_header
from memory.upkeep.inspection import Finding, Inspection, Inspector
from memory.upkeep.rebuilds import FILE, Rebuild, Rebuilds
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import DAMAGES, SHARD, index_of, segments, sql

pytestmark = pytest.mark.chroma

QUICK = Inspection()
DEEP = Inspection(deep=True)
ORPHAN = "0e1b5a52-5d0c-4f39-8a3c-2f5a4cf9d1aa"


def inspector(data_dir: Path) -> Inspector:
    return Inspector(data_dir / "chroma", Rebuilds(data_dir))


def reasons(found: list[Finding]) -> list[str]:
    return [finding.reason for finding in found]


def test_a_sound_folder_is_left_as_it_is(stopped: Stopped) -> None:
    assert inspector(stopped[0]).inspect(DEEP) == []
    assert index_of(stopped[0]).exists()
    assert not (stopped[0] / FILE).exists()


def test_a_folder_without_a_store_is_fine(tmp_path: Path) -> None:
    assert inspector(tmp_path).inspect(DEEP) == []


def test_a_damaged_index_is_noted_and_removed_as_a_whole(stopped: Stopped) -> None:
    index = index_of(stopped[0])
    DAMAGES["header.bin zeroed"](index)
    assert reasons(inspector(stopped[0]).inspect(QUICK)) == ["header.bin contradicts itself"]
    assert not index.exists()
    noted = Rebuilds(stopped[0]).get(segments(stopped[0])[SHARD].collection)
    assert noted is not None
    assert (noted.cursor, noted.done, noted.total) == ("", 0, len(stopped[1]))


def test_it_is_noted_before_it_is_removed(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(stopped[0])
    DAMAGES["header.bin zeroed"](index)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Rebuilds, "_write", full)
        with pytest.raises(UpkeepRefused, match="No space left"):
            inspector(stopped[0]).inspect(QUICK)
    assert index.exists()
    assert len(inspector(stopped[0]).inspect(QUICK)) == 1


def test_an_index_that_is_condemned_is_not_looked_at(stopped: Stopped) -> None:
    collection = segments(stopped[0])[SHARD].collection
    found = inspector(stopped[0]).inspect(Inspection(condemned=frozenset({collection})))
    assert reasons(found) == ["it ended Chroma"]


def test_what_was_sound_is_looked_at_again_when_it_has_changed_or_is_suspected(
    stopped: Stopped,
) -> None:
    index = index_of(stopped[0])
    looking = inspector(stopped[0])
    looking.inspect(QUICK)
    times = (index / "header.bin").stat()
    DAMAGES["header.bin zeroed"](index)
    os.utime(index / "header.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert looking.inspect(QUICK) == []
    suspects = frozenset({segments(stopped[0])[SHARD].collection})
    assert len(looking.inspect(Inspection(suspects=suspects))) == 1


def test_what_a_kill_may_have_hit_is_looked_at_closely(stopped: Stopped) -> None:
    index = index_of(stopped[0])
    looking = inspector(stopped[0])
    assert looking.inspect(QUICK) == []
    times = (index / "data_level0.bin").stat()
    elements = Elements(index, read_header(index), writable=True)
    elements.set_vectors(np.array([31], dtype=np.uint64), np.zeros(8, dtype=np.float32))
    elements.flush()
    os.utime(index / "data_level0.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert looking.inspect(Inspection(killed=True)) == []  # nothing was written since
    os.utime(index / "data_level0.bin")
    assert len(looking.inspect(Inspection(killed=True))) == 1


def test_indexes_that_no_collection_has_are_removed_and_other_folders_are_not(
    stopped: Stopped,
) -> None:
    chroma = stopped[0] / "chroma"
    for name in (ORPHAN, "notes", "1234"):
        (chroma / name).mkdir()
        (chroma / name / "file").touch()
    inspector(stopped[0]).inspect(QUICK)
    left = {path.name for path in chroma.iterdir() if path.is_dir()}
    assert left == {"notes", "1234", index_of(stopped[0]).name}


def test_a_healing_whose_collection_is_gone_is_forgotten(stopped: Stopped) -> None:
    Rebuilds(stopped[0]).begin([Rebuild(collection=ORPHAN, reason="a test")])
    inspector(stopped[0]).inspect(QUICK)
    assert not (stopped[0] / FILE).exists()


def test_where_it_is_not_known_how_far_healing_was_everything_is_healed(stopped: Stopped) -> None:
    (stopped[0] / FILE).write_text("torn")
    assert reasons(inspector(stopped[0]).inspect(QUICK)) == ["how far its healing was is not known"]
    assert len(Rebuilds(stopped[0])) == 1


def test_collections_that_are_not_ours_are_left_alone(stopped: Stopped) -> None:
    index = index_of(stopped[0])
    DAMAGES["header.bin zeroed"](index)
    sql(stopped[0], "DELETE FROM collection_metadata WHERE key = 'kind'")
    assert inspector(stopped[0]).inspect(DEEP) == []
    assert index.exists()
