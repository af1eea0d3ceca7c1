from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import msgspec
import numpy as np
import pytest

from memory.child_process import ChildProcess
from memory.chroma import ChromaLongTermMemory
from memory.errors import MemoryFault, StoreUnavailable
from memory.free_space import NEEDED_BYTES
from memory.messages import Message, UserId, tombstone
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.scrubbing import Scrubber
from memory.upkeep.vector_segments import DATABASE
from tests.contracts.long_term_world import TEA, chat, line, somebody, vectors_of
from tests.memory.chroma_world import opened, serving

pytestmark = pytest.mark.chroma

CANARY = "xylophone-quartz-"
FORMS = (CANARY.encode(), CANARY.upper().encode())


def canaries(user: UserId, count: int) -> list[Message]:
    return [
        msgspec.structs.replace(message, text=f'{CANARY}{number} \u00e4 "said"')
        for number, message in enumerate(line(user, count))
    ]


def holders(folder: Path, *needles: bytes) -> list[str]:
    """The files below *folder* that hold one of *needles*."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def raw(messages: list[Message]) -> list[bytes]:
    return [vector.tobytes() for vector in vectors_of(messages)]


class World:
    def __init__(self, folder: Path, child: ChildProcess) -> None:
        self.folder = folder
        self.child = child
        self.stops = 0

    @asynccontextmanager
    async def held(self, _reason: str) -> AsyncIterator[None]:
        self.stops += 1
        async with self.child.stopped():
            yield
        await self.child.wait_ready(30)

    def scrubber(self) -> Scrubber:
        return Scrubber(self.folder / "chroma", held=self.held, writes_held=unheld)


@asynccontextmanager
async def unheld() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def world(
    folder: Path, placement: Placement
) -> AsyncIterator[tuple[World, ChromaLongTermMemory]]:
    async with (
        serving(folder) as (process, child),
        opened(lambda: process.url, placement) as memory,
    ):
        yield World(folder, child), memory


@pytest.mark.parametrize("count", [30, 450], ids=["in the log", "in the index"])
@pytest.mark.parametrize("placement", [Sharded(), PerUser()], ids=["sharded", "per user"])
async def test_no_byte_of_a_forgotten_user_is_left_and_all_of_others_is(
    tmp_path: Path, placement: Placement, count: int
) -> None:
    user, other = somebody(), somebody("ben")
    mine, theirs = canaries(user, count), line(other, count)
    async with world(tmp_path, placement) as (it, memory):
        for start in range(0, count, 100):
            for messages in (mine, theirs):
                part = messages[start : start + 100]
                await memory.append_many(part, vectors_of(part))
        await memory.save_conversation(
            msgspec.structs.replace(chat(user, "tea"), title=mine[0].text)
        )
        vectors = raw(mine)
        assert holders(tmp_path, *FORMS)
        assert holders(tmp_path, *vectors)
        await memory.forget_user(user)
        assert not await it.scrubber().holds_user(user)
        assert await it.scrubber().holds_user(other)
        assert holders(tmp_path, *FORMS)
        await it.scrubber().scrub()
        assert holders(tmp_path, *FORMS) == []
        assert holders(tmp_path, *vectors) == []
        assert await memory.latest(other, TEA, limit=count) == theirs
        page = await memory.newest(other, limit=count)
        assert len(page.messages) == count
        order = {message.id: number for number, message in enumerate(theirs)}
        wanted = vectors_of(theirs)[[order[message.id] for message in page.messages]]
        assert np.allclose(page.vectors, wanted, atol=1e-6)
        assert (await memory.append(mine[0], vectors_of(mine[:1])[0])).duplicate is False


async def test_the_words_and_vector_of_a_deleted_message_are_gone_and_its_place_is_not(
    tmp_path: Path,
) -> None:
    user = somebody()
    messages = line(user, 450)
    secret = canaries(user, 1)[0]
    messages[40] = msgspec.structs.replace(messages[40], text=secret.text)
    messages[430] = msgspec.structs.replace(messages[430], text=secret.text)
    gone = [messages[40], messages[430]]
    async with world(tmp_path, Sharded()) as (it, memory):
        for start in range(0, 450, 100):
            part = messages[start : start + 100]
            await memory.append_many(part, vectors_of(part))
        await memory.delete(user, [message.id for message in gone])
        for _ in range(2):
            await it.scrubber().scrub()
            assert holders(tmp_path, *FORMS, *raw(gone)) == []
        wanted = [tombstone(each) if each in gone else each for each in messages]
        assert await memory.latest(user, TEA, limit=450) == wanted
        assert len((await memory.newest(user, limit=450)).messages) == 450


async def test_what_chroma_writes_after_a_scrub_does_not_bring_anything_back(
    tmp_path: Path,
) -> None:
    user, other = somebody(), somebody("ben")
    mine = canaries(user, 350)
    async with world(tmp_path, Sharded()) as (it, memory):
        for start in range(0, 350, 100):
            part = mine[start : start + 100]
            await memory.append_many(part, vectors_of(part))
        await memory.forget_user(user)
        await it.scrubber().scrub()
        theirs = line(other, 700)  # beyond the next time that the index is written
        for start in range(0, 700, 100):
            part = theirs[start : start + 100]
            await memory.append_many(part, vectors_of(part))
        assert holders(tmp_path, *FORMS, *raw(mine)) == []
        assert await memory.latest(other, TEA, limit=900) == theirs


async def test_others_write_and_read_while_a_scrub_goes_on(tmp_path: Path) -> None:
    user, other = somebody(), somebody("ben")
    mine, theirs = canaries(user, 300), line(other, 60)
    async with world(tmp_path, Sharded()) as (it, memory):
        await memory.append_many(mine, vectors_of(mine))
        await memory.forget_user(user)
        scrubbed = anyio.Event()
        stored: list[Message] = []

        async def talk() -> None:
            for message, vector in zip(theirs, vectors_of(theirs), strict=True):
                while True:
                    try:
                        await memory.append(message, vector)
                    except MemoryFault:  # here nothing holds requests back while Chroma is away
                        await anyio.sleep(0.01)
                    else:
                        break
                stored.append(message)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            await it.scrubber().scrub()
            scrubbed.set()
        assert await memory.latest(other, TEA, limit=100) == theirs
        assert holders(tmp_path, *FORMS, *raw(mine)) == []


def log_bytes(database: Path) -> int:
    """The size of the write-ahead log."""
    return database.with_name(f"{database.name}-wal").stat().st_size


async def test_while_another_program_reads_for_long_chroma_serves_and_its_log_does_not_grow(
    tmp_path: Path,
) -> None:
    user = somebody()
    mine = canaries(user, 300)
    database = tmp_path / "chroma" / DATABASE
    async with world(tmp_path, Sharded()) as (it, memory):
        await memory.append_many(mine, vectors_of(mine))
        with closing(sqlite3.connect(database, isolation_level=None)) as backup:
            backup.execute("BEGIN")
            backup.execute("SELECT count(*) FROM embeddings").fetchone()
            await memory.forget_user(user)
            with pytest.raises(StoreUnavailable, match="in use by another program"):
                await it.scrubber().scrub()
            left_bytes = log_bytes(database)
            with pytest.raises(StoreUnavailable, match="in use by another program"):
                await it.scrubber().scrub()
            assert log_bytes(database) < left_bytes + database.stat().st_size / 2
            assert it.stops == 0
        await it.scrubber().scrub()
        assert holders(tmp_path, *FORMS, *raw(mine)) == []


async def test_a_disk_without_room_for_it_is_not_filled_by_a_scrub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    async with world(tmp_path, Sharded()) as (it, memory):
        await memory.save_conversation(chat(somebody(), "tea"))
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=NEEDED_BYTES))
            with pytest.raises(StoreUnavailable, match="MB are free"):
                await it.scrubber().scrub()
        assert it.stops == 0
        await it.scrubber().scrub()


async def test_indexes_of_collections_that_are_gone_are_removed(tmp_path: Path) -> None:
    async with world(tmp_path, Sharded()) as (it, memory):
        await memory.save_conversation(chat(somebody(), "tea"))
        orphan = tmp_path / "chroma" / "8c1f7a52-6f0e-4b7a-9f5e-0c0f6f6f1a11"
        orphan.mkdir()
        (orphan / "data_level0.bin").write_bytes(FORMS[0])
        other = tmp_path / "chroma" / "notes"
        other.mkdir()
        await it.scrubber().scrub()
        assert not orphan.exists()
        assert other.exists()
        assert it.stops == 1
