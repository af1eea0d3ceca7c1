from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from memory.errors import UpkeepRefused
from memory.messages import Message
from memory.upkeep import backup as backup_module
from memory.upkeep import manifest
from memory.upkeep.backup import back_up, back_up_into
from memory.upkeep.store_file import StoreFile
from memory.upkeep.vector_segments import DATABASE
from tests.contracts.long_term_world import said, somebody, vector_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.store_world import USERS, filled, ignore

pytestmark = pytest.mark.chroma

KILLED = """
import os, signal, sys
from pathlib import Path
from memory.upkeep import backup

def kill(step, done):
    if step == "checking the copy":
        os.kill(os.getpid(), signal.SIGKILL)

backup.back_up(Path(sys.argv[1]), Path(sys.argv[2]), kill)
"""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose server has stopped; only read by the tests."""
    data_dir = tmp_path_factory.mktemp("data")
    anyio.run(filled, data_dir)
    return data_dir


def test_a_backup_holds_the_database_and_says_what_it_is(stopped: Path, tmp_path: Path) -> None:
    to = tmp_path / "backups" / "today"
    found = back_up(stopped, to, ignore)
    assert sorted(path.name for path in to.iterdir()) == [DATABASE, "manifest.json"]
    assert manifest.checked(to, ignore) == found
    assert (found.messages, found.users, found.layout) == (15, len(USERS), "sharded/1")
    assert (found.embedding, found.dimension) == ("test", 8)
    assert found.chromadb
    assert len(found.schema) > 10
    assert stat.S_IMODE(to.stat().st_mode) == 0o700
    assert stat.S_IMODE((to / DATABASE).stat().st_mode) == 0o600


async def test_what_was_accepted_before_is_in_a_backup_made_while_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "PAGES_PER_STEP", 4)
    accepted: list[Message] = []
    user = somebody()
    async with (
        serving(tmp_path / "data") as (process, _),
        opened(lambda: process.url) as memory,
        anyio.create_task_group() as tasks,
    ):

        async def write() -> None:
            while not ended.is_set():
                message = said(user, "said while a backup is made")
                await memory.append(message, vector_of(message))
                accepted.append(message)

        ended = anyio.Event()
        for _ in range(3):
            tasks.start_soon(write)
        for number in range(3):
            had = len(accepted)
            while len(accepted) < had + 20:
                await anyio.sleep(0.01)
            before = {message.id for message in accepted}
            to = tmp_path / f"backup-{number}"
            await anyio.to_thread.run_sync(partial(back_up, tmp_path / "data", to, ignore))
            with StoreFile.opened(to / DATABASE, still=True) as copy:
                assert before <= {record.id for _, record in copy.records()}
            manifest.checked(to, ignore)
        while len(accepted) <= len(before):
            await anyio.sleep(0.01)
        ended.set()


async def test_one_moment_is_copied_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    await filled(data_dir)
    database = data_dir / "chroma" / DATABASE
    with closing(sqlite3.connect(database)) as writer:

        def write(step: str, _done: float) -> None:
            if step == "copying":
                writer.execute("INSERT INTO maintenance_log VALUES (NULL, 1, 'written')")
                writer.commit()

        backup_module.back_up(data_dir, tmp_path / "backup", write)
        assert writer.execute("SELECT COUNT(*) FROM maintenance_log").fetchone()[0] > 0
    with closing(sqlite3.connect(tmp_path / "backup" / DATABASE)) as copy:
        assert copy.execute("SELECT COUNT(*) FROM maintenance_log").fetchone() == (0,)


def test_a_backup_is_never_written_over(stopped: Path, tmp_path: Path) -> None:
    to = tmp_path / "today"
    back_up(stopped, to, ignore)
    before = (to / "manifest.json").read_bytes()
    with pytest.raises(UpkeepRefused, match="exists; a backup is never written over"):
        back_up(stopped, to, ignore)
    assert (to / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("when", ["copying", "checking the copy"])
def test_a_backup_that_fails_leaves_nothing(stopped: Path, tmp_path: Path, when: str) -> None:
    def fail(step: str, _done: float) -> None:
        if step == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(stopped, tmp_path / "backups" / "today", fail)
    assert list((tmp_path / "backups").iterdir()) == []


def test_what_a_killed_backup_left_does_not_look_whole_and_is_written_over(
    stopped: Path, tmp_path: Path
) -> None:
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(stopped),
            str(tmp_path / "today"),
        ],
        check=False,
    )
    assert killed.returncode < 0
    assert [path.name for path in tmp_path.iterdir()] == [".today.partial"]
    with pytest.raises(UpkeepRefused, match="not a backup"):
        manifest.read(tmp_path / ".today.partial")
    back_up(stopped, tmp_path / "today", ignore)
    assert [path.name for path in tmp_path.iterdir()] == ["today"]


def test_two_backups_to_one_place_do_not_mix(stopped: Path, tmp_path: Path) -> None:
    (tmp_path / ".today.partial").mkdir()
    other = os.open(tmp_path / ".today.partial", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UpkeepRefused, match="another backup"):
        back_up(stopped, tmp_path / "today", ignore)
    os.close(other)


def test_the_newest_are_kept_and_what_is_not_a_backup_is_left_alone(
    stopped: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "2026-01-01T000000.000000Z").mkdir()
    back_up(stopped, tmp_path / "before-upgrade", ignore)
    back_up(stopped, tmp_path / "2026-01-01", ignore)
    before = sorted(tmp_path.iterdir())
    made = [back_up_into(stopped, tmp_path, 2, ignore) for _ in range(4)]
    assert sorted(tmp_path.iterdir()) == sorted([*before, *(to for to, _, _ in made[-2:])])
    assert [removed for _, _, removed in made] == [[], [], [made[0][0]], [made[1][0]]]


def test_a_backup_in_the_data_folder_is_refused_and_leaves_nothing(
    stopped: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(stopped)
    before = sorted(stopped.iterdir())
    for to in (stopped / "backup", stopped / "a" / "b", tmp_path / "link" / "backup", stopped):
        with pytest.raises(UpkeepRefused, match="is in the data folder"):
            back_up_into(stopped, to, 1, ignore)
        with pytest.raises(UpkeepRefused, match=r"is in the data folder|exists"):
            back_up(stopped, to, ignore)
    assert sorted(stopped.iterdir()) == before
    back_up(stopped, stopped.with_name(f"{stopped.name}-backup"), ignore)


def test_a_store_that_is_not_there_or_damaged_is_not_backed_up(
    stopped: Path, tmp_path: Path
) -> None:
    with pytest.raises(UpkeepRefused, match="holds no store"):
        back_up(tmp_path, tmp_path / "backup", ignore)
    data_dir = shutil.copytree(stopped, tmp_path / "data")
    database = data_dir / "chroma" / DATABASE
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # folds the log in
    content = bytearray(database.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    database.write_bytes(content)
    with pytest.raises(UpkeepRefused, match=r"damaged|malformed"):
        back_up(data_dir, tmp_path / "backup", ignore)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_disk_that_is_too_small_is_told_before(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(UpkeepRefused, match=r"needs .* MB and .* MB free"):
        back_up(stopped, tmp_path / "backup", ignore)
    assert list(tmp_path.iterdir()) == []
