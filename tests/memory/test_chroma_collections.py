from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from anyio.abc import SocketStream

from memory import chroma_collections
from memory.chroma_client import ChromaClient
from memory.chroma_collections import ChromaCollections, CollectionSpec, Select
from memory.chroma_process import ChromaProcess
from memory.errors import StoreRefused, StoreUnavailable
from memory.messages import Vector
from memory.records import Record
from tests.contracts.long_term_world import DIMENSION
from tests.memory.chroma_world import serving
from tests.memory.faulty_wire import FaultyWire

pytestmark = pytest.mark.chroma


class CutOnce(FaultyWire):
    """Meets the first request with its fault, and no other."""

    async def _answer(self, stream: SocketStream, method: str, path: str, body: bytes) -> bool:
        goes_on = await super()._answer(stream, method, path, body)
        self.fault = None if self.met else self.fault
        return goes_on


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


@dataclass
class World:
    """Collections whose names no other test uses."""

    client: ChromaClient
    collections: ChromaCollections
    first: CollectionSpec
    spec: CollectionSpec

    def again(self) -> ChromaCollections:
        """Another server's view of the same."""
        return ChromaCollections(self.client, first=self.first)


@pytest.fixture
async def world(chroma: ChromaProcess, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    client = ChromaClient(chroma.url, timeout_s=20)
    prefix = f"t{abs(hash(request.node.name))}"
    first = CollectionSpec(
        name=f"{prefix}-first",
        kind="conversations",
        layout="sharded/1",
        fingerprint="test",
        dimension=DIMENSION,
    )
    spec = msgspec.structs.replace(first, name=f"{prefix}-00", kind="messages")
    yield World(client, ChromaCollections(client, first=first), first, spec)
    await client.aclose()


def record(name: str, **metadata: str | int) -> Record:
    return Record(name, f"text of {name}", {"v": 1, **metadata})


def axis(number: int) -> Vector:
    vector: Vector = np.zeros(DIMENSION, np.float32)
    vector[number % DIMENSION] = 1
    return vector


async def added(world: World, *records: Record) -> None:
    vectors = [axis(number) for number in range(len(records))]
    await world.collections.add(world.spec, records, vectors)


async def names(world: World, select: Select) -> list[str]:
    return [row.id for row in (await world.collections.read(world.spec, select)).rows]


async def test_records_come_back_in_the_order_of_their_insertion(world: World) -> None:
    await added(world, record("c"), record("a"), record("b"))
    rows, vectors = await world.collections.read(
        world.spec, Select(include=("documents", "metadatas", "embeddings"))
    )
    assert [(row.id, row.document) for row in rows] == [
        (name, f"text of {name}") for name in ("c", "a", "b")
    ]
    assert rows[0].metadata == {"v": 1}
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.stack([axis(0), axis(1), axis(2)]))


async def test_what_is_not_asked_for_is_not_sent(world: World) -> None:
    await added(world, record("a"))
    rows, vectors = await world.collections.read(world.spec, Select(include=()))
    assert (rows[0].id, rows[0].document, rows[0].metadata) == ("a", None, None)
    assert vectors.shape == (0, DIMENSION)


async def test_ids_values_and_slices_select(world: World) -> None:
    await added(world, *(record(f"m{n}", page=f"p{n % 3}") for n in range(6)))
    assert await names(world, Select(ids=["m5", "m0", "none"])) == ["m0", "m5"]
    assert await names(world, Select(where=("page", ["p1"]))) == ["m1", "m4"]
    assert await names(world, Select(where=("page", ["p1", "p2"]))) == ["m1", "m2", "m4", "m5"]
    assert await names(world, Select(limit=2, offset=3)) == ["m3", "m4"]


async def test_asking_for_nothing_asks_nobody(world: World) -> None:
    await world.client.aclose()
    assert await names(world, Select(ids=[])) == []
    assert await names(world, Select(limit=0)) == []


async def test_all_is_read_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_collections, "ROWS_PER_READ", 2)
    await added(world, *(record(f"m{n}", page="p") for n in range(4)))
    select = Select(where=("page", ["p"]), include=("metadatas",), limit=1, offset=3)
    rows = await world.collections.read_all(world.spec, select)
    assert [row.id for row in rows] == ["m0", "m1", "m2", "m3"]


