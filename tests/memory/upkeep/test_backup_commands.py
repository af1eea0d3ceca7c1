from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from memory.data_folder import hold
from memory.upkeep.ledger import SqliteLedger
from memory.upkeep.vector_segments import DATABASE
from tests.memory.upkeep.store_world import USERS, filled

pytestmark = pytest.mark.chroma


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m memory`` in *folder*, where no configuration is."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return subprocess.run(
        [sys.executable, "-m", "memory", *arguments],
        cwd=folder,
        env={**own, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_store_is_backed_up_verified_lost_and_restored(tmp_path: Path) -> None:
    stored = anyio.run(filled, tmp_path / "data")
    with closing(SqliteLedger.open(tmp_path / "data")) as ledger:
        made = run(tmp_path, "backup", "kept")
        assert made.returncode == 0, made.stderr
        assert "kept: 15 messages of 3 users as of " in made.stdout
        assert "copying" in made.stderr
        verified = run(tmp_path, "verify", "kept", "--against", "data")
        assert verified.returncode == 0
        assert "15 messages of kept compared with data: 0 missing, 0 changed, 0 deleted" in (
            verified.stdout
        )
        ledger.finish(ledger.begin(USERS[0]))
    lost = stored[USERS[1]][0].id
    with closing(sqlite3.connect(tmp_path / "data" / "chroma" / DATABASE)) as database:
        database.executemany(
            "DELETE FROM embeddings WHERE embedding_id = ?",
            [(message.id,) for message in stored[USERS[0]]],
        )
        database.execute("DELETE FROM embeddings WHERE embedding_id = ?", (lost,))
        database.commit()
    verified = run(tmp_path, "verify", "kept", "--against", "data")
    assert verified.returncode == 1
    assert f"{lost}: missing" in verified.stdout
    assert "1 missing, 0 changed, 5 deleted since" in verified.stdout
    refused = run(tmp_path, "restore", "kept")
    assert refused.returncode == 1
    assert "give --replace" in refused.stderr
    restored = run(tmp_path, "restore", "kept", "--replace")
    assert restored.returncode == 0, restored.stderr
    assert "restored to data: 10 messages of 2 users as of " in restored.stdout
    assert "erased since: 1 user, 0 single messages\n" in restored.stdout
    assert 'placement = "sharded" and shards = 1' in restored.stdout
    verified = run(tmp_path, "verify", "kept", "--against", "data")
    assert verified.returncode == 0, verified.stdout
    assert "0 missing, 0 changed, 5 deleted since" in verified.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("backup", "kept"), "data holds no store"),
        (("verify", "nowhere"), "nowhere is not a backup"),
        (("restore", "nowhere", "--without-ledger"), "nowhere is not a backup"),
        (("verify", "nowhere", "--against", "data"), "nowhere is not a backup"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    found = run(tmp_path, *arguments)
    assert found.returncode == 1
    assert told in found.stderr
    assert len(found.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_what_is_on_another_server_is_told_to_be_elsewhere(tmp_path: Path, command: str) -> None:
    found = run(tmp_path, command, "kept", TANDEM_CHROMA__URL="http://there:8000")
    assert found.returncode == 1
    assert "http://there:8000" in found.stderr
    assert "python -m chat_server export" in found.stderr


def test_a_served_folder_is_not_restored_into(tmp_path: Path) -> None:
    with hold(tmp_path / "data"):
        found = run(tmp_path, "restore", "kept")
    assert found.returncode == 1
    assert "is in use by another server" in found.stderr


def test_old_backups_are_removed_on_demand(tmp_path: Path) -> None:
    anyio.run(filled, tmp_path / "data")
    assert run(tmp_path, "backup", "kept/before-upgrade").returncode == 0
    made = [run(tmp_path, "backup", "kept", "--keep", "2") for _ in range(3)]
    names = [it.stdout.partition(":")[0] for it in made]
    assert [it.stdout.splitlines()[1:] for it in made] == [[], [], [f"removed: {names[0]}"]]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == sorted(
        [*(Path(name).name for name in names[1:]), "before-upgrade"]
    )


def test_a_backup_in_the_data_folder_is_one_line_and_none(tmp_path: Path) -> None:
    anyio.run(filled, tmp_path / "data")
    for arguments in (("data/backup",), ("data/backup", "--keep", "2")):
        found = run(tmp_path, "backup", *arguments)
        assert found.returncode == 1
        assert found.stderr.startswith("error: data/backup is in the data folder data: ")
    assert not (tmp_path / "data" / "backup").exists()
