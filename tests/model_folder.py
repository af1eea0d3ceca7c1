"""The prepared embedding model for tests; ``tests/conftest.py`` imports the fixture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memory.model_files import NAME, prepare


@pytest.fixture(scope="session")
def prepared_model_folder(request: pytest.FixtureRequest) -> Path:
    """A valid folder: below ``TEST_MODELS_FOLDER``, else in pytest's cache, made at first use.

    Tests read it only; those that damage files damage a copy.
    """
    given = os.environ.get("TEST_MODELS_FOLDER")
    if given:
        folder = Path(given) / NAME
    else:
        cache = request.config.cache
        assert cache is not None
        folder = cache.mkdir("tandem-models") / NAME
    prepare(folder, lambda _step, _done: None)
    return folder
