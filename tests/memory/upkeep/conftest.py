"""A store that was filled once, for every test anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest

from memory.messages import Message
from tests.memory.upkeep.keeper_world import filled

Stopped = tuple[Path, list[Message]]


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    data_dir = tmp_path_factory.mktemp("filled")
    return data_dir, anyio.run(filled, data_dir)


@pytest.fixture
def stopped(filled_once: Stopped, tmp_path: Path) -> Stopped:
    """A data folder whose Chroma was stopped in order, and the messages in it."""
    data_dir = tmp_path / "stopped"
    shutil.copytree(filled_once[0], data_dir)
    return data_dir, filled_once[1]
