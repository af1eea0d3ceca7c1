from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import WarmFailed
from memory.hot_memory import HotMemory
from memory.messages import UserId
from memory.warm import WarmCopy, WarmMemories
from tests.memory.test_hot_memory import ROOMY, axis, filled, said
from tests.memory.warm_world import files

ADA = UserId("ada")


def empty() -> HotMemory:
    return HotMemory(max_messages=100, max_bytes=ROOMY)


def opened(folder: Path, *, fingerprint: str = "f") -> WarmMemories:
    return WarmMemories(folder, fingerprint=fingerprint, exclusive=True)


async def kept(warm: WarmMemories, *, version: int = 3) -> HotMemory:
    memory = filled(*(said(number) for number in range(5)))
    assert await warm.save(ADA, warm.ticket(ADA), WarmCopy(memory, version))
    return memory


async def test_a_kept_memory_is_loaded_in_a_later_process(tmp_path: Path) -> None:
    memory = await kept(opened(tmp_path))
    loaded = await opened(tmp_path).load(ADA, empty)
    assert loaded is not None
    assert loaded.version == 3
    asked = ("tea", axis(1))
    assert loaded.memory.search(*asked, limit=9).items == memory.search(*asked, limit=9).items
    assert await opened(tmp_path).load(UserId("ben"), empty) is None


async def test_what_cannot_be_used_is_deleted(tmp_path: Path) -> None:
    await kept(opened(tmp_path))
    assert await opened(tmp_path, fingerprint="other").load(ADA, empty) is None
    assert files(tmp_path) == []
    await kept(opened(tmp_path))
    path = tmp_path / files(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-7])
    assert await opened(tmp_path).load(ADA, empty) is None
    assert files(tmp_path) == []


async def test_who_is_void_is_neither_read_nor_kept_until_forgotten(tmp_path: Path) -> None:
    warm = opened(tmp_path)
    memory = await kept(warm)
    ticket = warm.ticket(ADA)
    warm.void(ADA)
    assert await warm.load(ADA, empty) is None
    assert not await warm.save(ADA, ticket, WarmCopy(memory, 3))
    await warm.forget_messages(["m1"])  # type: ignore[list-item]  # any id
    assert files(tmp_path) == []
    await kept(warm)
    assert await warm.load(ADA, empty) is not None


async def test_a_memory_in_the_middle_of_a_change_is_not_kept(tmp_path: Path) -> None:
    warm = opened(tmp_path)
    memory = filled(said(0))
    memory.changes += 1
    assert not await warm.save(ADA, warm.ticket(ADA), WarmCopy(memory, 3))
    assert files(tmp_path) == []


async def test_a_failing_disk_costs_the_copy_and_an_erasure_hears_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "warm"
    folder.write_text("a file in the way")
    warm = opened(folder)
    assert not await warm.save(ADA, warm.ticket(ADA), WarmCopy(filled(said(0)), 3))
    assert await warm.load(ADA, empty) is None
    with pytest.raises(WarmFailed):
        await warm.forget_user(ADA)
    await warm.distrust(ADA)
