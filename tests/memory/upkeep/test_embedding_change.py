from __future__ import annotations

import numpy as np
import pytest

from memory.records import placeholder
from memory.upkeep.embedding_change import EmbeddingFacts, adopt, is_of_another
from memory.upkeep.inspection import Inspection, Inspector
from memory.upkeep.rebuilds import Rebuilds
from memory.upkeep.vector_segments import opened
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import EMBEDDER, SHARD, index_of, segments, sql

pytestmark = pytest.mark.chroma

SAME = EmbeddingFacts(EMBEDDER.fingerprint, EMBEDDER.dimension)
OTHER = EmbeddingFacts("another", 12)


def test_the_same_embedder_is_told_from_another(stopped: Stopped) -> None:
    segment = segments(stopped[0])[SHARD]
    assert not is_of_another(segment, SAME)
    assert not is_of_another(segment, None)
    assert is_of_another(segment, OTHER)
    assert is_of_another(segment, EmbeddingFacts("another", 8))
    assert is_of_another(segment, EmbeddingFacts(EMBEDDER.fingerprint, 12))


def test_all_of_a_store_becomes_the_new_embedders_and_no_old_vector_is_left(
    stopped: Stopped,
) -> None:
    index = index_of(stopped[0])
    rebuilds = Rebuilds(stopped[0])
    inspector = Inspector(stopped[0] / "chroma", rebuilds)
    found = inspector.inspect(Inspection(embedding=OTHER))
    assert [finding.reason for finding in found] == ["the embedder has changed"]
    assert not index.exists()
    for segment in segments(stopped[0]).values():
        assert not is_of_another(segment, OTHER)
    assert segments(stopped[0])[SHARD].dimension == 12
    assert segments(stopped[0])["user_.meta"].dimension in {1, None}
    topic = f"%{segments(stopped[0])[SHARD].collection}"
    logged = sql(stopped[0], "SELECT vector FROM embeddings_queue WHERE topic LIKE ?", topic)
    assert logged
    for (vector,) in logged:
        assert isinstance(vector, bytes)
        assert np.array_equal(np.frombuffer(vector, "<f4"), placeholder(12))
    assert inspector.inspect(Inspection(embedding=OTHER)) == []
    assert len(rebuilds) == 1


def test_a_change_that_fails_changes_nothing(stopped: Stopped) -> None:
    database = stopped[0] / "chroma" / "chroma.sqlite3"
    before = segments(stopped[0])
    sql(
        stopped[0],
        "CREATE TRIGGER refuse BEFORE UPDATE ON embeddings_queue "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    with pytest.raises(Exception, match="refused"), opened(database, writable=True) as connection:
        adopt(connection, before.values(), OTHER)
    assert segments(stopped[0]) == before
