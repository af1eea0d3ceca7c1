from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from memory.chroma_process import ChromaProcess
from memory.placement import PerUser, Placement, Sharded
from tests.contracts.long_term_world import line, said, somebody, store
from tests.memory.chroma_world import opened, serving

pytestmark = pytest.mark.chroma


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


@pytest.mark.parametrize("placement", [Sharded("byid_", 2), PerUser("byown_")])
async def test_a_later_process_finds_what_was_forgotten(
    chroma: ChromaProcess, placement: Placement
) -> None:
    user = somebody()
    messages = line(user, 4)
    async with opened(chroma.url, placement) as memory:
        await store(memory, messages)
        for message in messages[:3]:
            await memory.mark_forgotten(user, message.id, forgotten=True)
        await memory.mark_forgotten(user, messages[0].id, forgotten=False)
    async with opened(chroma.url, placement) as memory:
        assert await memory.forgotten(user) == {messages[1].id, messages[2].id}
        found = await memory.by_ids(user, [message.id for message in messages])
        assert [it.forgotten for it in found] == [False, True, True, False]


async def test_more_messages_are_read_than_one_request_asks_for(
    chroma: ChromaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.chroma_by_id.IDS_PER_READ", 2)
    user = somebody()
    messages = line(user, 5)
    async with opened(chroma.url, Sharded("many_")) as memory:
        await store(memory, [*messages, said(somebody("eve"))])
        wanted = [message.id for message in reversed(messages)]
        assert [it.id for it in await memory.by_ids(user, [*wanted, wanted[0]])] == wanted
