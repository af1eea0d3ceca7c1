"""The two stores under measurement: Tandem's long-term memory, and Chroma used plainly.

Both talk to a Chroma child of the same kind over HTTP. Vectors are random unit vectors of 384
numbers, texts a dozen made-up words: what an embedder costs is measured elsewhere.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import anyio
import chromadb
import httpx
import numpy as np
from chromadb.api import AsyncClientAPI
from chromadb.api.models.AsyncCollection import AsyncCollection

from bench.processes import Failed, running, usage
from memory.chroma import ChromaLongTermMemory
from memory.chroma_process import ChromaProcess
from memory.errors import StoreError
from memory.messages import ConversationId, Message, MessageId, UserId, Vector
from memory.placement import Sharded

DIMENSION = 384
TIMEOUT_S = 120.0
READY_WITHIN_S = 60.0
POOL = 512
"""Vectors made beforehand, so that making them is not measured."""
TURNS_OF_CONVERSATION = 40
NAIVE_AT_ONCE = 100
"""A connection for each user; Chroma's client itself would open one for each waiting record."""
WORDS = ("arden", "bell", "dice", "float", "under", "link", "rope", "sail", "never", "turn")


class Made:
    """Messages one after the other, each of a user; ``count`` so far."""

    def __init__(self) -> None:
        self._dice = random.Random(1)
        numbers = np.random.default_rng(1).standard_normal((POOL, DIMENSION), np.float32)
        self._vectors = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
        self.count = 0

    def next(self, user: int) -> tuple[Message, Vector]:
        number, self.count = self.count, self.count + 1
        # No two vectors are equal: an index of copies would cost less than a real one.
        vector = self._vectors[number % POOL] + 0.5 * self._vectors[(number // POOL) % POOL]
        message = Message(
            id=MessageId(f"{number:024x}"),
            user=UserId(f"user{user}"),
            conversation=ConversationId(f"c{user}-{number // (100 * TURNS_OF_CONVERSATION)}"),
            role="user",  # a reply waits for a question's write under load, on purpose
            text=" ".join(self._dice.choices(WORDS, k=12)),
            timestamp=time.time(),
            depth=number % TURNS_OF_CONVERSATION,
        )
        unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        return message, unit


class Store(Protocol):
    """A store under measurement; ``pid`` is its Chroma."""

    name: str
    pid: int

    async def append(self, message: Message, vector: Vector, /) -> None:
        """Return once *message* is durable."""
        ...


class Tandem:
    """What the server uses."""

    name = "tandem"

    def __init__(self, memory: ChromaLongTermMemory, pid: int) -> None:
        self.long_term = memory
        self.pid = pid

    async def append(self, message: Message, vector: Vector) -> None:
        await self.long_term.append(message, vector)

    async def append_many(self, pairs: list[tuple[Message, Vector]]) -> None:
        """All of one user, as an import does it."""
        messages, vectors = zip(*pairs, strict=True)
        for outcome in await self.long_term.append_many(messages, np.stack(vectors)):
            if isinstance(outcome, StoreError):
                raise outcome


class Naive:
    """A collection for each user, one ``add`` for a message, nothing of Chroma's changed."""

    name = "naive"

    def __init__(self, chroma: AsyncClientAPI, pid: int) -> None:
        self._chroma = chroma
        self._collections: dict[str, AsyncCollection] = {}
        self._at_once = anyio.CapacityLimiter(NAIVE_AT_ONCE)
        self.pid = pid

    async def append(self, message: Message, vector: Vector) -> None:
        collection = self._collections.get(message.user)
        if collection is None:
            collection = await self._chroma.get_or_create_collection(
                f"user_{message.user}", metadata={"hnsw:space": "cosine"}, embedding_function=None
            )
            self._collections[message.user] = collection
        async with self._at_once:
            await collection.add(
                ids=[message.id],
                documents=[message.text],
                embeddings=vector[np.newaxis],
                metadatas=[{"role": message.role, "timestamp": message.timestamp}],
            )


@asynccontextmanager
async def open_tandem(folder: Path, *, shards: int = 1) -> AsyncIterator[Tandem]:
    """Tandem's store with its data in *folder*, which may hold some."""
    process = ChromaProcess(folder)
    launch = await process.prepare()
    with running(launch.argv, folder / "chroma.log", launch.environment) as program:
        await _answers(process)
        memory = ChromaLongTermMemory(
            process.url,
            Sharded(shards=shards),
            fingerprint="random",
            dimension=DIMENSION,
            timeout_s=TIMEOUT_S,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(memory.run)
            yield Tandem(memory, program.pid)
            tasks.cancel_scope.cancel()
        await memory.aclose()


@asynccontextmanager
async def open_naive(folder: Path) -> AsyncIterator[Naive]:
    """The same program as it comes: no WAL, no index on its log."""
    process = ChromaProcess(folder)
    process.folder.mkdir(parents=True)
    launch = await process.prepare()
    (process.folder / "chroma.sqlite3").unlink()  # empty, in WAL mode
    with running(launch.argv, folder / "chroma.log", launch.environment) as program:
        with anyio.fail_after(READY_WITHIN_S):
            while True:
                try:
                    chroma = await chromadb.AsyncHttpClient(host="127.0.0.1", port=process.port)
                    break
                except (ValueError, httpx.ConnectError):  # it does not listen yet
                    await anyio.sleep(0.05)
        yield Naive(chroma, program.pid)


async def _answers(process: ChromaProcess) -> None:
    with anyio.move_on_after(READY_WITHIN_S):
        while not await process.answers():  # noqa: ASYNC110  # it is another process
            await anyio.sleep(0.02)
        return
    raise Failed("Chroma did not start")


def cpu_s(store: Store) -> float:
    """What the store's Chroma and this process have used."""
    return sum(usage(store.pid).cpu_s.values()) + time.process_time()


def rss_bytes(store: Store) -> int:
    return sum(usage(store.pid).rss_bytes.values())


def open_files(store: Store) -> int:
    """Files that Chroma holds open, sockets left out."""
    count = 0
    for link in Path(f"/proc/{store.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += link.readlink().is_absolute()
    return count
