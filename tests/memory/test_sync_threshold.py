from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import chromadb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.sync_threshold import LEAST, MOST, set_sync_thresholds, sync_threshold
from tests.memory.chroma_world import serving


@given(st.integers(0, 10_000_000), st.integers(0, 1_000_000))
def test_a_larger_collection_is_not_written_more_often(records: int, more: int) -> None:
    assert LEAST <= sync_threshold(records) <= sync_threshold(records + more) <= MOST


def test_small_and_large_collections_have_the_bounds() -> None:
    assert sync_threshold(0) == LEAST
    assert sync_threshold(100_000) == 400
    assert sync_threshold(1_000_000) == MOST


def logged(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM embeddings_queue").fetchone()
        return int(count)


@pytest.mark.chroma
async def test_a_threshold_that_was_set_for_the_size_is_kept_by_chroma(tmp_path: Path) -> None:
    dice = np.random.default_rng(1)

    async def add(port: int, first: int, count: int) -> None:
        chroma = await chromadb.AsyncHttpClient(port=port)
        collection = await chroma.get_or_create_collection(
            "some", configuration={"hnsw": {"space": "cosine", "sync_threshold": MOST}}
        )
        await collection.add(
            ids=[str(number) for number in range(first, first + count)],
            embeddings=dice.standard_normal((count, 4)).astype(np.float32),
            documents=["text"] * count,
        )

    async with serving(tmp_path) as (process, _):
        database = process.folder / "chroma.sqlite3"
        await add(process.port, 0, LEAST + 50)
        assert logged(database) == LEAST + 50  # nothing was written to the index yet
    with closing(sqlite3.connect(database)) as connection:
        set_sync_thresholds(connection)
        connection.commit()
    async with serving(tmp_path) as (process, _):
        chroma = await chromadb.AsyncHttpClient(port=process.port)
        collection = await chroma.get_collection("some")
        assert collection.configuration["hnsw"] is not None
        assert collection.configuration["hnsw"]["sync_threshold"] == LEAST
        assert collection.configuration["hnsw"]["space"] == "cosine"
        await add(process.port, 1_000, 1)
        await add(process.port, 1_001, LEAST)
        assert logged(database) < LEAST
        assert await collection.count() == 2 * LEAST + 51


@pytest.mark.chroma
async def test_a_start_sets_the_threshold_before_chroma_reads_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as (process, _):
        chroma = await chromadb.AsyncHttpClient(port=process.port)
        await chroma.create_collection("some", configuration={"hnsw": {"sync_threshold": 7}})
    async with serving(tmp_path) as (process, _):
        chroma = await chromadb.AsyncHttpClient(port=process.port)
        collection = await chroma.get_collection("some")
        assert collection.configuration["hnsw"] is not None
        assert collection.configuration["hnsw"]["sync_threshold"] == LEAST
