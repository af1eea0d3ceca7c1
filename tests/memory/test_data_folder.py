from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memory.data_folder import hold, hold_slot, slot_path
from memory.errors import DataFolderInUse, DataFolderUnusable

HOLDER = """
import sys, time
from pathlib import Path
from memory.data_folder import hold

with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

SLOT_HOLDER = """
import sys, time
from pathlib import Path
from memory.data_folder import hold_slot

with hold_slot(Path(sys.argv[1]), 1):
    print("held", flush=True)
    time.sleep(0.3)
"""


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    with hold(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_a_second_server_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataFolderInUse) as refused, hold(tmp_path):
            pass
        assert (refused.value.folder, refused.value.holder_pid) == (tmp_path, holder.pid)
        assert str(tmp_path) in str(refused.value)
        assert str(holder.pid) in str(refused.value)
        holder.kill()
    with hold(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_file_left_behind_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1234567890 or whatever this is\n")
    with hold(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_is_free_again_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path):
        raise RuntimeError
    with hold(tmp_path):
        pass


def test_a_refusal_leaves_the_holder_alone(tmp_path: Path) -> None:
    with hold(tmp_path):
        for _ in range(2):
            with pytest.raises(DataFolderInUse), hold(tmp_path):
                pass
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    with hold(tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        child.stdout.readline()
    with child:
        with hold(tmp_path):
            pass
        assert child.poll() is None
        child.kill()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataFolderUnusable, match=str(tmp_path / "data")), hold(tmp_path / "data"):
        pass


def test_a_slot_is_held_beside_the_folder_and_by_one_alone(tmp_path: Path) -> None:
    with hold(tmp_path), hold_slot(tmp_path, 0), hold_slot(tmp_path, 1):
        assert slot_path(tmp_path, 1).read_text() == f"{os.getpid()}\n"
        with pytest.raises(DataFolderInUse), hold_slot(tmp_path, 0, ending_s=0.0):
            pass
    with hold_slot(tmp_path, 0, ending_s=0.0):
        pass


def test_a_folder_whose_worker_lives_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    with hold_slot(tmp_path, 1):
        with pytest.raises(DataFolderInUse) as refused, hold(tmp_path, ending_s=0.0):
            pass
        assert refused.value.holder_pid == os.getpid()
    with hold(tmp_path, ending_s=0.0):
        pass


def test_a_worker_that_ends_soon_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", SLOT_HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with hold(tmp_path, ending_s=20.0):
            assert holder.wait(10) == 0
