"""Copying all messages from the collections of one layout to those of another, user by user."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple

import msgspec
import numpy as np
from chromadb.api.models.AsyncCollection import AsyncCollection

from memory.errors import UpkeepRefused
from memory.messages import UserId
from memory.records import Record
from memory.upkeep.migration_store import Copied, MigrationStore
from memory.upkeep.terminal import Report

RECORDS_PER_BATCH: Final = 200
WORDS_PER_READ: Final = 1_000
MOST_OPEN: Final = 256
"""Collections opened before Chroma is relieved of them: each costs it 2.6 MB."""
TOLERANCE: Final = 1e-5
"""Chroma gives vectors back in unit length, whose last digits may differ."""
DIGESTS: Final = 2**256


class Shelves(NamedTuple):
    """The layouts *old* and *new*, and the new collection of a user, made when it is asked for."""

    old: str
    new: str
    target: Callable[[UserId], Awaitable[AsyncCollection]]


class Total(NamedTuple):
    """How many records there are, and a digest of all of them, whatever their order."""

    records: int
    digest: int


class MigrationCopy:
    """Brings the new collections to hold what the old ones hold: words, metadata and vectors.

    In memory are one batch, the ids of one batch, and the names of all users.
    """

    def __init__(
        self,
        store: MigrationStore,
        shelves: Shelves,
        report: Report,
        *,
        relieve: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._shelves = shelves
        self._report = report
        self._relieve = relieve
        self._opened: set[str] = set()
        self._sweeps = 0
        self._done = 0
        self.records = 0
        self.targets: set[str] = set()
        """The names of the new collections."""

    async def sweep(self) -> int:
        """Go over all users and mend what differs; how many records did.

        0 means that each record of the old collections stands in the new ones as it is, and
        nothing else does; what was written during the sweep may be missing.
        """
        self._sweeps += 1
        self._done = 0
        self.records = await self.count()
        owners = await self._owners(self._shelves.old)
        changed = 0
        for user, source in owners.items():
            changed += await self._settle(user, source)
        for user, target in (await self._owners(self._shelves.new)).items():
            if user not in owners:
                changed += await self._remove_strangers(user, None, target)
        return changed

    async def check(self) -> int:
        """See by counts and digests that old and new hold the same; the number of records.

        Raises:
            UpkeepRefused: they do not.
        """
        old = await self._total(self._shelves.old, "comparing: the old collections")
        new = await self._total(self._shelves.new, "comparing: the new collections")
        if old != new:
            raise UpkeepRefused(
                f"the old collections hold {old.records:,} records and the new ones "
                f"{new.records:,}, or they differ: nothing was changed over. Stop the servers that "
                "use this Chroma, and run this again"
            )
        return old.records

    async def count(self) -> int:
        """The number of records in the old collections."""
        return sum([await self._store.count(it) async for it in self._each(self._shelves.old)])

    async def _settle(self, user: UserId, source: AsyncCollection) -> int:
        target = await self._shelves.target(user)
        self.targets.add(target.name)
        await self._open(source, target)
        changed = offset = 0
        while True:
            page = await self._store.page(source, user, offset, RECORDS_PER_BATCH)
            if not page.records:
                break
            changed += await self._mend(page, target)
            offset += len(page.records)
            self._done += len(page.records)
            self._tell()
        return changed + await self._remove_strangers(user, source, target)

    async def _mend(self, page: Copied, target: AsyncCollection) -> int:
        """Make *target* hold the records of *page* as they are; how many it did not."""
        found = await self._store.by_ids(target, [record.id for record in page.records])
        places = {record.id: place for place, record in enumerate(found.records)}
        missing = [place for place, record in enumerate(page.records) if record.id not in places]
        wrong = [
            place
            for place, record in enumerate(page.records)
            if record.id in places and _differs(page, place, found, places[record.id])
        ]
        if missing:
            await self._store.add(target, _those(page, missing))
        if wrong:
            standing = [places[page.records[place].id] for place in wrong]
            await self._store.mend(target, _those(page, wrong), _those(found, standing))
        return len(missing) + len(wrong)

    async def _remove_strangers(
        self, user: UserId, source: AsyncCollection | None, target: AsyncCollection
    ) -> int:
        """Delete *user*'s records in *target* that are not, or no longer, in *source*."""
        removed = offset = 0
        while True:
            ids = await self._store.ids(target, user, offset, WORDS_PER_READ)
            if not ids:
                return removed
            known = set() if source is None else await self._store.known(source, ids)
            strangers = [record_id for record_id in ids if record_id not in known]
            if strangers:
                await self._store.delete(target, strangers)
            removed += len(strangers)
            offset += len(ids) - len(strangers)

    async def _owners(self, layout: str) -> dict[UserId, AsyncCollection]:
        """All users of *layout*, and where each one's messages are."""
        owners: dict[UserId, AsyncCollection] = {}
        async for collection in self._each(layout):
            owner = (collection.metadata or {}).get("owner")
            if owner is not None:
                owners[UserId(str(owner))] = collection
                continue
            offset = 0
            while found := await self._store.owners(collection, offset, WORDS_PER_READ):
                owners |= dict.fromkeys(found, collection)
                offset += len(found)
        return owners

    async def _total(self, layout: str, step: str) -> Total:
        records = digest = 0
        async for collection in self._each(layout):
            offset = 0
            while found := await self._store.words(collection, offset, WORDS_PER_READ):
                digest = (digest + sum(map(_digest, found))) % DIGESTS
                offset += len(found)
                records += len(found)
                self._report(step, min(1.0, records / max(1, self.records)))
        return Total(records, digest)

    async def _each(self, layout: str) -> AsyncIterator[AsyncCollection]:
        """The collections of *layout*, each open while it is looked at."""
        for collection in await self._store.shelves(layout):
            await self._open(collection)
            yield collection

    async def _open(self, *collections: AsyncCollection) -> None:
        self._opened |= {collection.name for collection in collections}
        if len(self._opened) > MOST_OPEN:
            await self._relieve()
            self._opened = {collection.name for collection in collections}

    def _tell(self) -> None:
        step = (
            "copying" if self._sweeps == 1 else f"comparing with what was copied ({self._sweeps})"
        )
        self._report(step, min(1.0, self._done / max(1, self.records)))


def _differs(page: Copied, place: int, found: Copied, other: int) -> bool:
    return page.records[place] != found.records[other] or not np.allclose(
        page.vectors[place], found.vectors[other], atol=TOLERANCE
    )


def _those(copied: Copied, places: list[int]) -> Copied:
    return Copied([copied.records[place] for place in places], copied.vectors[places])


def _digest(record: Record) -> int:
    content = msgspec.json.encode(record, order="sorted")
    return int.from_bytes(hashlib.sha256(content).digest())
