from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from memory.chroma_conversations import FIRST_PAGES, PAGES_PER_READ, PROBES, ConversationWalk
from memory.conversation_tree import Node, leaves_below
from memory.errors import CorruptRecord
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.records import PAGE_DEPTHS
from tests.contracts.long_term_world import TEA, line, said
from tests.memory.shelf_twin import SPEC, ShelfTwin

ANN, BOB = UserId("ann"), UserId("bob")


@st.composite
def trees(draw: st.DrawFn) -> list[Message]:
    """Lines of messages, each but the first begun anywhere in what was there before."""
    messages = line(ANN, draw(st.integers(1, 150)))
    for _ in range(draw(st.integers(0, 4))):
        after = messages[draw(st.integers(0, 10**6)) % len(messages)]
        messages += line(ANN, draw(st.integers(1, 150)), after=after)
    return messages


def walk(shelf: ShelfTwin, user: UserId = ANN) -> ConversationWalk:
    return ConversationWalk(shelf.collections, SPEC, user, TEA)


def up_from(messages: Sequence[Message], leaf: Message, limit: int) -> list[Message]:
    known = {message.id: message for message in messages}
    way = [leaf]
    while way[-1].parent is not None:
        way.append(known[way[-1].parent])
    return way[:limit][::-1]


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(1, 120))
async def test_the_latest_lead_to_the_last_stored_of_the_deepest(
    messages: list[Message], limit: int
) -> None:
    deepest = max(message.depth for message in messages)
    leaf = [message for message in messages if message.depth == deepest][-1]
    found = await walk(ShelfTwin(messages)).latest(limit)
    assert found == up_from(messages, leaf, limit)


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(1, 120), st.data())
async def test_the_way_up_to_any_message_is_found(
    messages: list[Message], limit: int, data: st.DataObject
) -> None:
    leaf = data.draw(st.sampled_from(messages))
    found = await walk(ShelfTwin(messages)).up_to(leaf.id, leaf.depth, limit)
    assert found == up_from(messages, leaf, limit)


@settings(deadline=None, max_examples=40)
@given(trees(), st.data())
async def test_the_newest_leaf_below_a_message_is_the_last_that_was_stored(
    messages: list[Message], data: st.DataObject
) -> None:
    top = data.draw(st.sampled_from(messages))
    nodes = [Node(message.id, message.parent, message.depth) for message in messages]
    leaf = await walk(ShelfTwin(messages)).newest_leaf_below(top)
    assert leaf.id == leaves_below(nodes, top.id)[-1]
    assert leaf in nodes


@settings(deadline=None, max_examples=40)
@given(trees(), st.integers(0, 100))
async def test_pages_from_a_depth_on_hold_every_message_after_its_parent(
    messages: list[Message], begin: int
) -> None:
    shelf, found = ShelfTwin(messages), list[Message]()
    depth: int | None = begin
    while depth is not None:
        page = await walk(shelf).below(depth)
        found += page.messages
        depth = page.depth
    assert sorted(it.id for it in found) == sorted(it.id for it in messages if it.depth >= begin)
    assert [it.depth for it in found] == sorted(it.depth for it in found)
    for at_depth in {it.depth for it in found}:
        inserted = [it.id for it in messages if it.depth == at_depth]
        assert [it.id for it in found if it.depth == at_depth] == inserted


async def test_a_conversation_that_does_not_exist_has_no_messages() -> None:
    shelf = ShelfTwin(line(ANN, 3, conversation=ConversationId("rum")))
    assert await walk(shelf).latest(10) == []
    assert (await walk(shelf).below(0)).messages == ()


async def test_another_s_conversation_of_the_same_name_is_not_seen() -> None:
    own, other = line(ANN, 3), line(BOB, 70)
    shelf = ShelfTwin([*other, *own])
    assert await walk(shelf).latest(10) == own
    assert await walk(shelf, BOB).latest(10) == other[-10:]


@pytest.mark.parametrize("length", [1, 16, 48])
async def test_the_end_of_a_usual_conversation_costs_one_request(length: int) -> None:
    shelf = ShelfTwin(line(ANN, length))
    await walk(shelf).latest(10)
    assert shelf.reads == 1


@pytest.mark.parametrize("length", [65, 1_000, 20_000])
async def test_the_end_of_a_long_conversation_costs_a_handful(length: int) -> None:
    messages = line(ANN, length)
    shelf = ShelfTwin(messages)
    assert await walk(shelf).latest(10) == messages[-10:]
    assert shelf.reads <= 9


def test_a_probe_s_request_is_small() -> None:
    assert max(FIRST_PAGES, PROBES) <= PAGES_PER_READ
    assert PAGES_PER_READ * PAGE_DEPTHS <= 1_000


async def test_what_was_read_for_a_question_is_not_read_again() -> None:
    messages = line(ANN, 20)
    shelf = ShelfTwin(messages)
    once = walk(shelf)
    await once.latest(10)
    leaf = messages[-1]
    assert await once.up_to(leaf.id, leaf.depth, 20) == messages
    assert shelf.reads == 1


async def test_a_missing_parent_is_logged_and_what_follows_it_is_shown() -> None:
    messages = line(ANN, 6)
    shelf = ShelfTwin([*messages[:2], *messages[3:]])
    with capture_logs() as logs:
        assert await walk(shelf).latest(10) == messages[3:]
    [entry] = logs
    assert (entry["event"], entry["found"], entry["wanted"]) == (
        "conversation.parent_missed",
        3,
        6,
    )


async def test_a_record_of_another_user_under_our_key_is_not_believed() -> None:
    shelf = ShelfTwin()
    shelf.add(said(ANN))
    shelf.records[0][0].metadata["user_id"] = BOB
    with pytest.raises(CorruptRecord):
        await walk(shelf).latest(10)
    with pytest.raises(CorruptRecord):
        await walk(shelf).newest_leaf_below(said(ANN))


async def test_a_leaf_that_is_not_there_has_no_way() -> None:
    with capture_logs():
        assert await walk(ShelfTwin(line(ANN, 3))).up_to(MessageId("gone"), 2, 5) == []
