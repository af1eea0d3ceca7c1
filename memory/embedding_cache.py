"""Vectors of what was asked lately: equal texts are embedded once, also while it goes on."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import anyio

from memory.embedding import Embedded
from memory.messages import UserId

LIFE_S: Final = 1_800.0
MOST_BYTES: Final = 8_000_000
_ENTRY_BYTES: Final = 800

Embed = Callable[[Sequence[str]], Awaitable[list[Embedded]]]
"""Embeds texts in their order; vectors of zeros where there are none."""


class _Key(NamedTuple):
    user: UserId
    text: str


class _Kept(NamedTuple):
    embedded: Embedded
    ends_at: float
    size_bytes: int


class _Flight:
    """Texts that are being embedded for one caller, while others wait for the same."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.found: dict[_Key, Embedded] = {}


class EmbeddingCache:
    """What the embedder says of users' texts, for ``LIFE_S``, about *most_bytes* in all.

    A text without a vector is not kept: it is tried again. Nobody owns what is in flight but the
    caller that began it; when that one is cancelled, one of those who wait begins anew.
    """

    def __init__(
        self,
        embed: Embed,
        *,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embed = embed
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._flights: dict[_Key, _Flight] = {}
        self.size_bytes = 0

    async def get(self, user: UserId, texts: Sequence[str]) -> list[Embedded]:
        """What the embedder says of *user*'s *texts*, in their order, in one call at most for
        all that nobody else is asking for.
        """
        keys = [_Key(user, text) for text in texts]
        found: dict[_Key, Embedded] = {}
        while missing := [key for key in dict.fromkeys(keys) if key not in found]:
            for key in missing:
                kept = self._still_good(key)
                if kept is not None:
                    found[key] = kept
            await self._seek([key for key in missing if key not in found], found)
        return [found[key] for key in keys]

    def forget(self, user: UserId) -> None:
        """Drop all of *user*; what is in flight is not kept either."""
        for key in [key for key in self._kept if key.user == user]:
            self._drop(key)
        for key in [key for key in self._flights if key.user == user]:
            del self._flights[key]

    async def _seek(self, missing: list[_Key], found: dict[_Key, Embedded]) -> None:
        """Put into *found* what this caller embeds, or what others have meanwhile."""
        own = [key for key in missing if key not in self._flights]
        waits = {id(flight): flight for key in missing if (flight := self._flights.get(key))}
        if own:
            found |= await self._fly(own)
        for flight in waits.values():
            await flight.over.wait()
            found |= {key: flight.found[key] for key in missing if key in flight.found}

    async def _fly(self, keys: list[_Key]) -> dict[_Key, Embedded]:
        flight = _Flight()
        self._flights |= dict.fromkeys(keys, flight)
        try:
            embedded = await self._embed([key.text for key in keys])
            flight.found = dict(zip(keys, embedded, strict=True))
        finally:
            for key in keys:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    self._keep(key, flight.found.get(key))
            flight.over.set()
        return flight.found

    def _still_good(self, key: _Key) -> Embedded | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._clock() >= kept.ends_at:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.embedded

    def _keep(self, key: _Key, embedded: Embedded | None) -> None:
        if embedded is None or not embedded.vector.any():
            return
        marks = embedded.marks
        held = embedded.vector.nbytes + marks.ids.nbytes + marks.bits.nbytes
        size_bytes = _ENTRY_BYTES + held + 2 * len(key.text)
        if size_bytes > self._most_bytes:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = _Kept(embedded, self._clock() + LIFE_S, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        self.size_bytes -= self._kept.pop(key).size_bytes
