"""Two servers that write to one Chroma at the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from memory.chroma import ChromaLongTermMemory
from memory.chroma_process import ChromaProcess
from memory.errors import IdConflict, StoreError, StoreUnknown, UserBeingErased
from memory.messages import Appended, Message
from memory.placement import PerUser, Placement, Sharded
from memory.store_gate import StoreGate
from memory.surroundings import Surroundings
from tests.contracts.long_term_world import line, said, somebody, store, store_at_once, vector_of
from tests.memory.chroma_world import opened, serving
from tests.memory.faulty_wire import FaultyWire

pytestmark = pytest.mark.chroma

ROUNDS = 40
SHARED = Surroundings(shared=True)
Servers = tuple[ChromaLongTermMemory, ChromaLongTermMemory]
Outcome = Appended | StoreError


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


@pytest.fixture(
    params=[Sharded("one_"), Sharded("three_", 3), PerUser("own_")],
    ids=["one shard", "three shards", "per user"],
)
async def servers(chroma: ChromaProcess, request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    placement: Placement = request.param
    async with (
        opened(chroma.url, placement, surroundings=SHARED) as one,
        opened(chroma.url, placement, surroundings=SHARED) as other,
    ):
        yield one, other


async def race(servers: Servers, pairs: list[tuple[Message, Message]]) -> list[list[Outcome]]:
    """What the servers say of each pair, the first of it given to one, the second to the other."""
    outcomes: dict[int, list[Outcome]] = {}

    async def append(server: int) -> None:
        outcomes[server] = await store_at_once(servers[server], [pair[server] for pair in pairs])

    async with anyio.create_task_group() as tasks:
        for server in (0, 1):
            tasks.start_soon(append, server)
    return [list(pair) for pair in zip(outcomes[0], outcomes[1], strict=True)]


async def test_of_equal_messages_one_is_new_and_the_other_a_duplicate(servers: Servers) -> None:
    messages = [said(somebody()) for _ in range(ROUNDS)]
    for number, outcome in enumerate(await race(servers, [(it, it) for it in messages])):
        message = messages[number]
        assert outcome.count(Appended(message, duplicate=False)) == 1
        assert outcome.count(Appended(message, duplicate=True)) == 1
        assert await servers[0].by_ids(message.user, [message.id]) == [message]


async def test_of_different_texts_under_one_id_one_is_stored_and_the_other_a_conflict(
    servers: Servers,
) -> None:
    messages = [said(somebody(), "one") for _ in range(ROUNDS)]
    others = [msgspec.structs.replace(message, text="other") for message in messages]
    won: set[int] = set()
    for pair in zip(messages, others, strict=True):
        (outcomes,) = await race(servers, [pair])
        (winner,) = [number for number, it in enumerate(outcomes) if isinstance(it, Appended)]
        assert outcomes[winner] == Appended(pair[winner], duplicate=False)
        assert isinstance(outcomes[1 - winner], IdConflict)
        for server in servers:
            assert await server.by_ids(pair[0].user, [pair[0].id]) == [pair[winner]]
        won.add(winner)
    assert won  # who wins is chance


async def test_in_batches_that_cross_each_outcome_is_what_stands(servers: Servers) -> None:
    mine = line(somebody(), ROUNDS)
    theirs = [
        msgspec.structs.replace(message, text="other") if number % 2 else message
        for number, message in enumerate(mine)
    ]
    outcomes = await race(servers, list(zip(mine, theirs[::-1], strict=True)))
    stood = {it.id: it for it in await servers[0].by_ids(mine[0].user, [it.id for it in mine])}
    said_of = [(pair[0], pair[1]) for pair in outcomes]
    told = [it for pair in said_of for it in pair]
    asked = [it for pair in zip(mine, theirs[::-1], strict=True) for it in pair]
    for message, outcome in zip(asked, told, strict=True):
        if stood[message.id].text == message.text:
            assert isinstance(outcome, Appended)
        else:
            assert isinstance(outcome, IdConflict)
    new = [it.message.id for it in told if isinstance(it, Appended) and not it.duplicate]
    assert sorted(new) == sorted(stood)


async def test_what_cannot_be_read_back_may_be_stored(chroma: ChromaProcess) -> None:
    message = said(somebody())
    async with (
        FaultyWire(chroma.url).serving() as wire,
        opened(wire.url, Sharded("back_"), surroundings=SHARED) as memory,
    ):
        await store(memory, [said(somebody())])
        wire.path, wire.fault, wire.spared = "/get", "answer 500", 1
        with pytest.raises(StoreUnknown):
            await memory.append(message, vector_of(message))
        wire.fault = None
        again = await memory.append(message, vector_of(message))
        assert again == Appended(message, duplicate=True)


async def test_a_private_chroma_is_not_read_back(chroma: ChromaProcess) -> None:
    message = said(somebody())
    async with (
        FaultyWire(chroma.url).serving() as wire,
        opened(wire.url, Sharded("private_")) as memory,
    ):
        await store(memory, [said(somebody())])
        wire.path, wire.fault, wire.spared = "/get", "answer 500", 1
        await store(memory, [message])
        assert wire.met == 0


async def test_what_one_server_has_yet_to_write_of_a_user_is_not_stored_once_that_is_ended(
    chroma: ChromaProcess,
) -> None:
    user, gate = somebody(), StoreGate()
    first, second = line(user, 2)
    around = Surroundings(shared=True, gate=gate)
    async with (
        opened(chroma.url, surroundings=around) as memory,
        anyio.create_task_group() as tasks,
    ):
        outcomes: list[str] = []

        async def append(message: Message) -> None:
            try:
                await store(memory, [message])
                outcomes.append("stored")
            except UserBeingErased:
                outcomes.append("refused")

        async with gate.closed_to_batches():
            tasks.start_soon(append, first)
            await anyio.wait_all_tasks_blocked()
            await memory.end_writes(user)
        with anyio.fail_after(10):
            while not outcomes:
                await anyio.sleep(0.01)
        assert outcomes == ["refused"]
        assert await memory.by_ids(user, [first.id]) == []
        await store(memory, [second])
        assert len(await memory.by_ids(user, [second.id])) == 1
