from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from memory.__main__ import app
from memory.data_folder import hold
from memory.embedding import Embedder
from memory.errors import DataFolderInUse, UpkeepRefused
from memory.in_process_embedder import InProcessEmbedder
from memory.upkeep import healing_commands
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import (
    DAMAGES,
    EMBEDDER,
    check_whole,
    healed,
    index_of,
    kept,
    sql,
)

pytestmark = pytest.mark.chroma


@pytest.fixture
def with_embedder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Embedder], None]:
    """Let `heal` embed with a twin."""

    def use(embedder: Embedder) -> None:
        monkeypatch.setattr(healing_commands, "_embedder", lambda *_: embedder)

    return use


def run(*arguments: str) -> tuple[int, list[str]]:
    found = CliRunner().invoke(app, arguments)
    structlog.reset_defaults()  # the command's log goes to a stream that is closed by now
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout.splitlines()


def check(data_dir: Path) -> tuple[int, list[str]]:
    return run("check", "--data-dir", str(data_dir))


def test_a_sound_store_is_called_so(stopped: Stopped) -> None:
    assert check(stopped[0]) == (0, ["2 collections, 51 records", "all is well"])


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_damage_of_an_index_is_found_and_nothing_is_changed(
    stopped: Stopped, damage: Callable[[Path], None]
) -> None:
    data_dir, _ = stopped
    damage(index_of(data_dir))
    code, lines = check(data_dir)
    assert code == 1
    assert lines[1].startswith("indexes: the index of user_00: ")
    assert "python -m memory heal" in lines[-1]
    assert check(data_dir) == (code, lines)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM embeddings WHERE id = 7", "the parent is not stored"),
        (
            "UPDATE embedding_metadata SET int_value = 40 WHERE id = 7 AND key = 'depth'",
            "the parent is of another conversation or depth",
        ),
        (
            "UPDATE embedding_metadata SET string_value = 'bea' WHERE id = 7 AND key = 'user_id'",
            "it cannot be found where it belongs (page, month)",
        ),
        (
            "DELETE FROM embedding_metadata WHERE id = 7 AND key = 'timestamp'",
            "timestamp is missing or wrong",
        ),
        (
            "DELETE FROM embedding_metadata WHERE id = 7 AND key = 'chroma:document'",
            "the words are missing",
        ),
    ],
)
def test_a_fault_of_a_record_is_found(stopped: Stopped, statement: str, fault: str) -> None:
    data_dir, _ = stopped
    sql(data_dir, statement)
    code, lines = check(data_dir)
    assert code == 1
    assert any(fault in line for line in lines)


def test_a_database_whose_pages_are_damaged_is_found(stopped: Stopped) -> None:
    data_dir, _ = stopped
    database = data_dir / "chroma" / "chroma.sqlite3"
    sql(data_dir, "PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = sql(data_dir, "SELECT rootpage FROM sqlite_schema WHERE name = 'embeddings'")[0]
    with database.open("r+b") as file:
        file.seek((int(str(page)) - 1) * 4096)
        file.write(b"\xa5" * 4096)
    try:
        code, lines = check(data_dir)
    except UpkeepRefused as refusal:
        assert "cannot be read" in str(refusal)
    else:
        assert code == 1
        assert any(line.startswith("database: ") for line in lines)


def test_a_folder_in_use_is_left_alone(stopped: Stopped) -> None:
    with hold(stopped[0]):
        for command in ("check", "heal"):
            with pytest.raises(DataFolderInUse):
                run(command, "--data-dir", str(stopped[0]))


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpkeepRefused, match="not there"):
        check(tmp_path)


def test_a_store_is_healed_without_a_server(
    stopped: Stopped, with_embedder: Callable[[Embedder], None]
) -> None:
    data_dir, _ = stopped
    with_embedder(EMBEDDER)
    DAMAGES["index_metadata.pickle cut"](index_of(data_dir))
    assert run("heal", "--data-dir", str(data_dir)) == (0, ["healed: 1 collections, 51 records"])
    assert check(data_dir)[0] == 0
    assert run("heal", "--data-dir", str(data_dir)) == (0, ["nothing to heal"])


async def test_what_was_healed_without_a_server_is_whole(
    stopped: Stopped, with_embedder: Callable[[Embedder], None]
) -> None:
    data_dir, messages = stopped
    with_embedder(EMBEDDER)
    DAMAGES["all removed"](index_of(data_dir))
    assert check(data_dir)[0] == 1
    async with kept(data_dir) as (keeper, _memory):
        await healed(keeper)
        await check_whole(keeper, messages)
    assert check(data_dir)[0] == 0


def test_another_embedder_is_not_taken_by_hand(
    stopped: Stopped, with_embedder: Callable[[Embedder], None]
) -> None:
    with_embedder(InProcessEmbedder(12))
    with pytest.raises(UpkeepRefused, match="--model"):
        run("heal", "--data-dir", str(stopped[0]))
