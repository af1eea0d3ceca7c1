from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from memory.errors import ChildFailed, UpkeepRefused
from memory.upkeep.keeper import ChromaKeeper
from memory.upkeep.schema_guard import KNOWN, check_database
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import EMBEDDER, sql

pytestmark = pytest.mark.chroma


def database(data_dir: Path) -> Path:
    return data_dir / "chroma" / "chroma.sqlite3"


def test_the_schema_of_the_pinned_chroma_is_known(stopped: Stopped) -> None:
    check_database(database(stopped[0]))
    found = sql(stopped[0], "SELECT dir, MAX(version) FROM migrations GROUP BY dir")
    assert dict(found) == KNOWN  # type: ignore[arg-type]


def test_what_is_not_there_or_empty_may_be_made(tmp_path: Path) -> None:
    check_database(tmp_path / "none")
    (tmp_path / "empty").touch()
    check_database(tmp_path / "empty")
    with closing(sqlite3.connect(tmp_path / "wal")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    check_database(tmp_path / "wal")


@pytest.mark.parametrize(
    ("kind", "version", "said"),
    [
        ("sysdb", 11, "newer Chroma than 1.5.9"),
        ("something", 1, "newer Chroma than 1.5.9"),
    ],
)
def test_a_newer_schema_is_refused_with_what_to_do(
    stopped: Stopped, kind: str, version: int, said: str
) -> None:
    sql(stopped[0], "INSERT INTO migrations VALUES (?, ?, 'x', 'x', 'x')", kind, version)
    with pytest.raises(UpkeepRefused, match=said) as refusal:
        check_database(database(stopped[0]))
    assert "restore a backup" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_much_older_schema_is_refused(stopped: Stopped) -> None:
    sql(stopped[0], "DELETE FROM migrations WHERE dir = 'sysdb' AND version > 7")
    with pytest.raises(UpkeepRefused, match=r"before 1\.0"):
        check_database(database(stopped[0]))


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other")) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(UpkeepRefused, match="is not Chroma's"):
        check_database(tmp_path / "other")


def test_damaged_pages_are_refused_with_what_to_do(stopped: Stopped) -> None:
    sql(stopped[0], "PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = sql(stopped[0], "SELECT rootpage FROM sqlite_schema WHERE name = 'embeddings'")[0]
    with database(stopped[0]).open("r+b") as file:
        file.seek((int(str(page)) - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(UpkeepRefused, match="restore a backup"):
        check_database(database(stopped[0]), within_s=60)


async def test_chroma_is_not_started_on_a_folder_of_a_newer_one(stopped: Stopped) -> None:
    sql(stopped[0], "INSERT INTO migrations VALUES ('sysdb', 11, 'x', 'x', 'x')")
    keeper = ChromaKeeper(stopped[0], EMBEDDER)
    with pytest.raises(ChildFailed, match="newer Chroma"):
        await keeper._process.prepare()
    await keeper.aclose()
