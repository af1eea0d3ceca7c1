from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from memory import free_space
from memory.errors import StoreError, StoreUnavailable
from memory.in_process_embedder import InProcessEmbedder
from memory.messages import Message, Vectors
from memory.upkeep import healing
from memory.upkeep.inspection import Finding, Inspection, Inspector
from memory.upkeep.keeper import IN_USE, ChromaKeeper
from tests.contracts.long_term_world import said
from tests.memory.upkeep.conftest import Stopped
from tests.memory.upkeep.keeper_world import (
    ANN,
    DAMAGES,
    PATIENCE_S,
    SHARD,
    check_whole,
    filled,
    healed,
    index_of,
    kept,
    segments,
    shard_of,
    vector,
)

pytestmark = pytest.mark.chroma


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not fact():
            await anyio.sleep(0.01)


async def kill(keeper: ChromaKeeper, number: signal.Signals) -> None:
    """Signal Chroma, and return when it serves again."""
    pid = keeper.child.pid
    assert pid is not None
    os.kill(pid, number)
    await until(lambda: keeper.child.pid not in {pid, None})
    await keeper.child.wait_ready(PATIENCE_S)


def unseen_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let damage come after the first inspection: as if it were found sound."""
    inspect = Inspector.inspect
    calls = 0

    def blind(self: Inspector, inspection: Inspection) -> list[Finding]:
        nonlocal calls
        calls += 1
        return inspect(self, inspection) if calls > 1 else []

    monkeypatch.setattr(Inspector, "inspect", blind)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_a_damaged_index_is_found_before_the_start_and_healed(
    stopped: Stopped, damage: Callable[[Path], None]
) -> None:
    data_dir, messages = stopped
    damage(index_of(data_dir))
    async with kept(data_dir) as (keeper, memory):
        assert [it.text for it in await memory.by_ids(ANN, [messages[0].id])] == [messages[0].text]
        await healed(keeper)
        await check_whole(keeper, messages)
        assert keeper.child.restarts == 0


@pytest.mark.parametrize(
    "name", ["header.bin zeroed", "index_metadata.pickle cut", "link_lists.bin zeroed"]
)
async def test_damage_that_shows_while_chroma_serves_is_healed_and_nothing_that_was_said_is_lost(
    stopped: Stopped, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, messages = stopped
    DAMAGES[name](index_of(data_dir))
    unseen_at_first(monkeypatch)
    async with kept(data_dir) as (keeper, memory):
        after = said(ANN, "said to a broken store", after=messages[-1])
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    await memory.append(after, await vector(after))
                    break
                except StoreError:
                    await anyio.sleep(0.05)
        await healed(keeper)
        await check_whole(keeper, [*messages, after])


async def test_many_reports_of_one_damage_are_one_healing(stopped: Stopped) -> None:
    data_dir, messages = stopped
    async with kept(data_dir) as (keeper, _memory):
        begun: list[int] = []
        keeper._on_healing = begun.append
        collection = segments(data_dir)[SHARD].collection
        DAMAGES["header.bin zeroed"](index_of(data_dir))
        pid = keeper.child.pid
        for _ in range(20):
            keeper.suspect(collection, "certain")
        await until(lambda: keeper.child.pid not in {pid, None})
        for _ in range(20):
            keeper.suspect(collection, "possible")
        await healed(keeper)
        await check_whole(keeper, messages)
        assert sum(begun) == 1
        assert keeper.child.pid is not None


async def test_a_sound_index_that_is_suspected_is_looked_at_and_kept(stopped: Stopped) -> None:
    data_dir, messages = stopped
    async with kept(data_dir) as (keeper, _memory):
        pid = keeper.child.pid
        before = index_of(data_dir).stat().st_ino
        keeper.suspect(segments(data_dir)[SHARD].collection, "certain")
        await until(lambda: keeper.child.pid not in {pid, None})
        await healed(keeper)
        assert index_of(data_dir).stat().st_ino == before
        await check_whole(keeper, messages)


async def test_an_index_that_ends_chroma_twice_is_given_up(stopped: Stopped) -> None:
    data_dir, messages = stopped
    async with kept(data_dir) as (keeper, _memory):
        begun: list[int] = []
        keeper._on_healing = begun.append
        await kill(keeper, signal.SIGSEGV)
        assert sum(begun) == 0
        await kill(keeper, signal.SIGSEGV)
        await healed(keeper)
        assert sum(begun) >= 1
        await check_whole(keeper, messages)


async def test_chroma_that_ended_in_order_is_told_from_chroma_that_did_not(tmp_path: Path) -> None:
    await filled(tmp_path)
    assert not (tmp_path / IN_USE).exists()
    async with kept(tmp_path) as (keeper, _memory):
        assert (tmp_path / IN_USE).exists()
        await kill(keeper, signal.SIGKILL)
        assert (tmp_path / IN_USE).exists()
    assert not (tmp_path / IN_USE).exists()


@pytest.mark.parametrize("boot", ["", "another"])
async def test_after_the_end_of_the_machine_every_record_is_looked_for(
    stopped: Stopped, boot: str
) -> None:
    data_dir, messages = stopped
    index = index_of(data_dir) / "index_metadata.pickle"
    content = pickle.loads(index.read_bytes())  # noqa: S301  # Chroma's own
    content["id_to_label"]["lost"] = content["id_to_label"].popitem()[1]
    index.write_bytes(pickle.dumps(content))
    (data_dir / IN_USE).write_text(boot)
    async with kept(data_dir) as (keeper, _memory):
        await healed(keeper)
        await check_whole(keeper, messages)


async def test_while_chroma_is_held_everything_waits_and_nothing_fails(stopped: Stopped) -> None:
    data_dir, messages = stopped
    first, second = line_after(messages)
    async with kept(data_dir) as (keeper, memory), anyio.create_task_group() as tasks:
        done: list[str] = []

        async def append(message: Message) -> None:
            await memory.append(message, await vector(message))
            done.append("appended")

        async def read() -> None:
            assert len(await memory.by_ids(ANN, [messages[0].id])) == 1
            done.append("read")

        async with keeper.held("a test"):
            tasks.start_soon(append, first)
            tasks.start_soon(read)
            assert keeper.child.pid is None
            await anyio.sleep(0.3)
            assert not done
        await append(second)
        await until(lambda: len(done) == 3)
        await check_whole(keeper, [*messages, first, second])
        assert keeper.child.restarts == 0


def line_after(messages: list[Message]) -> tuple[Message, Message]:
    first = said(ANN, "first", after=messages[-1])
    return first, said(ANN, "second", after=first)


async def test_healing_goes_on_where_it_was_when_chroma_and_the_server_were_killed(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "RECORDS_PER_READ", 10)
    monkeypatch.setattr(healing, "RECORDS_PER_BATCH", 10)
    monkeypatch.setattr(healing, "KEPT_EVERY_S", 0)
    data_dir, messages = stopped
    DAMAGES["all removed"](index_of(data_dir))
    halting = Halting(after=20)
    async with kept(data_dir, halting) as (keeper, _memory):
        await until(lambda: halting.halted)
        assert keeper.child.pid is not None
        os.kill(keeper.child.pid, signal.SIGKILL)
        await until(lambda: keeper.child.restarts > 0)
    counting = Counting()
    async with kept(data_dir, counting) as (keeper, _memory):
        await healed(keeper)
        assert counting.texts == len(messages) - 20
        await check_whole(keeper, messages)
    assert not (data_dir / "healing.json").exists()


class Halting(InProcessEmbedder):
    """Stands still after so many texts."""

    def __init__(self, after: int) -> None:
        super().__init__(8)
        self.halted = False
        self._left = after

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self._left == 0:
            self.halted = True
            await anyio.sleep_forever()
        self._left -= len(texts)
        return await super().embed(texts)


class Counting(InProcessEmbedder):
    """Counts what it embeds."""

    def __init__(self) -> None:
        super().__init__(8)
        self.texts = 0

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        return await super().embed(texts)


async def test_another_embedder_makes_all_vectors_anew_and_words_stay(stopped: Stopped) -> None:
    data_dir, messages = stopped
    other = InProcessEmbedder(12)
    async with kept(data_dir, other) as (keeper, memory):
        assert len(await memory.latest(ANN, messages[0].conversation, limit=100)) == len(messages)
        after = said(ANN, "said to the new one", after=messages[-1])
        await memory.append(after, (await other.embed([after.text]))[0])
        await healed(keeper)
        await check_whole(keeper, [*messages, after], other)
    async with kept(data_dir) as (keeper, memory):  # and back
        await healed(keeper)
        await check_whole(keeper, [*messages, after])


async def test_what_is_deleted_while_it_is_healed_does_not_come_back(stopped: Stopped) -> None:
    data_dir, messages = stopped
    DAMAGES["all removed"](index_of(data_dir))
    slow = Slow()
    async with kept(data_dir, slow) as (keeper, _memory):
        await until(lambda: slow.asked > 0)
        shard = await shard_of(keeper)
        async with anyio.create_task_group() as tasks:
            # It waits for the batch that is being healed.
            tasks.start_soon(shard.delete, [str(it.id) for it in messages[:10]])
            await anyio.sleep(0.05)
            slow.go.set()
        await healed(keeper)
        await check_whole(keeper, messages[10:])


class Slow(InProcessEmbedder):
    """Embeds when it is told to."""

    def __init__(self) -> None:
        super().__init__(8)
        self.asked = 0
        self.go = anyio.Event()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked += 1
        await self.go.wait()
        return await super().embed(texts)


async def test_on_a_full_disk_nothing_is_sent_and_when_there_is_room_it_goes_on(
    stopped: Stopped, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, messages = stopped
    after = said(ANN, "said to a full disk", after=messages[-1])
    async with kept(data_dir) as (keeper, memory):
        monkeypatch.setattr(free_space, "KEPT_S", 0)
        monkeypatch.setattr(keeper.space, "_needed_bytes", 1 << 62)
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await memory.append(after, await vector(after))
        assert await memory.by_ids(ANN, [messages[0].id])
        monkeypatch.setattr(keeper.space, "_needed_bytes", 1)
        await memory.append(after, await vector(after))
        await check_whole(keeper, [*messages, after])
