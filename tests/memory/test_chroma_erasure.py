from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory.chroma_client import ChromaClient
from memory.chroma_erasure import ChromaErasure
from memory.errors import StoreUnavailable
from memory.messages import UserId, tombstone
from memory.placement import PerUser, user_collection_name
from tests.contracts.long_term_world import DIMENSION, TEA, line, said, somebody, store
from tests.memory.chroma_world import opened, serving

pytestmark = pytest.mark.chroma


@pytest.fixture(scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process.url


@pytest.fixture
async def erasure(url: str) -> AsyncIterator[ChromaErasure]:
    client = ChromaClient(url, timeout_s=20)
    yield ChromaErasure(client, dimension=DIMENSION)
    await client.aclose()


async def test_what_is_not_there_needs_no_deleting(erasure: ChromaErasure) -> None:
    user = somebody()
    assert await erasure.delete_user("no_such_collection", user) == 0
    assert await erasure.drop("no_such_collection", user) == 0
    await erasure.redact("no_such_collection", [tombstone(said(user))])


async def test_all_records_of_a_user_are_counted_as_they_go(
    erasure: ChromaErasure, url: str
) -> None:
    user, other = somebody(), somebody("ben")
    async with opened(url) as memory:
        for each in (user, other):
            await store(memory, line(each, 3))
    assert await erasure.delete_user("user_00", user) == 3
    assert await erasure.delete_user("user_00", user) == 0
    assert await erasure.delete_user("user_00", other) == 3


async def test_a_tombstone_makes_no_record_where_there_was_none(
    erasure: ChromaErasure, url: str
) -> None:
    user = somebody()
    first, second = line(user, 2)
    async with opened(url) as memory:
        await store(memory, [first])
        await erasure.redact("user_00", [tombstone(first), tombstone(second)])
        assert await memory.latest(user, TEA, limit=5) == [tombstone(first)]


async def test_a_collection_that_is_marked_as_anothers_is_left_alone(
    erasure: ChromaErasure, url: str, tmp_path: Path
) -> None:
    owner, eve = UserId(f"owner-{tmp_path.name}"), UserId("eve")
    placement = PerUser("theirs_")
    async with opened(url, placement) as memory:
        messages = line(owner, 2)
        await store(memory, messages)
        name = user_collection_name("theirs_", owner)
        with pytest.raises(StoreUnavailable, match="another's"):
            await erasure.drop(name, eve)
        assert await memory.latest(owner, TEA, limit=5) == messages
        assert await erasure.drop(name, owner) == 2
        assert await memory.latest(owner, TEA, limit=5) == []
