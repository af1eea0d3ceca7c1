"""Walking one conversation's tree in Chroma, a page of depths at a time.

A message's parent stands one depth above it, so the way up from any message crosses known pages
and is read in one request. Where the conversation ends is not known: pages are filled without
gaps (every parent of a stored message is stored), so the last one is found by doubling, then
narrowing, with a handful of requests for a conversation of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from memory.chroma_collections import ChromaCollections, CollectionSpec, Part, Row, Select
from memory.conversation_tree import Node, branches_on, leaves_below, way_up
from memory.long_term import TreePage
from memory.messages import ConversationId, Message, MessageId, UserId
from memory.records import PAGE_DEPTHS, page_key, page_of, stored_message, stored_node

log = structlog.get_logger(__name__)

FIRST_PAGES: Final = 4
"""Most conversations end within these; the first question reads them."""
PAGES_PER_READ: Final = 16
PROBES: Final = 8
DOUBLINGS: Final = 20
"""The first probe reaches 2 ** 20 pages beyond: further than a conversation can grow."""


class ConversationWalk:
    """Reads one conversation of one user; for one question: what it has read, it keeps."""

    def __init__(
        self,
        collections: ChromaCollections,
        spec: CollectionSpec,
        user: UserId,
        conversation: ConversationId,
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._user = user
        self._conversation = conversation
        self._messages: dict[MessageId, Message] = {}
        self._read: set[int] = set()

    async def up_to(self, leaf: MessageId, depth: int, limit: int) -> list[Message]:
        """At most *limit* messages that end with *leaf*, which stands at *depth*; oldest first."""
        wanted = min(limit, depth + 1)
        await self._load(range(page_of(depth - wanted + 1), page_of(depth) + 1))
        way = way_up(self._messages, leaf, wanted)
        if len(way) < wanted:
            log.warning("conversation.parent_missed", found=len(way), wanted=wanted)
        return way[::-1]

    async def latest(self, limit: int) -> list[Message]:
        """At most *limit* messages that end with the newest of the deepest; oldest first."""
        await self._load(range(FIRST_PAGES))
        if not self._messages:
            return []
        if page_of(self._deepest().depth) == FIRST_PAGES - 1:
            last = await self._last_page(FIRST_PAGES - 1)
            await self._load(range(last - page_of(limit - 1) - 1, last + 1))
        leaf = self._deepest()
        return await self.up_to(leaf.id, leaf.depth, limit)

    async def below(self, depth: int) -> TreePage:
        """The messages at *depth* and below it, ``PAGES_PER_READ`` pages at most; each after its
        parent, and in the order of their insertion where they stand at one depth.
        """
        first = page_of(depth)
        await self._load(range(first, first + PAGES_PER_READ))
        found = [message for message in self._messages.values() if message.depth >= depth]
        found.sort(key=lambda message: message.depth)
        last = first + PAGES_PER_READ - 1
        # Pages have no gaps: if the last one is empty, so are all that follow it.
        more = bool(found) and page_of(found[-1].depth) == last
        return TreePage(tuple(found), (last + 1) * PAGE_DEPTHS if more else None)

    async def newest_leaf_below(self, top: Message) -> Node:
        """Of what follows *top* and is followed by nothing, the last that was stored.

        Reads the conversation from *top* on, without its words.
        """
        nodes: list[Node] = []
        page, found = page_of(top.depth), True
        while found:
            pages = range(page, page + PAGES_PER_READ)
            rows = await self._rows(pages, ("metadatas",))
            part = [stored_node(self._user, row.id, row.metadata) for row in rows]
            nodes += part
            found = any(page_of(node.depth) == pages[-1] for node in part)
            page = pages[-1] + 1
        leaves = leaves_below(nodes, top.id)
        if len(leaves) > 1:  # pages of several requests have no common order; ids have
            again = await self._collections.read(self._spec, Select(ids=leaves, include=()))
            leaves = [MessageId(row.id) for row in again.rows]
        places = {node.id: node for node in nodes}
        return places.get(leaves[-1]) or Node(top.id, top.parent, top.depth)

    def branches_on(self, way: Sequence[Message]) -> dict[MessageId, tuple[MessageId, ...]]:
        """What stands in the places of *way*, which was read just now: those of one depth stand on
        one page, so all of them were read with it, and in the order of their insertion.
        """
        return branches_on(way, self._messages.values())

    def _deepest(self) -> Message:
        """The last stored of the deepest; those of one depth were read together, in order."""
        return max(reversed(self._messages.values()), key=lambda message: message.depth)

    async def _last_page(self, known: int) -> int:
        """The last page that is not empty, from *known*, which is not."""
        probes = [known + 2**doubling for doubling in range(DOUBLINGS + 1)]
        low, empty = known, probes[-1] + 1
        while probes:
            rows = await self._rows(probes, ("metadatas",))
            found = {page_of(stored_node(self._user, row.id, row.metadata).depth) for row in rows}
            low = max(found, default=low)
            empty = min((page for page in probes if page > low), default=empty)
            step = max(1, (empty - low) // PROBES)
            probes = list(range(low + step, empty, step))
        return low

    async def _load(self, pages: Sequence[int]) -> None:
        missing = [page for page in pages if page >= 0 and page not in self._read]
        for start in range(0, len(missing), PAGES_PER_READ):
            part = missing[start : start + PAGES_PER_READ]
            for row in await self._rows(part, ("documents", "metadatas")):
                message = stored_message(self._user, row.id, row.document, row.metadata)
                self._messages[message.id] = message
            self._read.update(part)

    async def _rows(self, pages: Sequence[int], include: tuple[Part, ...]) -> list[Row]:
        keys = [page_key(self._user, self._conversation, page) for page in pages]
        return await self._collections.read_all(
            self._spec, Select(where=("page", keys), include=include)
        )
