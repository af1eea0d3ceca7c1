from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.messages import Message
from tests.memory.upkeep.keeper_world import (
    ANN,
    DAMAGES,
    check_whole,
    filled,
    healed,
    index_of,
    kept,
)

pytestmark = pytest.mark.chroma

Stopped = tuple[Path, list[Message]]


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    data_dir = tmp_path_factory.mktemp("made")
    return data_dir, await filled(data_dir)


@pytest.fixture
def stopped(made: Stopped, tmp_path: Path) -> Stopped:
    """A data folder whose Chroma was stopped in order, and the messages in it."""
    data_dir = tmp_path / "data"
    shutil.copytree(made[0], data_dir)
    return data_dir, made[1]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_a_damaged_index_is_found_before_the_start_and_healed(
    stopped: Stopped, damage: Callable[[Path], None]
) -> None:
    data_dir, messages = stopped
    damage(index_of(data_dir))
    async with kept(data_dir) as (keeper, memory):
        assert [it.text for it in await memory.by_ids(ANN, [messages[0].id])] == [messages[0].text]
        await healed(keeper)
        await check_whole(keeper, messages)
        assert keeper.child.restarts == 0