async def test_what_stands_is_left_as_it_is_by_add_and_replaced_by_upsert(world: World) -> None:
    await added(world, record("a", page="old"))
    await added(world, record("a", page="new"), record("b"))
    assert await names(world, Select(where=("page", ["old"]))) == ["a"]
    await world.collections.upsert(world.spec, [record("a", page="new")], [axis(1)])
    assert await names(world, Select(where=("page", ["new"]))) == ["a"]
    assert await names(world, Select()) == ["a", "b"]


async def test_reading_finds_nothing_where_nothing_is_and_makes_nothing(world: World) -> None:
    assert await names(world, Select()) == []
    assert await world.collections.read_all(world.spec, Select()) == []
    assert await world.collections.usage(world.first.name[:-6]) == {"collections": 0, "records": 0}


async def test_the_first_collection_exists_wherever_anything_does(world: World) -> None:
    await added(world, record("a"))
    prefix = world.first.name.removesuffix("first")
    assert await world.collections.usage(prefix) == {"collections": 2, "records": 1}
    await world.client.delete_collection(world.first.name)
    assert await names(world, Select()) == ["a"]
    assert [row.id for row in (await world.again().read(world.spec, Select())).rows] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "embedding is 'test', not 'other'"),
        ({"layout": "per_user"}, "layout is 'sharded/1', not 'per_user'"),
        ({"dimension": 9}, "dimension is 8, not 9"),
        ({"kind": "conversations"}, "kind is 'messages', not 'conversations'"),
        ({"owner": "ann"}, "marked as another's"),
    ],
)
async def test_a_collection_that_was_made_otherwise_is_refused(
    world: World, change: dict[str, str | int], message: str
) -> None:
    await added(world, record("a"))
    other = msgspec.structs.replace(world.spec, **change)
    collections = world.again()
    with pytest.raises(StoreUnavailable, match=message):
        await collections.read(other, Select())
    with pytest.raises(StoreUnavailable, match=message):
        await collections.add(other, [record("b")], [axis(0)])
    assert await names(world, Select()) == ["a"]


async def test_a_collection_that_is_gone_is_looked_for_again_once(world: World) -> None:
    await added(world, record("a"))
    await world.client.delete_collection(world.spec.name)
    assert await names(world, Select()) == []
    await added(world, record("b"))
    assert await names(world, Select()) == ["b"]


async def test_a_collection_that_was_made_anew_elsewhere_is_found(world: World) -> None:
    await added(world, record("a"))
    await world.client.delete_collection(world.spec.name)
    await world.again().add(world.spec, [record("b")], [axis(0)])
    assert await names(world, Select()) == ["b"]


async def test_a_record_that_the_client_will_not_send_is_refused(world: World) -> None:
    with pytest.raises(StoreRefused, match="refuses a record"):
        await added(world, record("a"), record("a"))
    with pytest.raises(StoreRefused):
        await added(world, record(""))
    assert await names(world, Select()) == []


async def test_open_collections_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_collections, "MAX_OPEN", 2)
    specs = [msgspec.structs.replace(world.spec, name=f"{world.spec.name}-{n}") for n in range(4)]
    for spec in specs:
        await world.collections.add(spec, [record("a")], [axis(0)])
        assert len(world.collections._open) <= 2
    for spec in specs:
        assert len((await world.collections.read(spec, Select())).rows) == 1


async def test_too_many_collections_are_not_opened_for_counting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await added(world, record("a"))
    monkeypatch.setattr(chroma_collections, "MAX_COUNTED", 1)
    prefix = world.first.name.removesuffix("first")
    assert await world.collections.usage(prefix) == {"collections": 2}


@pytest.mark.parametrize("what", ["read", "upsert"])
async def test_a_connection_that_had_died_is_replaced_where_twice_is_as_good_as_once(
    chroma: ChromaProcess, world: World, what: str
) -> None:
    await added(world, record("a"))
    async with CutOnce(chroma.url).serving() as wire:
        client = ChromaClient(wire.url, timeout_s=20)
        collections = ChromaCollections(client, first=world.first)
        await collections.read(world.spec, Select())
        wire.path, wire.fault = "/get" if what == "read" else "/upsert", "request cut"
        if what == "read":
            assert len((await collections.read(world.spec, Select())).rows) == 1
        else:
            await collections.upsert(world.spec, [record("b")], [axis(1)])
            assert await names(world, Select()) == ["a", "b"]
        assert wire.met == 1
        await client.aclose()
