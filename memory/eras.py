"""Which writes were asked for before their user was forgotten.

A write may wait long after its caller gave up. What a user asked for before being forgotten must
not be stored afterwards: each write is stamped with the user's era when it is asked for, and one
of an era that has ended is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import anyio

from memory.errors import StoreError, UserBeingErased
from memory.messages import UserId

Key = TypeVar("Key")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Stamped(NamedTuple, Generic[Item]):
    """Something to be written for *user*, and the era in which that was asked for."""

    item: Item
    user: UserId
    era: int


class Eras:
    """Counts, for users who were forgotten, how often; knows the writes that are under way."""

    def __init__(self) -> None:
        self._eras: dict[UserId, int] = {}
        self._running: set[anyio.Event] = set()

    def stamped(self, user: UserId, item: Item) -> Stamped[Item]:
        """*item* with *user*'s present era."""
        return Stamped(item, user, self._eras.get(user, 0))

    def end(self, user: UserId) -> None:
        """Let every write of *user* that was stamped so far be refused."""
        self._eras[user] = self._eras.get(user, 0) + 1

    async def settle(self) -> None:
        """Return once the writes that are under way now have ended, however."""
        for running in list(self._running):
            await running.wait()

    def checked(
        self, write: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Outcome | StoreError]]]
    ) -> Callable[[Key, Sequence[Stamped[Item]]], Awaitable[Sequence[Outcome | StoreError]]]:
        """*write* for what is stamped; what is of an ended era gets ``UserBeingErased``."""

        async def write_current(
            key: Key, batch: Sequence[Stamped[Item]]
        ) -> Sequence[Outcome | StoreError]:
            current = [it.era == self._eras.get(it.user, 0) for it in batch]
            items = [it.item for it, asked in zip(batch, current, strict=True) if asked]
            running = anyio.Event()
            self._running.add(running)
            try:
                written = iter(await write(key, items) if items else ())
            finally:
                self._running.discard(running)
                running.set()
            return [next(written) if asked else UserBeingErased() for asked in current]

        return write_current
