from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from chat_server.embedders import LateEmbedder, open_embedder
from chat_server.settings import Settings
from memory.errors import ModelFilesInvalid

pytestmark = pytest.mark.model_files


@pytest.fixture
def settings(tmp_path: Path, prepared_model_folder: Path) -> Settings:
    models = tmp_path / "models"
    models.mkdir()
    (models / prepared_model_folder.name).symlink_to(prepared_model_folder.resolve())
    return Settings(data_dir=tmp_path)


async def test_it_is_the_same_embedder_loaded_when_something_is_embedded(
    settings: Settings,
) -> None:
    late, now = LateEmbedder(settings), open_embedder(settings)
    try:
        assert (late.name, late.dimension, late.fingerprint) == (
            now.name,
            now.dimension,
            now.fingerprint,
        )
        assert late._embedder is None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(late.embed, ["two at once load one"])
            tasks.start_soon(late.embed_marked, ["model"])
        assert np.array_equal(await late.embed(["tea"]), await now.embed(["tea"]))
    finally:
        await late.aclose()
        await now.aclose()


async def test_one_that_was_never_needed_is_closed(settings: Settings) -> None:
    await LateEmbedder(settings).aclose()


def test_a_model_that_is_not_there_is_said_before(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesInvalid):
        LateEmbedder(Settings(data_dir=tmp_path))


def test_who_only_supervises_loads_no_runtime_of_models_and_no_server() -> None:
    heavy = {"onnxruntime", "torch", "uvicorn", "starlette", "openai"}
    program = (
        "import sys, chat_server.startup, chat_server.supervisor; "
        f"print(*sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
