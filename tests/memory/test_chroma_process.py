from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import chromadb
import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from memory.child_process import ChildProcess
from memory.chroma_process import ChromaProcess
from memory.errors import ChildFailed

pytestmark = pytest.mark.chroma


@asynccontextmanager
async def running(process: ChromaProcess) -> AsyncIterator[ChildProcess]:
    child = ChildProcess(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(30)
        yield child
        tasks.cancel_scope.cancel()


async def kill(child: ChildProcess) -> None:
    """Kill the child and return once it serves again."""
    assert child.pid is not None
    restarts = child.restarts
    os.kill(child.pid, signal.SIGKILL)
    with anyio.fail_after(30):
        while child.restarts == restarts:  # seen from outside
            await anyio.sleep(0.01)
        await child.wait_ready(30)


def tuning(database: Path) -> tuple[str, bool]:
    """The journal mode, and whether the log is indexed by topic."""
    with closing(sqlite3.connect(database)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        columns = [
            [row[2] for row in connection.execute(f"PRAGMA index_info({name})")]
            for (_, name, *_) in connection.execute("PRAGMA index_list(embeddings_queue)")
        ]
        return mode, ["topic", "seq_id"] in columns


async def test_a_new_database_is_in_wal_mode_and_indexed(tmp_path: Path) -> None:
    process = ChromaProcess(tmp_path)
    async with running(process):
        assert tuning(process.folder / "chroma.sqlite3") == ("wal", True)


async def test_an_older_database_is_tuned_before_the_start(tmp_path: Path) -> None:
    process = ChromaProcess(tmp_path)
    process.folder.mkdir()
    database = process.folder / "chroma.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE embeddings_queue (seq_id INTEGER, topic TEXT)")
    assert tuning(database) == ("delete", False)
    await process.prepare()
    assert tuning(database) == ("wal", True)
    await process.prepare()


async def test_a_database_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    process = ChromaProcess(tmp_path)
    process.folder.mkdir()
    (process.folder / "chroma.sqlite3").write_text("this is no database, and long enough to tell")
    with pytest.raises(ChildFailed, match=r"chroma\.sqlite3 cannot be opened"):
        await process.prepare()


async def test_after_a_kill_it_serves_the_same_data_at_the_same_address(tmp_path: Path) -> None:
    process = ChromaProcess(tmp_path)
    url = process.url
    async with running(process) as child:
        client = await chromadb.AsyncHttpClient("127.0.0.1", process.port)
        collection = await client.create_collection("user_00", embedding_function=None)
        await collection.add(
            ids=["a"], embeddings=np.array([[1, 0]], np.float32), documents=["tea"]
        )
        await kill(child)
        assert process.url == url
        found = await collection.get(ids=["a"])
        assert found["documents"] == ["tea"]
        assert tuning(process.folder / "chroma.sqlite3") == ("wal", True)


async def test_the_banner_is_not_taken_for_its_last_words(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with running(ChromaProcess(tmp_path)) as child:
            await kill(child)
    ended = next(entry for entry in logs if entry["event"] == "child.ended")
    assert ended["last_lines"] == []


async def test_a_port_that_was_taken_meanwhile_is_left_to_the_other(tmp_path: Path) -> None:
    process = ChromaProcess(tmp_path)
    before = process.port
    with closing(socket.create_server(("127.0.0.1", before))):
        async with running(process):
            assert process.port != before
            assert process.url == f"http://127.0.0.1:{process.port}"
            assert await process.answers()


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    process = ChromaProcess(tmp_path)
    async with running(process):
        with closing(socket.socket()) as other:
            # Had it taken every address, this one of the same machine would answer too.
            assert other.connect_ex(("127.0.0.2", process.port)) != 0
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{process.url}/api/v2/heartbeat", timeout=10)
        assert answer.is_success


async def test_who_is_not_there_does_not_answer(tmp_path: Path) -> None:
    assert not await ChromaProcess(tmp_path).answers()
