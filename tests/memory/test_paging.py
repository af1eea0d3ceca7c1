from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.messages import Conversation, ConversationId, UserId
from memory.paging import conversation_page, month_cursor, parse_month_cursor
from memory.records import FIRST_MONTH, LAST_MONTH, month_of


def chat(name: str, updated_at: float) -> Conversation:
    return Conversation(
        id=ConversationId(name),
        user=UserId("ann"),
        title="t",
        created_at=0.0,
        updated_at=updated_at,
    )


chats = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True),
    st.one_of(st.floats(0, 4e9), st.sampled_from([0.0, 1.0, 1.5])),
    max_size=20,
).map(lambda times: [chat(name, at) for name, at in times.items()])


@given(st.integers(FIRST_MONTH, LAST_MONTH), st.none() | st.integers(0, 999_999_999))
def test_a_month_s_cursor_is_read_as_it_was_written(month: int, left: int | None) -> None:
    assert parse_month_cursor(month_cursor(month, left)) == (month, left)


def test_a_month_s_cursor_is_readable() -> None:
    assert month_cursor(month_of(1_700_000_000.0), None) == "2023-11"
    assert month_cursor(month_of(1_700_000_000.0), 12) == "2023-11.12"


@pytest.mark.parametrize(
    "text",
    ["", "2023", "2023-1", "2023-00", "2023-13", "2023-11.", "2023-11.-1", "2023-11.1234567890",
     " 2023-11", "2023-11\n", "٢٠٢٣-11", "1700000000.0/tea"],
)  # fmt: skip
def test_what_is_no_month_s_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        parse_month_cursor(text)


@given(st.text())
def test_any_text_is_a_month_s_cursor_or_refused(text: str) -> None:
    try:
        month, left = parse_month_cursor(text)
    except ValueError:
        return
    assert month_cursor(month, left).partition(".")[0] == text.partition(".")[0]


@given(chats, st.integers(1, 8))
def test_pages_show_every_conversation_once_last_updated_first(
    conversations: list[Conversation], limit: int
) -> None:
    seen: list[Conversation] = []
    before: str | None = None
    while True:
        page = conversation_page(conversations, limit=limit, before=before)
        seen += page.conversations
        before = page.before
        if before is None:
            break
        assert len(page.conversations) == limit
    assert sorted(seen, key=lambda it: it.id) == sorted(conversations, key=lambda it: it.id)
    times = [it.updated_at for it in seen]
    assert times == sorted(times, reverse=True)


@given(chats, st.data())
def test_one_that_moves_to_the_front_makes_no_other_be_missed(
    conversations: list[Conversation], data: st.DataObject
) -> None:
    first = conversation_page(conversations, limit=3, before=None)
    if first.before is None:
        return
    moved = data.draw(st.sampled_from(conversations))
    later = [chat(it.id, 5e9) if it is moved else it for it in conversations]
    rest = conversation_page(later, limit=100, before=first.before)
    shown = {it.id for it in (*first.conversations, *rest.conversations)}
    assert shown | {moved.id} == {it.id for it in conversations}


def test_nothing_and_no_room_are_the_end() -> None:
    assert conversation_page([], limit=5, before=None).before is None
    assert conversation_page([chat("a", 1.0)], limit=0, before=None).conversations == ()
    assert conversation_page([chat("a", 1.0)], limit=1, before=None).before is None


@pytest.mark.parametrize("text", ["", "tea", "soon/tea", "nan/tea", "1.0"])
def test_what_is_no_conversation_s_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        conversation_page([chat("a", 1.0)], limit=5, before=text)
