from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import chroma_months
from memory.chroma_months import MonthWalk
from memory.errors import CorruptRecord
from memory.messages import Message, UserId
from memory.paging import parse_month_cursor
from memory.records import FIRST_MONTH, month_of
from tests.contracts.long_term_world import DIMENSION, said, vector_of
from tests.memory.shelf_twin import SPEC, ShelfTwin

ANN, BOB = UserId("ann"), UserId("bob")
NOW = month_of(datetime(2026, 5, 20, tzinfo=UTC).timestamp())


def at(month: int, day: int = 1) -> float:
    return datetime(month // 12, month % 12 + 1, day, tzinfo=UTC).timestamp()


months = st.one_of(st.integers(NOW - 3, NOW), st.integers(FIRST_MONTH, NOW))
histories = st.lists(st.tuples(months, st.integers(1, 28)), max_size=40).map(
    lambda moments: [said(ANN, timestamp=at(*moment)) for moment in moments]
)


async def walked(
    shelf: ShelfTwin, limit: int, *, user: UserId = ANN, begin: int = NOW
) -> list[list[Message]]:
    """The pages of a whole walk; each vector is its message's."""
    pages: list[list[Message]] = []
    month: int = begin
    left: int | None = None
    while True:
        page = await MonthWalk(shelf.collections, SPEC, user).page(month, left, limit)
        assert page.vectors.shape == (len(page.messages), DIMENSION)
        assert page.vectors.dtype == np.float32
        for message, vector in zip(page.messages, page.vectors, strict=True):
            assert np.array_equal(vector, vector_of(message))
        pages.append(list(page.messages))
        if page.before is None:
            return pages
        assert len(page.messages) == limit
        month, left = parse_month_cursor(page.before)


def newest_first(messages: list[Message]) -> list[Message]:
    """The last month first, within a month the last stored first."""
    months = {month_of(it.timestamp) for it in messages}
    return [
        message
        for month in sorted(months, reverse=True)
        for message in messages[::-1]
        if month_of(message.timestamp) == month
    ]


@settings(deadline=None, max_examples=60)
@given(histories, st.integers(1, 7), st.integers(1, 5))
async def test_a_walk_shows_everything_once_the_last_month_first(
    messages: list[Message], limit: int, vectors_per_read: int
) -> None:
    others = [said(BOB, timestamp=at(NOW)) for _ in range(3)]
    shelf = ShelfTwin([*others, *messages])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chroma_months, "VECTORS_PER_READ", vectors_per_read)
        pages = await walked(shelf, limit)
    assert [message for page in pages for message in page] == newest_first(messages)


@settings(deadline=None, max_examples=40)
@given(histories, months)
async def test_a_walk_that_begins_in_the_past_leaves_out_what_came_later(
    messages: list[Message], begin: int
) -> None:
    pages = await walked(ShelfTwin(messages), 100, begin=begin)
    earlier = [it for it in messages if month_of(it.timestamp) <= begin]
    assert [message for page in pages for message in page] == newest_first(earlier)


async def test_what_is_said_during_a_walk_shifts_nothing() -> None:
    messages = [said(ANN, timestamp=at(NOW, day)) for day in range(1, 11)]
    shelf = ShelfTwin(messages)
    first = await MonthWalk(shelf.collections, SPEC, ANN).page(NOW, None, 4)
    assert first.before is not None
    shelf.add(said(ANN, timestamp=at(NOW, 12)))
    month, left = parse_month_cursor(first.before)
    rest = await MonthWalk(shelf.collections, SPEC, ANN).page(month, left, 100)
    assert [*first.messages, *rest.messages] == messages[::-1]


async def test_somebody_without_messages_has_an_empty_page() -> None:
    shelf = ShelfTwin([said(BOB, timestamp=at(NOW))])
    assert await walked(shelf, 5) == [[]]
    assert shelf.reads <= 5


async def test_a_year_of_silence_costs_a_few_requests() -> None:
    messages = [said(ANN, timestamp=at(month)) for month in (NOW - 60, NOW - 13)]
    shelf = ShelfTwin(messages)
    assert await walked(shelf, 9) == [messages[::-1]]
    assert shelf.reads <= 25


async def test_no_more_vectors_are_read_at_once_than_the_event_loop_bears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shelf = ShelfTwin([said(ANN, timestamp=at(NOW)) for _ in range(10)])
    asked: list[int | None] = []
    read = shelf.read

    async def observed(spec: object, select: object) -> object:
        asked.append(select.limit if "embeddings" in select.include else None)  # type: ignore[attr-defined]  # a Select
        return await read(spec, select)  # type: ignore[arg-type]  # likewise

    monkeypatch.setattr(shelf, "read", observed)
    monkeypatch.setattr(chroma_months, "VECTORS_PER_READ", 4)
    await walked(shelf, 100)
    assert [limit for limit in asked if limit is not None] == [4, 4, 2]


async def test_a_record_of_another_user_under_our_key_is_not_believed() -> None:
    shelf = ShelfTwin([said(ANN, timestamp=at(NOW))])
    shelf.records[0][0].metadata["user_id"] = BOB
    with pytest.raises(CorruptRecord):
        await walked(shelf, 5)
