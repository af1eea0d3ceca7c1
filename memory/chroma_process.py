"""The private Chroma of one machine: a child on a free loopback port."""

from __future__ import annotations

import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio.to_thread
import httpx
import structlog

from memory.errors import ChildFailed
from memory.spawn import Launch
from memory.sync_threshold import set_sync_thresholds

log = structlog.get_logger(__name__)

HOST: Final = "127.0.0.1"
HEARTBEAT_TIMEOUT_S: Final = 5.0
SQLITE_LOCK_S: Final = 5.0

START: Final = "import sys, chromadb_rust_bindings as chroma; chroma.cli(sys.argv)"
"""What the ``chroma`` script does, without importing the Python package: ready in 0.1 s and
37 MB instead of 0.8 s and 111 MB."""

QUEUE_INDEX: Final = (
    "CREATE INDEX IF NOT EXISTS tandem_queue_topic_seq ON embeddings_queue (topic, seq_id)"
)
"""The log of a small collection is never purged, and an add reads it by topic: 46 ms at 60,000
rows, 6 ms with this index."""

STATISTICS: Final = """
    ANALYZE sqlite_schema;
    DELETE FROM sqlite_stat1;
    INSERT INTO sqlite_stat1 VALUES
        ('embeddings', 'sqlite_autoindex_embeddings_1', '1000000 100000 1'),
        ('embedding_metadata', 'embedding_metadata_string_value', '10000000 1000000 16');
    ANALYZE sqlite_schema;
"""
"""What SQLite's planner must know to look a `where` key up by its value instead of walking the
collection: 2.5 ms instead of 11 at 100,000 records, and no growth (decision 0003)."""


BeforeStart = Callable[[], Awaitable[None]]
"""Looks after the files while nobody uses them; ``ChildFailed`` where Chroma must not start."""


async def untouched() -> None:
    """The ``BeforeStart`` of a Chroma whose files nobody looks after."""


GREETING: Final = (
    "Saving data to: ",
    "Connect to Chroma at: ",
    "Getting started guide: ",
    "\N{CLOUD}\N{VARIATION SELECTOR-16} To deploy your DB",
    "- Sign up: ",
    "- Copy your data to Cloud: ",
)
"""What stands below its banner (chromadb 1.5.9)."""


class ChromaProcess:
    """How to start the private Chroma; a ``ChildSpec``.

    The port is free when it is chosen and stays the same over restarts, unless another program
    took it meanwhile: ask ``url`` anew for each connection.
    """

    name = "chroma"

    def __init__(self, data_dir: Path, *, before_start: BeforeStart = untouched) -> None:
        self._before_start = before_start
        self._folder = data_dir.resolve() / "chroma"
        self._port = _free_port()
        self._tuned = False

    @property
    def folder(self) -> Path:
        """Where Chroma keeps its data."""
        return self._folder

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    async def prepare(self) -> Launch:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._before_start()
            self._tuned = await anyio.to_thread.run_sync(_tune, self._database)
        except OSError as error:
            raise ChildFailed(f"{self._folder} cannot be used: {error.strerror}") from error
        except sqlite3.Error as error:
            raise ChildFailed(f"{self._database} cannot be opened: {error}") from error
        if not _is_free(self._port):
            self._port = _free_port()
        options = ("--path", str(self._folder), "--host", HOST, "--port", str(self._port))
        return Launch(
            # -P: a folder of that name where the server was started is not the package
            argv=[sys.executable, "-P", "-c", START, "run", *options],
            folder=self._folder,
            # Its log names collections, and those may be users; a dozen lines for each request.
            environment={"ANONYMIZED_TELEMETRY": "False", "RUST_LOG": "error"},
            greeting=GREETING,
        )

    async def answers(self) -> bool:
        try:
            async with httpx.AsyncClient(
                timeout=HEARTBEAT_TIMEOUT_S,
                trust_env=False,  # a proxy has no business between us and our child
                verify=False,  # noqa: S501  # plain HTTP; spares loading the certificates
            ) as client:
                answer = await client.get(f"{self.url}/api/v2/heartbeat")
        except httpx.HTTPError:
            return False
        if not answer.is_success:
            return False
        if not self._tuned:  # a new database: its tables are there only now
            await self._tune_running()
        return True

    @property
    def _database(self) -> Path:
        return self._folder / "chroma.sqlite3"

    async def _tune_running(self) -> None:
        try:
            self._tuned = await anyio.to_thread.run_sync(_tune, self._database)
        except sqlite3.Error as error:  # busy: tried again with the next probe
            log.warning("chroma.tuning_failed", reason=str(error))


def _tune(database: Path) -> bool:
    """Put *database* into WAL mode, which lasts, index the log, and set how often indexes are
    written; whether the log is there.

    WAL: readers do not wait for the writer, and a commit syncs once. A database that does not
    exist is made, empty; Chroma fills it.
    """
    with closing(sqlite3.connect(database, timeout=SQLITE_LOCK_S)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'embeddings_queue'")
        if known.fetchone() is None:
            return False
        connection.execute(QUEUE_INDEX)
        connection.executescript(STATISTICS)
        set_sync_thresholds(connection)
        connection.commit()
        return True


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        # As Chroma does: connections of the one before may still be winding down.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
