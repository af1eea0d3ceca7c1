"""A private Chroma with its keeper, a store on it, and ways to damage its files."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

import anyio
import numpy as np
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.chroma import ChromaLongTermMemory
from memory.chroma_collections import CollectionSpec
from memory.embedding import Embedder
from memory.in_process_embedder import InProcessEmbedder
from memory.messages import Message, UserId, Vector
from memory.placement import Sharded
from memory.records import is_unembedded, message_record
from memory.surroundings import Surroundings
from memory.upkeep.keeper import ChromaKeeper
from memory.upkeep.vector_segments import VectorSegment, opened, vector_segments
from tests.contracts.long_term_world import line, said

ANN = UserId("ann")
EMBEDDER = InProcessEmbedder(8)
SHARD = "user_00"
SYNC_THRESHOLD = 20
"""Records between two writings of the index's files."""
RECORDS = 50
PATIENCE_S = 60.0


class Kept(NamedTuple):
    keeper: ChromaKeeper
    memory: ChromaLongTermMemory


@asynccontextmanager
async def kept(data_dir: Path, embedder: Embedder = EMBEDDER) -> AsyncIterator[Kept]:
    """The keeper of *data_dir*'s Chroma, once it serves, and a store."""
    keeper = ChromaKeeper(data_dir, embedder)
    memory = ChromaLongTermMemory(
        keeper.address,
        Sharded(),
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        timeout_s=20,
        surroundings=Surroundings(
            incomplete=keeper.healing,
            before_write=keeper.space.check,
            gate=keeper.gate,
            on_damage=keeper.suspect,
        ),
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.child.run)
        tasks.start_soon(keeper.run)
        await keeper.child.wait_ready(PATIENCE_S)
        async with anyio.create_task_group() as writing:
            await writing.start(memory.run)
            yield Kept(keeper, memory)
            writing.cancel_scope.cancel()
        tasks.cancel_scope.cancel()
    await memory.aclose()
    await keeper.aclose()


async def fill(keeper: ChromaKeeper, embedder: Embedder = EMBEDDER) -> list[Message]:
    """Make a shard with a low threshold and store a conversation of ``RECORDS`` in it."""
    await keeper._client.create_collection(
        SHARD,
        configuration={"hnsw": {"space": "cosine", "sync_threshold": SYNC_THRESHOLD}},
        metadata=spec_of(embedder).metadata(),
    )
    messages = line(ANN, RECORDS)
    shard = await shard_of(keeper)
    for start in range(0, RECORDS, 10):
        records = [message_record(message) for message in messages[start : start + 10]]
        await shard.add(
            ids=[record.id for record in records],
            documents=[record.document for record in records],
            metadatas=[record.metadata for record in records],
            embeddings=await embedder.embed([record.document for record in records]),
        )
    return messages


async def filled(data_dir: Path) -> list[Message]:
    """A data folder with a store, Chroma stopped in order; its messages."""
    async with kept(data_dir) as (keeper, memory):
        messages = await fill(keeper)
        await memory.append(after := said(ANN, "the last", after=messages[-1]), await vector(after))
        return [*messages, after]


async def vector(message: Message) -> Vector:
    made: Vector = (await EMBEDDER.embed([message.text]))[0]
    return made


def spec_of(embedder: Embedder) -> CollectionSpec:
    return CollectionSpec(
        name=SHARD,
        kind="messages",
        layout=Sharded().layout,
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
    )


async def shard_of(keeper: ChromaKeeper) -> AsyncCollection:
    """The shard as Chroma's own client has it, through the keeper's connections."""
    model = await keeper._client.get_collection(SHARD)
    return AsyncCollection(keeper._client, model, embedding_function=None)


async def healed(keeper: ChromaKeeper) -> None:
    """Return when nothing is to be healed and Chroma serves."""
    with anyio.fail_after(PATIENCE_S):
        while keeper.progress() is not None or keeper.child.state != "ready":
            await anyio.sleep(0.02)


async def check_whole(
    keeper: ChromaKeeper, messages: list[Message], embedder: Embedder = EMBEDDER
) -> None:
    """All of *messages* are there, each once, with the vectors of their words, and found by them;
    nothing else is there.
    """
    shard = await shard_of(keeper)
    found = await shard.get(include=["documents", "metadatas", "embeddings"])
    assert sorted(found["ids"]) == sorted(message.id for message in messages)
    texts: dict[str, str] = {message.id: message.text for message in messages}
    documents = found["documents"] or []
    assert [texts[key] for key in found["ids"]] == documents
    marked = [is_unembedded(metadata) for metadata in found["metadatas"] or []]
    expected = await embedder.embed(documents)
    held = np.asarray(found["embeddings"])
    assert held.shape == expected.shape
    for row, is_marked in enumerate(marked):
        assert is_marked or np.allclose(held[row], expected[row], atol=1e-5)
    nearest = await shard.query(query_embeddings=expected[:1], n_results=1)
    first = (nearest["documents"] or [[]])[0]
    assert first == [documents[0]], f"{first}, {nearest['distances']}, not {documents[0]}"


def segments(data_dir: Path) -> dict[str, VectorSegment]:
    """The collections by their names."""
    with opened(data_dir / "chroma" / "chroma.sqlite3") as connection:
        return {segment.name: segment for segment in vector_segments(connection)}


def index_of(data_dir: Path, name: str = SHARD) -> Path:
    """The folder of a collection's index."""
    return data_dir / "chroma" / segments(data_dir)[name].id


def sql(data_dir: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement on Chroma's database."""
    with closing(sqlite3.connect(data_dir / "chroma" / "chroma.sqlite3")) as connection:
        rows = connection.execute(statement, values).fetchall()
        connection.commit()
        return rows


def cut(name: str, share: float = 0.3) -> Callable[[Path], None]:
    """Less than half: a new index's files are twice as long as they need to be."""

    def damage(index: Path) -> None:
        os.truncate(index / name, int((index / name).stat().st_size * share))

    return damage


def zeroed(name: str) -> Callable[[Path], None]:
    def damage(index: Path) -> None:
        path = index / name
        path.write_bytes(b"\0" * path.stat().st_size)

    return damage


def removed(name: str) -> Callable[[Path], None]:
    return lambda index: (index / name).unlink()


def all_removed(index: Path) -> None:
    shutil.rmtree(index)


FILES = ("header.bin", "data_level0.bin", "length.bin", "link_lists.bin", "index_metadata.pickle")
DAMAGES: dict[str, Callable[[Path], None]] = {
    **{f"{name} cut": cut(name) for name in FILES},
    **{f"{name} emptied": cut(name, 0) for name in FILES},
    **{f"{name} zeroed": zeroed(name) for name in FILES},
    **{f"{name} removed": removed(name) for name in FILES},
    "all removed": all_removed,
}
