from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from memory.upkeep.index_check import Depth, index_fault
from memory.upkeep.index_files import Elements, read_header
from memory.upkeep.vector_segments import END, opened
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import DAMAGES, SHARD, index_of, segments, sql

pytestmark = pytest.mark.chroma


def fault(data_dir: Path, *, depth: Depth, healed_up_to: str = END) -> str | None:
    chroma = data_dir / "chroma"
    with opened(chroma / "chroma.sqlite3") as connection:
        segment = segments(data_dir)[SHARD]
        return index_fault(chroma, connection, segment, depth=depth, healed_up_to=healed_up_to)


@pytest.mark.parametrize("depth", get_args(Depth))
def test_a_sound_index_is_found_sound(stopped: Stopped, depth: Depth) -> None:
    assert fault(stopped[0], depth=depth) is None


@pytest.mark.parametrize("depth", get_args(Depth))
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_damage_is_found_and_told_in_one_line_without_ids(
    stopped: Stopped, damage: Callable[[Path], None], depth: Depth
) -> None:
    damage(index_of(stopped[0]))
    found = fault(stopped[0], depth=depth)
    assert found is not None
    assert "\n" not in found
    assert not any(message.id in found for message in stopped[1])


def test_an_index_that_has_yet_to_be_written_needs_no_files(stopped: Stopped) -> None:
    sql(stopped[0], "DELETE FROM max_seq_id WHERE segment_id = ?", segments(stopped[0])[SHARD].id)
    DAMAGES["all removed"](index_of(stopped[0]))
    assert fault(stopped[0], depth="records") is None


def test_what_is_still_being_healed_may_be_missing(stopped: Stopped) -> None:
    DAMAGES["all removed"](index_of(stopped[0]))
    assert fault(stopped[0], depth="records", healed_up_to="") is None
    first = min(message.id for message in stopped[1][:20])
    assert fault(stopped[0], depth="records", healed_up_to=first) == "its files are missing"


def without(record: str) -> Callable[[Path], None]:
    """The list of ids as a crash may have left it."""

    def damage(index: Path) -> None:
        path = index / "index_metadata.pickle"
        content = pickle.loads(path.read_bytes())  # noqa: S301  # Chroma's own
        content["id_to_label"][f"not-{record}"] = content["id_to_label"].pop(record)
        path.write_bytes(pickle.dumps(content))

    return damage


def test_a_record_that_is_missing_in_the_index_is_found_when_it_is_looked_at_closely(
    stopped: Stopped,
) -> None:
    without(stopped[1][7].id)(index_of(stopped[0]))
    assert fault(stopped[0], depth="elements") is None
    assert fault(stopped[0], depth="records") == "records are missing in it"


def test_a_record_that_is_gone_and_still_in_the_index_is_found(stopped: Stopped) -> None:
    sql(stopped[0], "DELETE FROM embeddings WHERE embedding_id = ?", stopped[1][7].id)
    assert fault(stopped[0], depth="records") == "it holds records that are gone"


def test_a_record_whose_deletion_is_in_the_log_is_not_gone_yet(stopped: Stopped) -> None:
    segment = segments(stopped[0])[SHARD]
    sql(stopped[0], "DELETE FROM embeddings WHERE embedding_id = ?", stopped[1][7].id)
    sql(
        stopped[0],
        "INSERT INTO embeddings_queue (seq_id, operation, topic, id) VALUES (9999, 3, ?, ?)",
        f"persistent://default/default/{segment.collection}",
        stopped[1][7].id,
    )
    assert fault(stopped[0], depth="records") is None


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_vector_that_is_none_is_found(stopped: Stopped, value: float) -> None:
    index = index_of(stopped[0])
    elements = Elements(index, read_header(index), writable=True)
    elements.set_vectors(np.array([31], dtype=np.uint64), np.full(8, value, dtype=np.float32))
    elements.flush()
    assert fault(stopped[0], depth="elements") == "some of its vectors are no vectors"


def test_vectors_of_another_length_than_the_collections_are_found(stopped: Stopped) -> None:
    sql(stopped[0], "UPDATE collections SET dimension = 9 WHERE name = ?", SHARD)
    assert fault(stopped[0], depth="quick") == "its vectors have 8 numbers"
