"""A conversation is a tree: ways through it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from memory.messages import Message, MessageId


class Node(NamedTuple):
    """A message's place in its conversation."""

    id: MessageId
    parent: MessageId | None
    depth: int


def way_up(messages: Mapping[MessageId, Message], leaf: MessageId, limit: int) -> list[Message]:
    """At most *limit* messages from *leaf* upwards, *leaf* first; ends where one is unknown."""
    way: list[Message] = []
    current: MessageId | None = leaf
    while current is not None and len(way) < limit:
        message = messages.get(current)
        if message is None:
            break
        way.append(message)
        current = message.parent
    return way


def leaves_below(nodes: Iterable[Node], top: MessageId) -> list[MessageId]:
    """Those below *top* that nothing follows; *top* itself if nothing follows it.

    *nodes* are all that may lie below *top*, in the order of their insertion, which is the
    order of the result. A parent need not come before its children.
    """
    known = list(nodes)
    below = {top}
    inner: set[MessageId] = set()
    for node in sorted(known, key=lambda node: node.depth):
        if node.parent in below:
            below.add(node.id)
            inner.add(node.parent)
    return [node.id for node in known if node.id in below and node.id not in inner] or [top]


def branches_on(
    way: Sequence[Message], messages: Iterable[Message]
) -> dict[MessageId, tuple[MessageId, ...]]:
    """Of each message on *way* that does not stand alone: which ones stand in its place, itself
    included, in the order of *messages*, which hold all that may stand there.
    """
    places: dict[MessageId | None, list[MessageId]] = {said.parent: [] for said in way}
    for message in messages:
        siblings = places.get(message.parent)
        if siblings is not None:
            siblings.append(message.id)
    return {said.id: tuple(here) for said in way if len(here := places[said.parent]) > 1}
