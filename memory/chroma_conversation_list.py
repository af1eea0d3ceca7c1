"""A user's conversations in Chroma, last updated first, read a month at a time.

Whoever has few has them in one request. By the user's id alone all that the user ever said would
be looked through, for the keys of all records stand in one index.
"""

from __future__ import annotations

import time
from typing import Final

from memory.chroma_collections import ChromaCollections, CollectionSpec, Row, Select
from memory.chroma_month_index import MonthIndex
from memory.long_term import ConversationPage
from memory.messages import Conversation, UserId
from memory.paging import conversation_page, month_of_place
from memory.records import (
    FIRST_MONTH,
    LAST_LISTED_MONTH,
    LISTED,
    listed_month,
    month_of,
    stored_conversation,
)

FEW: Final = 100
"""So many conversations are read at once, without asking for months."""


class ConversationList:
    """Reads the list of one user.

    Where the collection does not say that its records are LISTED by month, an earlier version may
    have written some without the key: there all of the user's are read for each page.
    """

    def __init__(self, collections: ChromaCollections, spec: CollectionSpec, user: UserId) -> None:
        self._collections = collections
        self._spec = spec
        self._user = user
        self._months = MonthIndex(collections, spec, user, LISTED)

    async def page(self, limit: int, before: str | None) -> ConversationPage:
        """At most *limit*, after the one that ended the page before.

        Raises:
            NotACursor: *before* is not ours.
        """
        latest = LAST_LISTED_MONTH
        if before is not None:
            latest = listed_month(month_of_place(before))
        if LISTED not in await self._collections.facts(self._spec):
            everything = Select(where=("user_id", [self._user]), include=("metadatas",))
            found = self._read(await self._collections.read_all(self._spec, everything))
            return conversation_page(found, limit=limit, before=before)
        where = self._months.where(FIRST_MONTH, latest)
        few = Select(where=where, include=("metadatas",), limit=FEW)
        found = self._read((await self._collections.read(self._spec, few)).rows)
        if len(found) == FEW and limit > 0:
            return await self._by_months(latest, limit, before)
        return conversation_page(found, limit=limit, before=before)

    async def _by_months(self, latest: int, limit: int, before: str | None) -> ConversationPage:
        found: list[Conversation] = []
        page = ConversationPage((), None)
        present = month_of(time.time()) + 1  # a clock may be ahead
        if latest > present and not await self._months.any(present + 1, latest):
            latest = present
        month = await self._months.last(latest)
        while month is not None:
            select = Select(where=self._months.where(month, month), include=("metadatas",))
            found += self._read(await self._collections.read_all(self._spec, select))
            page = conversation_page(found, limit=limit, before=before)
            if page.before is not None:
                break
            month = await self._months.last(month - 1)
        return page

    def _read(self, rows: list[Row]) -> list[Conversation]:
        return [stored_conversation(self._user, row.id, row.metadata) for row in rows]
