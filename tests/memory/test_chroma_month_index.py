from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from memory.chroma_month_index import MonthIndex
from memory.messages import UserId
from memory.records import FIRST_MONTH
from tests.contracts.long_term_world import said
from tests.memory.shelf_twin import SPEC, ShelfTwin

ANN, BOB = UserId("ann"), UserId("bob")
NOW = 2026 * 12 + 4


def at(month: int) -> float:
    return datetime(month // 12, month % 12 + 1, 9, tzinfo=UTC).timestamp()


@given(
    st.lists(st.integers(FIRST_MONTH, NOW + 9), max_size=6),
    st.integers(FIRST_MONTH - 1, NOW),
)
async def test_the_last_month_up_to_another_is_found(months: list[int], latest: int) -> None:
    shelf = ShelfTwin(
        [*(said(ANN, timestamp=at(it)) for it in months), said(BOB, timestamp=at(NOW))]
    )
    index = MonthIndex(shelf.collections, SPEC, ANN, "month")
    expected = max((month for month in months if month <= latest), default=None)
    assert await index.last(latest) == expected


def test_months_are_asked_for_by_the_users_own_keys() -> None:
    index = MonthIndex(ShelfTwin().collections, SPEC, ANN, "month")
    assert index.where(NOW - 1, NOW) == ("month", ["ann/2026-04", "ann/2026-05"])
