from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory import chroma_collections
from memory.chroma import ChromaLongTermMemory
from memory.chroma_client import ChromaClient
from memory.chroma_process import ChromaProcess
from memory.errors import CorruptRecord, StoreUnavailable
from memory.messages import UserId
from memory.placement import PerUser, Placement, Sharded
from memory.records import message_record
from tests.contracts.long_term import LongTermContract
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

pytestmark = pytest.mark.chroma

PLACEMENTS: dict[str, Placement] = {
    "one shard": Sharded("one_"),
    "three shards": Sharded("three_", 3),
    "per user": PerUser("own_"),
}


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


@pytest.fixture
async def vendor(chroma: ChromaProcess) -> AsyncIterator[ChromaClient]:
    """The client itself, to do what long-term memory would not."""
    client = ChromaClient(chroma.url, timeout_s=20)
    yield client
    await client.aclose()


async def raw(vendor: ChromaClient, name: str) -> AsyncCollection:
    return AsyncCollection(vendor, await vendor.get_collection(name), embedding_function=None)


class TestContract(LongTermContract):
    @pytest.fixture(scope="class", params=PLACEMENTS)
    async def memory(
        self, chroma: ChromaProcess, request: pytest.FixtureRequest
    ) -> AsyncIterator[ChromaLongTermMemory]:
        async with opened(chroma.url, PLACEMENTS[request.param]) as memory:
            yield memory


async def test_long_answers_are_read_in_parts(
    chroma: ChromaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_collections, "ROWS_PER_READ", 3)
    user = somebody()
    messages = line(user, 40)
    async with opened(chroma.url) as memory:
        await store_at_once(memory, messages)
        for number in range(7):
            await memory.save_conversation(chat(user, f"c{number}"))
        assert await memory.latest(user, TEA, limit=30) == messages[-30:]
        assert len((await memory.conversations(user, limit=10)).conversations) == 7
        newest = await memory.newest(user, limit=50)
        assert list(newest.messages) == messages[::-1]
        assert newest.before is None


async def test_vectors_of_two_embedders_are_never_mixed(chroma: ChromaProcess) -> None:
    placement, message = Sharded("embedder_"), said(somebody())
    async with opened(chroma.url, placement) as memory:
        await store(memory, [message])
    async with opened(chroma.url, placement, fingerprint="another") as memory:
        with pytest.raises(StoreUnavailable, match="embedding is 'test', not 'another'"):
            await store(memory, [said(somebody())])
        with pytest.raises(StoreUnavailable, match="never mixed"):
            await memory.by_ids(message.user, [message.id])


async def test_users_are_not_looked_for_where_another_layout_has_not_put_them(
    chroma: ChromaProcess,
) -> None:
    message = said(somebody())
    async with opened(chroma.url, Sharded("layout_", 2)) as memory:
        await store(memory, [message])
    for placement in (Sharded("layout_", 3), PerUser("layout_")):
        async with opened(chroma.url, placement) as memory:
            with pytest.raises(StoreUnavailable, match="layout is 'sharded/2'"):
                await memory.latest(message.user, TEA, limit=1)


@pytest.mark.parametrize("name", ["plain", "Ann@example.org", "name hashed " * 25, "12"])
async def test_a_users_own_collection_is_checked_for_its_owner(
    chroma: ChromaProcess, vendor: ChromaClient, name: str
) -> None:
    placement, user = PerUser("owner_"), UserId(name)
    async with opened(chroma.url, placement) as memory:
        await store(memory, [said(user)])
    collection = await raw(vendor, placement.shelf(user).name)
    await collection.modify(metadata={**collection.metadata, "owner": "eve"})
    async with opened(chroma.url, placement) as memory:
        with pytest.raises(StoreUnavailable, match="marked as another's"):
            await memory.latest(user, TEA, limit=1)


async def test_reading_makes_no_collections(chroma: ChromaProcess) -> None:
    async with opened(chroma.url, PerUser("nobody_")) as memory:
        assert await memory.latest(somebody(), TEA, limit=1) == []
        assert (await memory.newest(somebody(), limit=1)).before is None
        assert await memory.usage() == {"collections": 0, "records": 0}
        await store(memory, [said(somebody())])
        assert await memory.latest(somebody(), TEA, limit=1) == []
        assert await memory.usage() == {"collections": 2, "records": 1}


async def test_collections_that_vanished_are_made_again(
    chroma: ChromaProcess, vendor: ChromaClient
) -> None:
    placement, message = Sharded("vanished_"), said(somebody())
    async with opened(chroma.url, placement) as memory:
        await store(memory, [message])
        for name in (placement.conversations, placement.shelf(message.user).name):
            await vendor.delete_collection(name)
        assert await memory.latest(message.user, TEA, limit=1) == []
        await store(memory, [message])
        assert await memory.latest(message.user, TEA, limit=1) == [message]


@pytest.mark.parametrize(
    ("field", "value"), [("user_id", "eve"), ("type", "system"), ("parent", None), ("depth", 1.5)]
)
async def test_a_record_that_we_did_not_write_is_not_believed(
    chroma: ChromaProcess, vendor: ChromaClient, field: str, value: Any
) -> None:
    placement, first = Sharded("corrupt_"), said(somebody())
    async with opened(chroma.url, placement) as memory:
        await store(memory, [first])
        record = message_record(said(first.user, after=first))
        metadata: dict[str, Any] = {**record.metadata, field: value}
        collection = await raw(vendor, placement.shelf(first.user).name)
        await collection.add(
            ids=record.id,
            embeddings=vector_of(first).tolist(),
            documents=record.document,
            metadatas={name: it for name, it in metadata.items() if it is not None},
        )
        with pytest.raises(CorruptRecord) as caught:
            await memory.latest(first.user, TEA, limit=5)
        assert (caught.value.record_id, caught.value.field) == (record.id, field)


async def test_no_proxy_stands_between_us_and_loopback(
    chroma: ChromaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with opened(chroma.url) as memory:
        await memory.ping()


async def test_certificates_are_checked() -> None:
    client = ChromaClient("https://127.0.0.1:9", timeout_s=1)
    context: ssl.SSLContext = client._http._transport._pool._ssl_context  # type: ignore[attr-defined]  # httpx has no public way to it
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    await client.aclose()
