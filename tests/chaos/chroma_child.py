"""The private Chroma child, asked directly, and its index files."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import chromadb
import httpx
import numpy as np
from chromadb.config import Settings
from chromadb.errors import ChromaError

from tests.chaos.world import World

SHELF: Final = "user_00"
"""The collection of all users' messages, as placed by default."""
HEALED_WITHIN_S: Final = 180.0
"""Promised are 60 s for 20,000 messages where nothing else runs; a busy machine gets more."""
PAGE: Final = 500
LOOK_EVERY_S: Final = 0.5
SEGMENT: Final = """
    SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection
    WHERE s.scope = 'VECTOR' AND c.name = ?
"""


def port_of(pid: int) -> int:
    """The port that the Chroma with this process id was told to listen on."""
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return int(argv[argv.index(b"--port") + 1])


@contextmanager
def shelf(world: World) -> Iterator[Any]:
    """The collection of messages, through a client of our own."""
    port = port_of(world.server.child_pid("chroma"))
    client: Any = chromadb.HttpClient(  # its type does not know close()
        host="127.0.0.1", port=port, settings=Settings(anonymized_telemetry=False)
    )
    try:
        yield client.get_collection(SHELF, embedding_function=None)
    finally:
        client.close()


def index_folder(data_dir: Path) -> Path:
    """Where the index of the messages lies, once it was written."""
    file = data_dir / "chroma" / "chroma.sqlite3"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        (segment,) = connection.execute(SEGMENT, (SHELF,)).fetchone()
    return file.parent / str(segment)


def missing_vectors(world: World) -> int:
    """How many messages the index does not have, or -1 while it cannot be read.

    Found out by reading all vectors, and by looking for one of them with a filter, which fails
    where a single one is missing.
    """
    try:
        with shelf(world) as collection:
            missing, last = 0, None
            for offset in range(0, collection.count(), PAGE):
                rows = collection.get(limit=PAGE, offset=offset, include=["embeddings"])
                vectors = np.asarray(rows["embeddings"], dtype=np.float32)
                if len(vectors):
                    missing += int((np.abs(vectors).max(axis=1) == 0).sum())
                    last = vectors[-1]
            if last is not None:
                collection.query(
                    query_embeddings=[last.tolist()], n_results=1, where={"type": "user"}
                )
            return missing
    except (ChromaError, httpx.HTTPError, ValueError, AssertionError, OSError):
        return -1


def wait_healed(world: World, since: float, within_s: float = HEALED_WITHIN_S) -> float:
    """Seconds from *since* until the index has all messages.

    The server is asked first whether it is still healing: to look oneself is hard work for Chroma.
    """
    left = -1
    while time.monotonic() < since + within_s:
        parts = httpx.get(f"{world.url}/readyz", timeout=10).json()["parts"]
        if "healing" not in parts["chroma"]:
            seen_at = time.monotonic()
            left = missing_vectors(world)
            if left == 0:
                return seen_at - since
        time.sleep(LOOK_EVERY_S)
    raise AssertionError(f"after {within_s:.0f} s the index lacks {left} messages (-1: all fail)")
