from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import StoreUnavailable
from memory.free_space import KEPT_S, FreeSpace

EVERYTHING = 1 << 62


def test_where_there_is_room_nothing_is_said(tmp_path: Path) -> None:
    FreeSpace(tmp_path, needed_bytes=1).check()


def test_a_full_disk_is_named_with_its_folder_and_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=rf"the disk is full: \d+ MB .*{tmp_path.name}"):
        FreeSpace(tmp_path, needed_bytes=EVERYTHING).check()


def test_it_is_looked_at_again_after_a_moment_and_room_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    space = FreeSpace(tmp_path, needed_bytes=10, clock=lambda: now)
    monkeypatch.setattr(space, "_look", lambda: 9)
    with pytest.raises(StoreUnavailable):
        space.check()
    monkeypatch.setattr(space, "_look", lambda: 11)
    with pytest.raises(StoreUnavailable):
        space.check()
    now += KEPT_S
    space.check()


def test_a_folder_of_which_nobody_knows_is_not_full(tmp_path: Path) -> None:
    FreeSpace(tmp_path / "gone", needed_bytes=EVERYTHING).check()
