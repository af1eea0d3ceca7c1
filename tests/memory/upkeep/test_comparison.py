from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from memory.errors import UpkeepRefused
from memory.messages import Message, UserId
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.backup import back_up
from memory.upkeep.comparison import Differences, Gone, compare, directory_of
from memory.upkeep.store_file import StoreFile
from memory.upkeep.vector_segments import DATABASE
from tests.contracts.long_term_world import vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.store_world import fill, filled, ignore

pytestmark = pytest.mark.chroma

ROW = "id = (SELECT id FROM embeddings WHERE embedding_id = ?)"

Stored = dict[UserId, list[Message]]


def nothing_gone(_user: UserId, _message: str) -> bool:
    return False


def compared(backup: Path, data_dir: Path, gone: Gone = nothing_gone) -> Differences:
    with (
        StoreFile.opened(backup / DATABASE, still=True) as before,
        StoreFile.opened(data_dir / "chroma" / DATABASE, still=False) as now,
    ):
        return compare(before, now, gone, ignore)


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, Path, Stored]:
    """A data folder, its backup and what both hold."""
    stored = anyio.run(filled, tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup", ignore)
    return tmp_path / "data", tmp_path / "backup", stored


@contextmanager
def altering(data_dir: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(data_dir / "chroma" / DATABASE)) as connection:
        yield connection
        connection.commit()


def test_a_store_is_its_backup_and_what_came_since_does_not_matter(
    store: tuple[Path, Path, Stored],
) -> None:
    data_dir, backup, _ = store
    assert compared(backup, data_dir) == Differences(compared=15)

    async def more() -> None:
        async with serving(data_dir) as (process, _), opened(lambda: process.url) as memory:
            await fill(memory, [UserId("new")])

    anyio.run(more)
    assert compared(backup, data_dir) == Differences(compared=15)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE embedding_metadata SET string_value = 'x' WHERE {row} AND key='chroma:document'",
         "text differs"),
        ("UPDATE embedding_metadata SET string_value = 'x' WHERE {row} AND key='parent'",
         "parent differs"),
        ("UPDATE embedding_metadata SET string_value = 'bob' WHERE {row} AND key='user_id'",
         "user_id differs"),
        ("DELETE FROM embedding_metadata WHERE {row} AND key = 'depth'", "depth differs"),
        ("DELETE FROM embeddings WHERE {row}", "missing"),
    ],
)  # fmt: skip
def test_a_planted_difference_is_found_and_named(
    store: tuple[Path, Path, Stored], change: str, told: str
) -> None:
    data_dir, backup, stored = store
    victim = stored[UserId("ann")][2]
    with altering(data_dir) as connection:
        connection.execute(change.format(row=ROW), (victim.id,))
    found = compared(backup, data_dir)
    missing = told == "missing"
    assert (found.missing, found.changed, found.deleted) == (missing, not missing, 0)
    assert found.examples == [f"{victim.id}: {told}"]
    assert found.losses == 1


def test_what_was_deleted_on_purpose_is_no_loss(store: tuple[Path, Path, Stored]) -> None:
    data_dir, backup, stored = store
    erased, other, deleted = (stored[user][0] for user in stored)
    with altering(data_dir) as connection:
        connection.executemany(
            "DELETE FROM embeddings WHERE embedding_id = ?",
            [(message.id,) for message in (*stored[erased.user], other)],
        )
        connection.execute(
            "INSERT INTO embedding_metadata (id, key, string_value) "
            "SELECT id, 'status', 'deleted' FROM embeddings WHERE embedding_id = ?",
            (deleted.id,),
        )
        connection.execute(
            "UPDATE embedding_metadata SET string_value = '' WHERE key = 'chroma:document' "
            "AND id = (SELECT id FROM embeddings WHERE embedding_id = ?)",
            (deleted.id,),
        )
    found = compared(backup, data_dir, lambda user, _message: user == erased.user)
    assert (found.deleted, found.missing) == (len(stored[erased.user]) + 1, 1)
    assert found.examples == [f"{other.id}: missing"]


@pytest.mark.parametrize("placement", [PerUser(), Sharded(shards=3)])
def test_a_store_that_was_laid_out_anew_is_compared_all_the_same(
    store: tuple[Path, Path, Stored], tmp_path: Path, placement: Placement
) -> None:
    _, backup, stored = store

    async def elsewhere() -> None:
        async with (
            serving(tmp_path / "other") as (process, _),
            opened(lambda: process.url, placement) as memory,
        ):
            for said in stored.values():
                await memory.append_many(said, vectors_of(said))

    anyio.run(elsewhere)
    assert compared(backup, tmp_path / "other") == Differences(compared=15)


def test_many_differences_are_counted_and_few_named(
    store: tuple[Path, Path, Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, backup, _ = store
    monkeypatch.setattr("memory.upkeep.comparison.EXAMPLES", 4)
    with altering(data_dir) as connection:
        connection.execute("DELETE FROM embeddings WHERE embedding_id LIKE 'm%'")
    found = compared(backup, data_dir)
    assert (found.missing, len(found.examples)) == (15, 4)


def test_a_database_that_is_not_one_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpkeepRefused, match="0 collections of conversations"):
        directory_of([])
