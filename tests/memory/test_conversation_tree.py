from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from memory.conversation_tree import Node, leaves_below, way_up
from memory.messages import ConversationId, Message, MessageId, UserId


def node(name: int, parent: int | None, depth: int) -> Node:
    return Node(MessageId(f"n{name}"), None if parent is None else MessageId(f"n{parent}"), depth)


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    """Each node but the first follows one of those before it; inserted in any order."""
    nodes = [node(0, None, 0)]
    for name in range(1, draw(st.integers(1, 25))):
        parent = draw(st.integers(0, name - 1))
        nodes.append(node(name, parent, nodes[parent].depth + 1))
    return draw(st.permutations(nodes))


def is_below(nodes: dict[MessageId, Node], name: MessageId, top: MessageId) -> bool:
    current: MessageId | None = name
    while current is not None and current != top:
        current = nodes[current].parent
    return current == top


def message(place: Node) -> Message:
    return Message(
        id=place.id,
        user=UserId("ann"),
        conversation=ConversationId("c"),
        role="user",
        text="hello",
        timestamp=1.0,
        depth=place.depth,
        parent=place.parent,
    )


@given(trees(), st.data())
def test_leaves_are_what_nothing_follows_in_the_order_of_their_insertion(
    nodes: list[Node], data: st.DataObject
) -> None:
    top = data.draw(st.sampled_from(nodes))
    places = {each.id: each for each in nodes}
    parents = {each.parent for each in nodes}
    expected = [
        each.id for each in nodes if each.id not in parents and is_below(places, each.id, top.id)
    ]
    assert leaves_below(nodes, top.id) == expected


@given(trees(), st.data())
def test_what_lies_above_or_beside_does_not_matter(nodes: list[Node], data: st.DataObject) -> None:
    top = data.draw(st.sampled_from(nodes))
    below = [each for each in nodes if each.depth > top.depth]
    assert leaves_below(below, top.id) == leaves_below(nodes, top.id)


def test_what_nothing_follows_is_its_own_leaf() -> None:
    assert leaves_below([], MessageId("alone")) == ["alone"]


@given(trees(), st.integers(0, 30), st.data())
def test_the_way_up_is_the_chain_of_parents(
    nodes: list[Node], limit: int, data: st.DataObject
) -> None:
    messages = {each.id: message(each) for each in nodes}
    leaf = data.draw(st.sampled_from(nodes))
    way = way_up(messages, leaf.id, limit)
    assert len(way) == min(limit, leaf.depth + 1)
    assert [it.id for it in way[:1]] == [leaf.id][:limit]
    for child, parent in itertools.pairwise(way):
        assert child.parent == parent.id
    if limit > leaf.depth:
        assert way[-1].parent is None


def test_the_way_ends_where_a_message_is_unknown() -> None:
    places = [node(0, None, 0), node(1, 0, 1), node(2, 1, 2)]
    messages = {each.id: message(each) for each in places}
    del messages[MessageId("n0")]
    assert [it.id for it in way_up(messages, MessageId("n2"), 9)] == ["n2", "n1"]
    assert way_up(messages, MessageId("n0"), 9) == []
