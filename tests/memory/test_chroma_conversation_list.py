from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import chroma_conversation_list
from memory.chroma_collections import CollectionSpec
from memory.chroma_conversation_list import ConversationList
from memory.chroma_process import ChromaProcess
from memory.messages import Conversation, UserId
from memory.paging import NotACursor
from memory.placement import Sharded
from memory.records import LISTED, conversation_record
from tests.contracts.long_term_world import chat, said
from tests.memory.chroma_world import opened, serving
from tests.memory.shelf_twin import SPEC, ShelfTwin

ANN, BOB = UserId("ann"), UserId("bob")


class ListTwin(ShelfTwin):
    """The collection of conversations, as it is now or as earlier versions made it."""

    def __init__(self, saved: Sequence[Conversation], *, is_listed: bool = True) -> None:
        super().__init__()
        self.is_listed = is_listed
        for conversation in saved:
            record = conversation_record(conversation)
            if not is_listed:
                del record.metadata[LISTED]
            self.records.append((record, said(conversation.user)))

    async def facts(self, _spec: CollectionSpec) -> Mapping[str, object]:
        return {LISTED: "month"} if self.is_listed else {}


def at(year: int, month: int = 1, day: int = 1) -> float:
    return datetime(year, month, day, tzinfo=UTC).timestamp()


def last_updated_first(saved: Sequence[Conversation]) -> list[Conversation]:
    return sorted(saved, key=lambda it: (it.updated_at, it.id), reverse=True)


async def walked(shelf: ListTwin, limit: int) -> list[Conversation]:
    found: list[Conversation] = []
    before: str | None = None
    while True:
        page = await ConversationList(shelf.collections, SPEC, ANN).page(limit, before)
        found += page.conversations
        before = page.before
        if before is None:
            return found
        assert len(page.conversations) == limit


times = st.one_of(
    st.floats(at(2025, 11), at(2026, 2)), st.floats(0, at(9999)), st.integers(0, int(at(2030)))
)


@given(
    times=st.lists(times, max_size=25),
    limit=st.integers(1, 9),
    few=st.integers(1, 12),
    is_listed=st.booleans(),
)
@settings(deadline=None, max_examples=40)
async def test_all_are_found_once_last_updated_first(
    times: list[float], limit: int, few: int, *, is_listed: bool
) -> None:
    saved = [chat(ANN, f"c{number}", updated_at=it) for number, it in enumerate(times)]
    shelf = ListTwin([*saved, chat(BOB, "c1")], is_listed=is_listed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chroma_conversation_list, "FEW", few)
        assert await walked(shelf, limit) == last_updated_first(saved)


async def test_few_conversations_cost_one_request() -> None:
    shelf = ListTwin(
        [chat(ANN, f"c{number}", updated_at=at(1980 + number)) for number in range(50)]
    )
    await ConversationList(shelf.collections, SPEC, ANN).page(20, None)
    assert shelf.reads == 1


async def test_of_many_only_the_months_of_the_page_are_read() -> None:
    now = time.time()
    saved = [chat(ANN, f"c{number}", updated_at=now - number * 86_400) for number in range(400)]
    shelf = ListTwin(saved)
    page = await ConversationList(shelf.collections, SPEC, ANN).page(20, None)
    assert list(page.conversations) == saved[:20]
    assert shelf.reads <= 8
    assert shelf.rows <= 200


async def test_what_no_page_has_given_is_no_cursor() -> None:
    with pytest.raises(NotACursor):
        await ConversationList(ListTwin([]).collections, SPEC, ANN).page(5, "x")


@pytest.fixture(scope="module")
async def chroma(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromaProcess]:
    async with serving(tmp_path_factory.mktemp("chroma")) as (process, _):
        yield process


@pytest.mark.chroma
async def test_many_are_read_a_month_at_a_time_from_chroma(
    chroma: ChromaProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_conversation_list, "FEW", 3)
    saved = [chat(ANN, f"c{number}", updated_at=at(2020 + number // 2)) for number in range(12)]
    async with opened(chroma.url, Sharded("listed_")) as memory:
        for conversation in saved:
            await memory.save_conversation(conversation)
        moved = chat(ANN, "c0", updated_at=at(2026, 3))
        await memory.save_conversation(moved)
        first = await memory.conversations(ANN, limit=7)
        second = await memory.conversations(ANN, limit=7, before=first.before)
        found = [*first.conversations, *second.conversations]
        assert found == last_updated_first([moved, *saved[1:]])
        assert second.before is None
