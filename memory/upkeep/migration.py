"""A store is laid out anew: from one placement of users to another, or to other shards.

The old collections stay as they are, and serve, until everything stands in the new ones and was
compared; then one write in the collection of conversations makes the new ones the store, and the
old ones are deleted. That collection says how far it is, so an interrupted migration goes on, or
is undone, whoever runs it again::

    layout: old                                  before
    layout: old      migrating_to: new           copying; servers may read and write
    layout: old>new                              only between shards, whose names are the same:
                                                 the old are deleted, the new get their names
    layout: new      migrated_from: old          the old are deleted
    layout: new                                  done
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

import msgspec
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.errors import UpkeepRefused
from memory.messages import UserId
from memory.placement import Placement
from memory.upkeep.layouts import placement_of, setting_of, temporary_name
from memory.upkeep.migration_copy import MigrationCopy, Shelves
from memory.upkeep.migration_store import Facts, MigrationStore
from memory.upkeep.terminal import Report

GOING: Final = "migrating_to"
LEFT: Final = "migrated_from"
SWAP: Final = ">"
SWEEPS: Final = 5
"""So often what is written meanwhile is caught up with."""

Ending = Literal["done", "copied", "undone", "nothing"]


class Migrated(msgspec.Struct, frozen=True):
    """How a migration ended, how many records there are, and in how many collections."""

    ending: Ending
    records: int = 0
    collections: int = 0


async def at_ease() -> None:
    """Nothing is to be done for an open collection."""


class Migration:
    """Moves the store on *store* to *target*; nobody else migrates it.

    *relieve* is awaited when many collections were opened, which cost Chroma memory each.
    """

    def __init__(
        self,
        store: MigrationStore,
        target: Placement,
        report: Report,
        *,
        relieve: Callable[[], Awaitable[None]] = at_ease,
    ) -> None:
        self._store = store
        self._target = target
        self._report = report
        self._relieve = relieve

    async def run(self, *, switch: bool) -> Migrated:
        """Copy, and then, with *switch*, make the copy the store: nobody may write then.

        To the placement that the store has: undo what another migration began. Cancelled or
        killed anywhere it can be run again.

        Raises:
            StoreError: Chroma did not do it; run it again.
            UpkeepRefused: it cannot be done, or not now; says what to do.
        """
        facts = await self._facts()
        layout, new = str(facts.get("layout")), self._target.layout
        if SWAP in layout:
            old, _, going = layout.partition(SWAP)
            if going != new:
                raise UpkeepRefused(
                    f"a migration to {setting_of(going)} was interrupted while it changed over; "
                    "run that one again first"
                )
            return await self._swap(old)
        if LEFT in facts:
            await self._clean(str(facts[LEFT]))
            facts = await self._facts()
        going = str(facts.get(GOING, ""))
        if going not in {"", new}:
            await self._drop(going)
        if layout == new:
            await self._set(layout=new)
            return Migrated("undone" if going else "nothing")
        await self._set(layout=layout, **{GOING: new})
        return await self._copy(layout, switch=switch)

    async def _copy(self, old: str, *, switch: bool) -> Migrated:
        copy = MigrationCopy(
            self._store, await self._shelves(old), self._report, relieve=self._relieve
        )
        for _ in range(SWEEPS):
            if not await copy.sweep():
                break
        else:
            if switch:
                raise UpkeepRefused(
                    "messages are still being written: stop the servers that use this Chroma, "
                    "and run this again"
                )
        if not switch:
            return Migrated("copied", copy.records, len(copy.targets))
        before = await copy.check()
        collides = _collides(old, self._target)
        layout = f"{old}{SWAP}{self._target.layout}" if collides else self._target.layout
        await self._set(layout=layout, **({} if collides else {LEFT: old}))
        if await copy.count() != before:
            await self._set(layout=old, **{GOING: self._target.layout})
            raise UpkeepRefused(
                "a server wrote while the change was made, so it was taken back: stop the servers "
                "that use this Chroma, and run this again"
            )
        if collides:
            await self._swap(old)
        else:
            await self._clean(old)
        return Migrated("done", copy.records, len(copy.targets))

    async def _swap(self, old: str) -> Migrated:
        """Delete the collections of *old* and give the new ones their names."""
        self._report("changing names", 0.0)
        await self._drop(old)
        shelves = await self._store.shelves(self._target.layout)
        names = {temporary_name(self._target, it.name): it.name for it in self._target.shards}
        for collection in shelves:
            if collection.name in names:
                await self._store.rename(collection, names[collection.name])
        await self._set(layout=self._target.layout)
        records = sum([await self._store.count(it) for it in shelves])
        return Migrated("done", records, len(shelves))

    async def _clean(self, old: str) -> None:
        await self._drop(old)
        facts = await self._facts()
        await self._set(layout=str(facts["layout"]))

    async def _drop(self, layout: str) -> None:
        """Delete all collections of *layout*."""
        shelves = await self._store.shelves(layout)
        for done, collection in enumerate(shelves):
            self._report("removing collections", done / len(shelves))
            await self._store.drop(collection)

    async def _shelves(self, old: str) -> Shelves:
        """From where to where, and what the new collections say of themselves."""
        facts = {
            key: value for key, value in (await self._facts()).items() if key not in {GOING, LEFT}
        }
        collides = _collides(old, self._target)

        async def target(user: UserId) -> AsyncCollection:
            shelf = self._target.shelf(user)
            own: Facts = {} if shelf.owner is None else {"owner": shelf.owner}
            name = temporary_name(self._target, shelf.name) if collides else shelf.name
            return await self._store.make(
                name, {**facts, "kind": "messages", "layout": self._target.layout, **own}
            )

        return Shelves(old, self._target.layout, target)

    async def _facts(self) -> Facts:
        return dict((await self._store.directory()).metadata or {})

    async def _set(self, *, layout: str, **state: str) -> None:
        """Write how far it is, all at once."""
        directory = await self._store.directory()
        facts = {
            key: value
            for key, value in (await self._facts()).items()
            if key not in {"layout", GOING, LEFT}
        }
        await self._store.set_facts(directory, {**facts, "layout": layout, **state})


def _collides(old: str, target: Placement) -> bool:
    """Whether collections of both layouts have the same names: both are shards."""
    source = placement_of(old, target.prefix)
    return not {shelf.name for shelf in source.shards}.isdisjoint(
        shelf.name for shelf in target.shards
    )
