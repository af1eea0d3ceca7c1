from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from memory.errors import UpkeepRefused
from memory.records import message_record
from memory.upkeep import store_file
from memory.upkeep.store_file import StoreFile
from memory.upkeep.vector_segments import DATABASE
from tests.memory.upkeep.store_world import filled

pytestmark = pytest.mark.chroma


@pytest.mark.parametrize("records_per_read", [1, 4, 500])
def test_records_are_read_as_they_were_written_and_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records_per_read: int
) -> None:
    monkeypatch.setattr(store_file, "RECORDS_PER_READ", records_per_read)
    stored = anyio.run(filled, tmp_path)
    with StoreFile.opened(tmp_path / "chroma" / DATABASE, still=False) as store:
        directory, shelf = store.collections()
        found = [record for segment, record in store.records() if segment == shelf.segment]
        expected = [message_record(message) for said in stored.values() for message in said]
        assert sorted(found) == sorted(expected)
        for said in stored.values():
            order = [message.id for message in said]
            assert [record.id for record in found if record.id in order] == order
        assert store.record(shelf.segment, expected[0].id) == expected[0]
        assert store.record(directory.segment, expected[0].id) is None
        assert (directory.kind, shelf.kind) == ("conversations", "messages")
        assert (shelf.name, shelf.layout, shelf.dimension) == ("user_00", "sharded/1", 8)
        assert store.counts() == {directory.segment: 3, shelf.segment: 15}
        assert store.users() == 3


def test_what_is_not_such_a_database_is_refused_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UpkeepRefused, match="is not there"),
        StoreFile.opened(tmp_path / DATABASE, still=True),
    ):
        pass
    (tmp_path / DATABASE).write_bytes(b"not a database at all" * 1_000)
    with (
        pytest.raises(UpkeepRefused, match="cannot be read: file is not a database"),
        StoreFile.opened(tmp_path / DATABASE, still=True) as store,
    ):
        store.collections()
