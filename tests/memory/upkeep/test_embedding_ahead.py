"""Embedding ahead: what succeeded is handed out, what failed is raised where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from memory.errors import EmbeddingFailed
from memory.messages import Vector
from memory.upkeep.embedding_ahead import EmbeddingAhead

TEXTS = {"a": "tea", "b": "coffee"}


async def lengths(texts: Mapping[str, str]) -> dict[str, Vector]:
    if "fail" in texts.values():
        raise EmbeddingFailed("no")
    return {record: np.full(1, len(text), np.float32) for record, text in texts.items()}


async def test_those_of_a_batch_that_have_a_text_are_embedded() -> None:
    ahead = EmbeddingAhead(lengths)
    await ahead.embed(TEXTS, ["b", "c"])
    assert {record: float(vector[0]) for record, vector in ahead.vectors().items()} == {"b": 6.0}


async def test_a_failure_is_raised_by_whoever_asks_and_the_next_batch_is_embedded() -> None:
    ahead = EmbeddingAhead(lengths)
    await ahead.embed({"a": "fail"}, ["a"])
    with pytest.raises(EmbeddingFailed):
        ahead.vectors()
    await ahead.embed(TEXTS, ["a"])
    assert list(ahead.vectors()) == ["a"]
