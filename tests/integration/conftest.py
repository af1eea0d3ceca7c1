"""Servers for the tests of whole conversations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running_server import RunningServer, running_server
from tests.stub_model import StubModel


@pytest.fixture
def data_dir(tmp_path: Path, prepared_model_folder: Path) -> Path:
    """A data folder that has the embedding model already."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    shutil.copytree(prepared_model_folder, models / prepared_model_folder.name)
    return tmp_path / "data"


@pytest.fixture
def stub() -> StubModel:
    """The stub model; ``model_environment`` runs it."""
    return StubModel()


@pytest.fixture
def model_environment(stub: StubModel) -> Iterator[dict[str, str]]:
    """Environment of a server that uses the running stub."""
    with stub.running() as base_url:
        yield {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "test-key"}


@pytest.fixture
def server(data_dir: Path, model_environment: dict[str, str]) -> Iterator[RunningServer]:
    """A server with real children and the stub model, ready."""
    with running_server(data_dir, model_environment) as started:
        yield started.wait_ready()
