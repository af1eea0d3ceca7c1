from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from memory.chroma import ChromaLongTermMemory
from memory.chroma_process import ChromaProcess
from memory.errors import StoreUnavailable
from memory.messages import Message
from memory.placement import PerUser, Sharded
from memory.records import message_record
from memory.surroundings import Surroundings
from tests.contracts.long_term_world import TEA, line, said, somebody, store, vector_of, vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.faulty_wire import FaultyWire

pytestmark = pytest.mark.chroma

NOTHING = np.zeros(8, dtype=np.float32)


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


async def say(memory: ChromaLongTermMemory, *messages: Message) -> None:
    for message in messages:
        await memory.append(message, NOTHING)


async def test_those_of_all_shards_are_found(chroma: ChromaProcess) -> None:
    messages = [said(somebody()) for _ in range(12)]
    async with opened(chroma.url, Sharded("found_", 3)) as memory:
        await say(memory, *messages)
        await store(memory, [said(somebody())])
        found = await memory.unembedded(limit=100)
        assert {it.id for it in found} == {it.id for it in messages}
        assert len(await memory.unembedded(limit=7)) == 7
        assert len(await memory.unembedded(limit=7, without={it.id for it in messages[1:]})) == 1
        assert set(await memory.fill(messages, vectors_of(messages))) == {it.id for it in messages}
        assert await memory.unembedded(limit=100) == []


async def test_a_later_process_finds_what_an_earlier_one_left(chroma: ChromaProcess) -> None:
    message = said(somebody())
    async with opened(chroma.url, Sharded("later_")) as memory:
        await say(memory, message)
    async with opened(chroma.url, Sharded("later_")) as memory:
        assert await memory.unembedded(limit=10) == [message]


async def test_of_users_with_collections_of_their_own_those_are_told_of_that_are_read(
    chroma: ChromaProcess,
) -> None:
    message, noted = said(somebody()), list[Message]()
    async with opened(chroma.url, PerUser("own_")) as memory:
        await say(memory, message)
        assert await memory.unembedded(limit=10) == []
    async with opened(chroma.url, PerUser("own_")) as memory:
        memory.watch_unembedded(noted.append)
        await memory.newest(message.user, limit=10)
        assert noted == [message]


async def test_while_an_index_is_rebuilt_messages_are_read_without_vectors_and_none_is_filled(
    chroma: ChromaProcess,
) -> None:
    user, rebuilt, noted = somebody(), set[str](), list[Message]()
    messages = line(user, 3)
    surroundings = Surroundings(incomplete=rebuilt.__contains__)
    async with opened(chroma.url, Sharded("rebuilt_"), surroundings=surroundings) as memory:
        memory.watch_unembedded(noted.append)
        await store(memory, messages[:2])
        await say(memory, messages[2])
        rebuilt.add("rebuilt_00")
        page = await memory.newest(user, limit=5)
        assert list(page.messages) == messages[::-1]
        assert not page.vectors.any()
        assert noted == [messages[2], messages[2]]  # the others have theirs
        with pytest.raises(StoreUnavailable, match="rebuilt"):
            await memory.fill(messages[2:], vectors_of(messages[2:]))
        rebuilt.clear()
        assert (await memory.newest(user, limit=5)).vectors.any(axis=1).tolist() == [0, 1, 1]


async def test_vectors_that_cannot_be_read_cost_the_vectors_only(chroma: ChromaProcess) -> None:
    user = somebody()
    messages = line(user, 3)
    async with opened(chroma.url, Sharded("damaged_")) as memory:
        await store(memory, messages)
    async with (
        FaultyWire(chroma.url).serving() as wire,
        opened(wire.url, Sharded("damaged_")) as memory,
    ):
        wire.path, wire.fault = "/get", "vectors 500"
        page = await memory.newest(user, limit=5)
        assert list(page.messages) == messages[::-1]
        assert page.vectors.shape == (3, 8)
        assert not page.vectors.any()
        assert await memory.latest(user, TEA, limit=5) == messages
        wire.fault = "answer 500"
        with pytest.raises(StoreUnavailable):
            await memory.newest(user, limit=5)


async def test_a_record_that_we_did_not_write_does_not_keep_the_others_from_being_found(
    chroma: ChromaProcess,
) -> None:
    broken, message = said(somebody()), said(somebody())
    record = message_record(broken)
    record.metadata.update({"unembedded": "1", "depth": "deep"})
    placement = Sharded("strange_")
    async with opened(chroma.url, placement) as memory:
        await say(memory, message)
        spec = memory._spec(placement.shelf(broken.user))
        await memory._collections.add(spec, [record], [vector_of(broken)])
        assert await memory.unembedded(limit=10) == [message]
