"""Finding the months in which a user has records, by a key that names user and month."""

from __future__ import annotations

from typing import Final

from memory.chroma_collections import ChromaCollections, CollectionSpec, Select
from memory.messages import UserId
from memory.records import FIRST_MONTH, month_key

FIRST_SPAN: Final = 2
SPAN_GROWTH: Final = 8


class MonthIndex:
    """Looks in one collection for records that have one user's months under *key*."""

    def __init__(
        self, collections: ChromaCollections, spec: CollectionSpec, user: UserId, key: str
    ) -> None:
        self._collections = collections
        self._spec = spec
        self._user = user
        self._key = key

    def where(self, earliest: int, latest: int) -> tuple[str, list[str]]:
        """The records of these months, both included, as :class:`Select` wants them."""
        months = range(earliest, latest + 1)
        return self._key, [month_key(self._user, month) for month in months]

    async def last(self, latest: int) -> int | None:
        """The last month up to *latest* that has any.

        Longer and longer spans are asked for anything at all, then the span is halved: the end
        of somebody's history costs four requests, and no date of a first message is needed,
        which an import could lower.
        """
        span = FIRST_SPAN
        while latest >= FIRST_MONTH:
            earliest = max(FIRST_MONTH, latest - span + 1)
            if await self.any(earliest, latest):
                while earliest < latest:
                    middle = (earliest + latest + 1) // 2
                    if await self.any(middle, latest):
                        earliest = middle
                    else:
                        latest = middle - 1
                return latest
            latest, span = earliest - 1, span * SPAN_GROWTH
        return None

    async def any(self, earliest: int, latest: int) -> bool:
        """Whether there are records in these months, both included."""
        select = Select(where=self.where(earliest, latest), include=(), limit=1)
        return bool((await self._collections.read(self._spec, select)).rows)
