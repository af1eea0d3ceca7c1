"""Answers of recall, kept for whoever asks the same again: never older than a search would be."""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple, Protocol

import anyio
import msgspec

from memory.messages import MessageId, UserId
from memory.recalled import Recall, Recalled

LIFE_S: Final = 600.0
MOST_BYTES: Final = 8_000_000
MARGIN: Final = 16
"""So many more than asked for are searched, so that the same answer serves where the window holds
some of it."""
_ENTRY_BYTES: Final = 600
_ITEM_BYTES: Final = 500


Find = Callable[[int], Awaitable[Recall]]
"""The best of all of the user's memories, as many as it is told."""


class Sought(NamedTuple):
    """What was searched for. ``embedded``: with a vector; ``day``: since the epoch, for "last
    week" means something else tomorrow.
    """

    user: UserId
    text: str
    embedded: bool
    day: int


class Searched(Protocol):
    """What is needed of ``memory.hot_memory.HotMemory``.

    ``changes`` grows with every change of what a search could find; ``complete`` says whether
    all is there.
    """

    @property
    def changes(self) -> int: ...

    @property
    def complete(self) -> bool: ...


class _State:
    """A state of a user's memories: equal to another as long as nothing has changed."""

    def __init__(self, memories: Searched) -> None:
        self._memories = weakref.ref(memories)
        self._changes = memories.changes
        self._complete = memories.complete

    def still_is(self, memories: Searched) -> bool:
        return (
            self._memories() is memories
            and self._changes == memories.changes
            and self._complete == memories.complete
        )


class _Kept(NamedTuple):
    state: _State
    items: tuple[Recalled, ...]
    partial: bool
    depth: int
    ends_at: float
    size_bytes: int


class _Flight:
    """A search that goes on: one caller's own, while others wait for it."""

    def __init__(self, state: _State, depth: int) -> None:
        self.state = state
        self.depth = depth
        self.over = anyio.Event()
        self.found: Recall | None = None


class RecallCache:
    """Answers by what was searched for, for ``LIFE_S``, about *most_bytes* of them in all.

    An answer is given again only while the very memories that it was found in are unchanged:
    whatever commits, forgets, fills in or reads anew makes the next search a real one. The least
    recently used give way.
    """

    def __init__(
        self, *, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[Sought, _Kept] = OrderedDict()
        self._flights: dict[Sought, _Flight] = {}
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0

    async def search(
        self,
        sought: Sought,
        memories: Searched,
        find: Find,
        *,
        limit: int,
        exclude: AbstractSet[MessageId] = frozenset(),
    ) -> Recall:
        """The *limit* best of *memories* without *exclude*: kept ones, or what *find* finds.

        *find* gives the best of all, as many as it is told. Whoever asks the same meanwhile waits
        for the one search; when its caller is cancelled, one of those who wait begins anew.
        """
        started = time.perf_counter()
        depth = limit + len(exclude) + MARGIN
        while True:
            kept = self._still_good(sought, memories)
            if kept is not None and (items := _enough(kept, exclude, limit)) is not None:
                self.hits += 1
                took_ms = (time.perf_counter() - started) * 1000
                return Recall(items=items, took_ms=took_ms, partial=kept.partial)
            flight = self._flights.get(sought)
            if flight is None or flight.depth < depth or not flight.state.still_is(memories):
                found = await self._fly(sought, _Flight(_State(memories), depth), memories, find)
                break
            await flight.over.wait()
            if flight.found is not None:
                self.hits += 1
                found = flight.found
                break
        return msgspec.structs.replace(found, items=_without(found.items, exclude, limit))

    def forget(self, user: UserId) -> None:
        """Drop all that was found for *user*; what is in flight is not kept either."""
        for sought in [sought for sought in self._flights if sought.user == user]:
            del self._flights[sought]
        for sought in [sought for sought in self._kept if sought.user == user]:
            self._drop(sought)

    async def _fly(self, sought: Sought, flight: _Flight, memories: Searched, find: Find) -> Recall:
        """Search for all who ask the same meanwhile; kept if nothing has changed at the end."""
        self.misses += 1
        self._flights[sought] = flight
        try:
            flight.found = await find(flight.depth)
        finally:
            if self._flights.get(sought) is flight:
                del self._flights[sought]
                if flight.found is not None and flight.state.still_is(memories):
                    self._keep(sought, flight.state, flight.found, flight.depth)
            flight.over.set()
        return flight.found

    def _still_good(self, sought: Sought, memories: Searched) -> _Kept | None:
        kept = self._kept.get(sought)
        if kept is None:
            return None
        if self._clock() >= kept.ends_at or not kept.state.still_is(memories):
            self._drop(sought)
            return None
        self._kept.move_to_end(sought)
        return kept

    def _keep(self, sought: Sought, state: _State, found: Recall, depth: int) -> None:
        if sought in self._kept:
            self._drop(sought)
        texts_bytes = sum(len(item.text) for item in found.items) + len(sought.text)
        size_bytes = _ENTRY_BYTES + _ITEM_BYTES * len(found.items) + 2 * texts_bytes
        if size_bytes > self._most_bytes:
            return
        ends_at = self._clock() + LIFE_S
        self._kept[sought] = _Kept(state, found.items, found.partial, depth, ends_at, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, sought: Sought) -> None:
        self.size_bytes -= self._kept.pop(sought).size_bytes


def _enough(
    kept: _Kept, exclude: AbstractSet[MessageId], limit: int
) -> tuple[Recalled, ...] | None:
    """What *kept* has for this caller; ``None`` when a deeper search would find more."""
    items = _without(kept.items, exclude, limit)
    return items if len(items) >= limit or len(kept.items) < kept.depth else None


def _without(
    items: tuple[Recalled, ...], exclude: AbstractSet[MessageId], limit: int
) -> tuple[Recalled, ...]:
    return tuple(item for item in items if item.id not in exclude)[:limit]
