"""Stores under prefixes of their own on one Chroma, and a way to cut a migration off."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from overrides import override

from memory.chroma_client import Address, ChromaClient
from memory.errors import StoreUnavailable
from memory.messages import Message, UserId
from memory.placement import PerUser, Placement, Sharded
from memory.upkeep.layouts import placement_of
from memory.upkeep.migration import SWAP, Migrated, Migration
from memory.upkeep.migration_store import MigrationStore
from tests.memory.chroma_world import opened
from tests.memory.upkeep.store_world import USERS, everything, fill, ignore

LAYOUTS = ("sharded/1", "sharded/3", "per_user")
_numbers = itertools.count()

WRITES = re.compile(r"/(add|update|delete|collections)$")


class Cut(StoreUnavailable):
    """The migration was cut off here."""


class CutClient(ChromaClient):
    """Fails, like a process that was killed, once it has written *after* times; ``None``: never.

    Between two writes nothing changes that would outlast a process, so these are all the places
    where a migration can be cut off.
    """

    def __init__(self, address: Address, after: int | None = None) -> None:
        super().__init__(address, timeout_s=20)
        self.writes = 0
        self._after = after

    @override
    async def _make_request(self, method: str, path: str, **kwargs: Any) -> Any:
        if self._after is not None and self.writes >= self._after:
            raise Cut
        answer = await super()._make_request(method, path, **kwargs)
        if method in {"put", "delete"} or (method == "post" and WRITES.search(path)):
            self.writes += 1
        return answer


class Store:
    """One store, and what it has to hold."""

    def __init__(self, url: str, layout: str) -> None:
        self.url = url
        self.prefix = f"t{next(_numbers)}_"
        self.placement = placement_of(layout, self.prefix)
        self.stored: dict[UserId, list[Message]] = {}

    async def fill(self, users: Sequence[UserId] = USERS, *, each: int = 3) -> None:
        async with opened(self.url, self.placement) as memory:
            self.stored |= await fill(memory, users, each=each)

    def to(self, layout: str) -> Placement:
        return placement_of(layout, self.prefix)

    async def migrate(
        self, layout: str, *, after: int | None = None, switch: bool = True
    ) -> tuple[Migrated | None, int]:
        """How it ended, ``None`` if it was cut off, and how often it wrote."""
        client = CutClient(self.url, after)
        migration = Migration(MigrationStore(client, self.prefix), self.to(layout), ignore)
        try:
            return await migration.run(switch=switch), client.writes
        except Cut:
            return None, client.writes
        finally:
            await client.aclose()

    async def layout(self) -> str:
        client = ChromaClient(self.url, timeout_s=20)
        try:
            model = await MigrationStore(client, self.prefix).directory()
        finally:
            await client.aclose()
        return str((model.metadata or {})["layout"])

    async def collections(self) -> dict[str, dict[str, Any]]:
        """All of the store's collections, with what they say of themselves."""
        client = ChromaClient(self.url, timeout_s=20)
        try:
            found = await client.list_collections(1_000, 0)
        finally:
            await client.aclose()
        return {
            model.name: dict(model.metadata or {})
            for model in found
            if model.name.startswith(self.prefix)
        }

    async def read(self, layout: str) -> dict[UserId, list[Message]]:
        """What a server with that placement finds."""
        refused: StoreUnavailable | None = None
        async with opened(self.url, self.to(layout)) as memory:
            try:
                found = await everything(memory, list(self.stored))
            except StoreUnavailable as error:
                refused = error
        if refused is not None:
            raise refused
        return found

    async def drop(self) -> None:
        """Chroma is relieved of the store: an open collection costs it memory."""
        client = ChromaClient(self.url, timeout_s=20)
        for name in await self.collections():
            await client.delete_collection(name)
        await client.aclose()

    async def is_whole(self) -> bool:
        """Whether whoever may serve the store finds everything; nobody may in a change of names."""
        layout = await self.layout()
        return SWAP in layout or await self.read(layout) == self.stored


def is_laid_out(placement: Placement, names: Sequence[str]) -> bool:
    """Whether *names* are a store's collections and nothing else."""
    if isinstance(placement, PerUser):
        shelves = [placement.shelf(user).name for user in USERS]
    else:
        assert isinstance(placement, Sharded)
        shelves = [shelf.name for shelf in placement.shards]
    own = set(names) - {placement.conversations}
    return placement.conversations in names and bool(own) and own <= set(shelves)
