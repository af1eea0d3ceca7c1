"""What long-term memory does when Chroma, or the way to it, fails."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from memory.child_process import ChildProcess
from memory.chroma import ChromaLongTermMemory
from memory.chroma_process import ChromaProcess
from memory.errors import StoreRefused, StoreUnavailable, StoreUnknown
from memory.messages import Appended, Message
from memory.placement import Sharded
from tests.contracts.long_term_world import (
    TEA,
    chat,
    line,
    said,
    somebody,
    store,
    store_at_once,
    vector_of,
)
from tests.memory.chroma_world import opened, serving
from tests.memory.faulty_wire import Fault, FaultyWire

pytestmark = pytest.mark.chroma


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


@pytest.fixture
async def wire(chroma: ChromaProcess) -> AsyncIterator[FaultyWire]:
    async with FaultyWire(chroma.url).serving() as wire:
        yield wire


def stored(message: Message) -> Appended:
    return Appended(message, duplicate=False)


@pytest.mark.parametrize("fault", ["answer cut", "answer withheld", "answer 500"])
async def test_a_write_without_an_answer_is_looked_up(wire: FaultyWire, fault: Fault) -> None:
    message = said(somebody())
    async with opened(wire.url, timeout_s=4) as memory:
        await memory.append(said(message.user), vector_of(message))
        wire.fault = fault
        assert await memory.append(message, vector_of(message)) == stored(message)
        assert wire.met == 1
        assert memory.healthy
        assert await memory.by_ids(message.user, [message.id]) == [message]


async def test_a_write_that_is_not_found_may_be_on_its_way_and_is_stored_when_repeated(
    wire: FaultyWire,
) -> None:
    messages = line(somebody(), 5)
    async with opened(wire.url) as memory:
        wire.fault = "request cut"
        outcomes = await store_at_once(memory, messages)
        assert [type(outcome) for outcome in outcomes] == [StoreUnknown] * 5
        assert not memory.healthy
        wire.fault = None
        assert await store_at_once(memory, messages) == [stored(it) for it in messages]
        assert memory.healthy


async def test_a_refusal_of_the_server_writes_nothing(wire: FaultyWire) -> None:
    message = said(somebody())
    async with opened(wire.url) as memory:
        wire.fault = "answer 418"
        with pytest.raises(StoreUnavailable, match="418"):
            await memory.append(message, vector_of(message))
        wire.fault = None
        await store(memory, [message])


async def test_a_read_over_a_connection_that_died_is_made_again(wire: FaultyWire) -> None:
    message = said(somebody())
    async with opened(wire.url) as memory:
        await store(memory, [message])
        wire.path, wire.fault = "/get", "request cut"
        with pytest.raises(StoreUnavailable):
            await memory.by_ids(message.user, [message.id])
        assert wire.met == 2
        wire.fault = None
        assert await memory.by_ids(message.user, [message.id]) == [message]


async def test_a_read_that_fails_in_the_server_is_unavailable(wire: FaultyWire) -> None:
    async with opened(wire.url) as memory:
        await store(memory, [said(somebody())])
        wire.path, wire.fault = "/get", "answer 500"
        with pytest.raises(StoreUnavailable, match="no index"):
            await memory.latest(somebody(), TEA, limit=1)


async def test_a_record_that_cannot_be_sent_keeps_nobody_else_out(chroma: ChromaProcess) -> None:
    messages = [said(somebody(), text) for text in ("a", "half a \ud83d pair", "b")]
    async with opened(chroma.url) as memory:
        outcomes = await store_at_once(memory, messages)
        assert isinstance(outcomes.pop(1), StoreRefused)
        assert outcomes == [
            stored(messages[0]),
            stored(messages[2]),
        ]


async def test_a_server_that_is_away_fails_everything_without_waiting() -> None:
    message = said(somebody())
    with anyio.fail_after(30):
        for address in ("http://127.0.0.1:9", lambda: "", "nonsense", "ftp://127.0.0.1"):
            async with opened(address, timeout_s=3_600) as memory:
                for call in (
                    memory.append(message, vector_of(message)),
                    memory.save_conversation(chat(message.user, "tea")),
                    memory.by_ids(message.user, [message.id]),
                    memory.latest(message.user, TEA, limit=1),
                    memory.newest(message.user, limit=1),
                    memory.conversations(message.user, limit=1),
                    memory.usage(),
                    memory.ping(),
                ):
                    with pytest.raises(StoreUnavailable):
                        await call


async def test_what_is_not_running_takes_nothing(chroma: ChromaProcess) -> None:
    memory = ChromaLongTermMemory(chroma.url, Sharded(), fingerprint="test", dimension=8)
    message = said(somebody())
    with pytest.raises(StoreUnavailable, match="not open"):
        await memory.append(message, vector_of(message))
    await memory.aclose()


async def test_an_append_whose_caller_went_away_is_stored(chroma: ChromaProcess) -> None:
    message = said(somebody())
    async with opened(chroma.url) as memory:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await memory.append(message, vector_of(message))
    async with opened(chroma.url) as memory:
        assert await memory.by_ids(message.user, [message.id]) == [message]


async def test_what_was_acknowledged_survives_kills_and_repeating_stores_once(
    tmp_path: Path,
) -> None:
    users = [somebody(f"u{number}") for number in range(6)]
    acknowledged: list[Message] = []
    failures: list[StoreUnavailable | StoreUnknown] = []

    async def write(memory: ChromaLongTermMemory, messages: list[Message]) -> None:
        for message in messages:
            while True:
                try:
                    outcome = await memory.append(message, vector_of(message))
                except (StoreUnavailable, StoreUnknown) as error:
                    failures.append(error)
                    await anyio.sleep(0.02)
                else:
                    assert outcome.message == message
                    acknowledged.append(message)
                    break

    async with serving(tmp_path) as (process, child), opened(lambda: process.url) as memory:
        with anyio.fail_after(120):
            async with anyio.create_task_group() as writers:
                for user in users:
                    writers.start_soon(write, memory, line(user, 40))
                for share in (40, 100, 160):
                    while len(acknowledged) < share:  # seen from outside
                        await anyio.sleep(0.001)
                    await killed(child)
        assert failures
        assert len(acknowledged) == 240
        for user in users:
            own = [message for message in acknowledged if message.user == user]
            assert await memory.by_ids(user, [message.id for message in own]) == own
            assert await memory.latest(user, TEA, limit=100) == own
        assert (await memory.usage())["records"] == 240


async def killed(child: ChildProcess) -> None:
    """Kill the child without a warning, and wait until it serves again."""
    assert child.pid is not None
    restarts = child.restarts
    os.kill(child.pid, signal.SIGKILL)
    while child.restarts == restarts:  # seen from outside
        await anyio.sleep(0.005)
    await child.wait_ready(30)


async def test_another_server_at_the_address_is_used_as_it_is(
    chroma: ChromaProcess, tmp_path: Path
) -> None:
    message = said(somebody())
    async with serving(tmp_path) as (other, _):
        urls = [chroma.url]
        async with opened(lambda: urls[-1]) as memory:
            await store(memory, [message])
            urls.append(other.url)
            assert await memory.by_ids(message.user, [message.id]) == []
            assert await memory.latest(message.user, TEA, limit=1) == []
            await store(memory, [message])
            await memory.save_conversation(chat(message.user, "tea"))
            assert await memory.latest(message.user, TEA, limit=1) == [message]
