from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import UpkeepRefused
from memory.upkeep.vector_segments import (
    END,
    all_ids,
    count_after,
    hollow_ids,
    ids_after,
    newest_id,
    opened,
    persisted_ids,
    persisted_up_to,
    vector_segments,
)
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import SHARD, segments, sql

pytestmark = pytest.mark.chroma


def database(stopped: Stopped) -> Path:
    return stopped[0] / "chroma" / "chroma.sqlite3"


def test_collections_are_told_with_what_they_are(stopped: Stopped) -> None:
    found = segments(stopped[0])
    assert {name: it.kind for name, it in found.items()} == {
        "user_.meta": "conversations",
        SHARD: "messages",
    }
    assert found[SHARD].dimension == 8
    assert (stopped[0] / "chroma" / found[SHARD].id / "header.bin").exists()


def test_ids_are_walked_in_their_order_from_a_cursor_on(stopped: Stopped) -> None:
    ids = sorted(message.id for message in stopped[1])
    segment = segments(stopped[0])[SHARD]
    with opened(database(stopped)) as connection:
        walked: list[str] = []
        while part := ids_after(connection, segment, walked[-1] if walked else "", 7):
            assert count_after(connection, segment, part[0]) == len(ids) - len(walked) - 1
            walked += part
        assert walked == ids == sorted(all_ids(connection, segment))
        assert newest_id(connection, segment) == stopped[1][-1].id


def test_what_must_be_in_the_files_is_told_from_what_is_in_the_log(stopped: Stopped) -> None:
    segment = segments(stopped[0])[SHARD]
    with opened(database(stopped)) as connection:
        up_to = persisted_up_to(connection, segment)
        assert up_to is not None
        persisted = set(persisted_ids(connection, segment, END))
        assert persisted == {message.id for message in stopped[1][:up_to]}
        assert 0 < len(persisted) < len(stopped[1])
        tenth = sorted(persisted)[9]
        assert len(set(persisted_ids(connection, segment, tenth))) == 10
        assert set(persisted_ids(connection, segment, "")) == set()


def test_records_without_anything_are_found(stopped: Stopped) -> None:
    segment = segments(stopped[0])[SHARD]
    sql(stopped[0], "DELETE FROM embedding_metadata WHERE id = 3")
    with opened(database(stopped)) as connection:
        assert hollow_ids(connection, segment) == [stopped[1][2].id]


def test_a_database_without_chromas_tables_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with opened(tmp_path / "empty") as connection:
        assert vector_segments(connection) == []


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpkeepRefused, match="cannot be read"), opened(tmp_path / "none"):
        pass
    (tmp_path / "text").write_text("this is no database, and long enough to tell")
    with pytest.raises(UpkeepRefused, match="cannot be read"), opened(tmp_path / "text") as it:
        vector_segments(it)
