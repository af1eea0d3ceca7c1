from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from memory.chroma_appends import Append, ChromaAppends
from memory.chroma_client import ChromaClient
from memory.chroma_collections import ChromaCollections, CollectionSpec, Select
from memory.chroma_process import ChromaProcess
from memory.errors import CorruptRecord, IdConflict, StoreRefused, StoreUnavailable, StoreUnknown
from memory.messages import Appended, Message, MessageId, UserId
from memory.placement import PerUser, Shelf
from memory.records import message_record
from tests.contracts.long_term_world import DIMENSION, line, said, somebody, vector_of
from tests.memory.chroma_world import serving
from tests.memory.faulty_wire import Fault, FaultyWire

pytestmark = pytest.mark.chroma


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


class World:
    """One user's shelf, written to over a way that can be cut."""

    def __init__(self, wire: FaultyWire, timeout_s: float = 8) -> None:
        self.wire = wire
        self.user = somebody()
        self.shelf: Shelf = PerUser("own_").shelf(self.user)
        self.client = ChromaClient(wire.url, timeout_s=timeout_s)
        first = self.spec(Shelf("own_.meta"))
        self.collections = ChromaCollections(self.client, first=first)
        self.appends = ChromaAppends(self.collections, self.spec, timeout_s=timeout_s)

    def spec(self, shelf: Shelf) -> CollectionSpec:
        return CollectionSpec(
            name=shelf.name,
            kind="conversations" if shelf.name == "own_.meta" else "messages",
            layout="per_user",
            fingerprint="test",
            dimension=DIMENSION,
            owner=shelf.owner,
        )

    async def write(self, *messages: Message) -> list[object]:
        """The outcomes; a fault by its kind."""
        batch = [Append(message, vector_of(message)) for message in messages]
        outcomes: Sequence[object] = await self.appends.write(self.shelf, batch)
        return [it if isinstance(it, Appended) else type(it) for it in outcomes]

    async def stored(self) -> list[tuple[str, object]]:
        rows = (await self.collections.read(self.spec(self.shelf), Select())).rows
        return [(row.id, row.document) for row in rows]


@pytest.fixture
async def world(chroma: ChromaProcess) -> AsyncIterator[World]:
    async with FaultyWire(chroma.url).serving() as wire:
        world = World(wire)
        yield world
        await world.client.aclose()


def new(message: Message) -> Appended:
    return Appended(message, duplicate=False)


def known(message: Message) -> Appended:
    return Appended(message, duplicate=True)


def changed(message: Message, **facts: str | float) -> Message:
    return msgspec.structs.replace(message, **facts)


def texts(*messages: Message) -> list[tuple[str, str]]:
    return [(message.id, message.text) for message in messages]


async def test_a_batch_is_stored_in_order(world: World) -> None:
    messages = line(world.user, 5)
    assert await world.write(*messages) == [new(it) for it in messages]
    assert await world.stored() == texts(*messages)


async def test_what_stands_already_is_told_with_what_stands(world: World) -> None:
    first, second = line(world.user, 2)
    await world.write(first)
    outcomes = await world.write(changed(first, timestamp=9.0), second)
    assert outcomes == [known(first), new(second)]
    assert await world.stored() == texts(first, second)


async def test_an_id_that_stands_with_another_text_is_a_conflict(world: World) -> None:
    first, second = line(world.user, 2)
    await world.write(first)
    assert await world.write(changed(first, text="other"), second) == [IdConflict, new(second)]
    assert await world.stored() == texts(first, second)


async def test_of_equal_ids_in_a_batch_the_first_is_stored(world: World) -> None:
    message = said(world.user)
    outcomes = await world.write(
        message, changed(message, timestamp=9.0), changed(message, text="x")
    )
    assert outcomes == [new(message), known(message), IdConflict]
    assert await world.stored() == texts(message)


async def test_an_id_under_which_another_user_s_message_stands_is_a_conflict(world: World) -> None:
    message = said(world.user)
    other = message_record(changed(message, user=UserId("eve")))
    await world.write(said(world.user))
    await world.collections.add(world.spec(world.shelf), [other], [vector_of(message)])
    assert await world.write(message) == [IdConflict]


async def test_an_id_under_which_something_else_stands_is_told_as_corrupt(world: World) -> None:
    message = said(world.user)
    record = message_record(message)
    broken = record._replace(metadata={**record.metadata, "depth": "deep"})
    await world.write(said(world.user))
    await world.collections.add(world.spec(world.shelf), [broken], [vector_of(message)])
    assert await world.write(message) == [CorruptRecord]


@pytest.mark.parametrize("fault", ["answer cut", "answer 500"])
async def test_a_write_whose_answer_is_lost_is_looked_up_for_each_message(
    world: World, fault: Fault
) -> None:
    first, second, third = line(world.user, 3)
    await world.write(first)
    world.wire.fault = fault
    outcomes = await world.write(first, second, third, changed(third, text="other"))
    assert outcomes == [known(first), new(second), new(third), IdConflict]
    assert world.wire.met == 1
    assert await world.stored() == texts(first, second, third)


async def test_a_write_that_is_not_found_again_may_still_happen(world: World) -> None:
    first, second = line(world.user, 2)
    await world.write(first)
    world.wire.fault = "request cut"
    assert await world.write(first, second, second) == [known(first), StoreUnknown, StoreUnknown]
    world.wire.fault = None
    assert await world.write(second) == [new(second)]


async def test_where_nothing_could_be_looked_up_nothing_was_written(world: World) -> None:
    await world.write(said(world.user))
    world.wire.path, world.wire.fault = "/get", "answer 500"
    with pytest.raises(StoreUnavailable):
        await world.write(said(world.user))
    world.wire.fault = None
    assert len(await world.stored()) == 1


async def test_a_store_that_hangs_is_given_up_in_time(chroma: ChromaProcess) -> None:
    async with FaultyWire(chroma.url).serving() as wire:
        world = World(wire, timeout_s=1)
        await world.write(said(world.user))
        wire.path, wire.fault = "/get", "answer withheld"
        with pytest.raises(StoreUnavailable):
            await world.write(said(world.user))
        await world.client.aclose()


async def test_a_batch_that_chroma_will_not_have_is_refused_as_a_whole(world: World) -> None:
    good, bad = said(world.user), changed(said(world.user), id=MessageId(""))
    with pytest.raises(StoreRefused):
        await world.write(good, bad)
    assert await world.stored() == []
