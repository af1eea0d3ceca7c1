"""What a migration asks of Chroma: collections by what they are, and records with their vectors."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from chromadb.api.models.AsyncCollection import AsyncCollection
from chromadb.api.types import GetResult, Include
from chromadb.types import Collection as CollectionModel

from memory.chroma_client import ChromaClient, CollectionGone
from memory.chroma_requests import asked, repeated, sent, where
from memory.errors import IndexDamaged, StoreUnavailable, UpkeepRefused
from memory.messages import UserId, Vectors
from memory.placement import Placement, conversations_name
from memory.records import MetadataValue, Record
from memory.upkeep.layouts import is_shelf, placement_of

NAMES_PER_READ: Final = 100
ALL: Final[Include] = ["documents", "metadatas", "embeddings"]

Facts = Mapping[str, str | int]
"""What is written in a collection about itself."""


class Copied(NamedTuple):
    """Records with their vectors, float32, (len(records), dim)."""

    records: list[Record]
    vectors: Vectors


class MigrationStore:
    """The collections on one Chroma whose names begin with *prefix*.

    Everything may be repeated, and is where a connection broke.

    Raises (all methods):
        StoreError: Chroma did not do it.
        UpkeepRefused: vectors cannot be read, because an index is damaged.
    """

    def __init__(self, client: ChromaClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def directory(self) -> CollectionModel:
        """The collection of conversations, which says how the store is laid out.

        Raises:
            UpkeepRefused: there is no store.
        """
        name = conversations_name(self._prefix)
        try:
            return await asked(partial(self._client.get_collection, name))
        except CollectionGone:
            raise UpkeepRefused(
                f"there is nothing to migrate: Chroma has no collection {name}; is "
                "chroma.collection_prefix right?"
            ) from None

    async def shelves(self, layout: str) -> list[AsyncCollection]:
        """The collections of messages that were made for *layout*, by their names."""
        placement = placement_of(layout, self._prefix)
        found: list[CollectionModel] = []
        for offset in itertools.count(0, NAMES_PER_READ):
            page = await asked(partial(self._client.list_collections, NAMES_PER_READ, offset))
            found += [it for it in page if _is_shelf(it, placement)]
            if len(page) < NAMES_PER_READ:
                break
        return [self._opened(model) for model in sorted(found, key=lambda model: model.name)]

    async def make(self, name: str, facts: Facts) -> AsyncCollection:
        """The collection *name*, made if there is none."""
        model = await asked(
            lambda: self._client.create_collection(
                name,
                configuration={"hnsw": {"space": "cosine"}},
                metadata=dict(facts),
                get_or_create=True,
            )
        )
        if dict(model.metadata or {}) != dict(facts):
            raise UpkeepRefused(f"Chroma's collection {name} is in the way: it is not of this kind")
        return self._opened(model)

    async def set_facts(self, model: CollectionModel, facts: Facts) -> None:
        """Let *facts* be what the collection says of itself, all at once."""
        await repeated(partial(self._opened(model).modify, metadata=dict(facts)))

    async def rename(self, collection: AsyncCollection, name: str) -> None:
        await repeated(partial(collection.modify, name=name))

    async def drop(self, collection: AsyncCollection) -> None:
        """Delete the collection with all it holds; one that is gone is no error."""
        try:
            await repeated(partial(self._client.delete_collection, collection.name))
        except CollectionGone:
            return

    async def count(self, collection: AsyncCollection) -> int:
        return await asked(collection.count)

    async def ids(
        self, collection: AsyncCollection, user: UserId, offset: int, limit: int
    ) -> list[str]:
        """The ids of *user*'s records, in the order of insertion."""
        found = await asked(
            lambda: collection.get(
                where=where("user_id", [user]), include=[], limit=limit, offset=offset
            )
        )
        return found["ids"]

    async def owners(self, collection: AsyncCollection, offset: int, limit: int) -> list[UserId]:
        """The owner of each record, in the order of insertion.

        Raises:
            UpkeepRefused: a record has none.
        """
        found = await asked(
            lambda: collection.get(include=["metadatas"], limit=limit, offset=offset)
        )
        owners: list[UserId] = []
        for record_id, metadata in zip(found["ids"], found["metadatas"] or (), strict=True):
            owner = (metadata or {}).get("user_id")
            if not isinstance(owner, str):
                raise UpkeepRefused(
                    f"the record {record_id} names no user: run `python -m memory check`"
                )
            owners.append(UserId(owner))
        return owners

    async def page(
        self, collection: AsyncCollection, user: UserId, offset: int, limit: int
    ) -> Copied:
        """*user*'s records with their vectors, in the order of insertion."""
        among = where("user_id", [user])
        return _copied(
            await _read(
                lambda: collection.get(where=among, include=ALL, limit=limit, offset=offset)
            )
        )

    async def by_ids(self, collection: AsyncCollection, ids: Sequence[str]) -> Copied:
        """Those of *ids*, not many, that are there, with their vectors."""
        return _copied(await _read(lambda: collection.get(ids=list(ids), include=ALL)))

    async def words(self, collection: AsyncCollection, offset: int, limit: int) -> list[Record]:
        """Records without their vectors, in the order of insertion."""
        found = await asked(
            lambda: collection.get(include=["documents", "metadatas"], limit=limit, offset=offset)
        )
        return _records(found)

    async def known(self, collection: AsyncCollection, ids: Sequence[str]) -> set[str]:
        """Those of *ids*, not many, that are there."""
        found = await asked(lambda: collection.get(ids=list(ids), include=[]))
        return set(found["ids"])

    async def add(self, collection: AsyncCollection, new: Copied) -> None:
        """Store what is not there."""
        await repeated(partial(sent, collection.add, new.records, list(new.vectors)))

    async def mend(self, collection: AsyncCollection, right: Copied, wrong: Copied) -> None:
        """Make the records *wrong* what they are in *right*; they keep their places."""
        metadatas: list[dict[str, MetadataValue | None]] = [
            {**dict.fromkeys(before.metadata), **record.metadata}
            for record, before in zip(right.records, wrong.records, strict=True)
        ]
        await repeated(
            lambda: collection.update(
                ids=[record.id for record in right.records],
                documents=[record.document for record in right.records],
                metadatas=metadatas,  # type: ignore[arg-type]  # None: the key is removed
                embeddings=right.vectors,
            )
        )

    async def delete(self, collection: AsyncCollection, ids: Sequence[str]) -> None:
        """Delete those of *ids*, not many, that are there."""

        async def delete() -> None:
            await collection.delete(ids=list(ids))

        await repeated(delete)

    def _opened(self, model: CollectionModel) -> AsyncCollection:
        # embedding_function=None: no model is loaded, and none that Chroma names is trusted.
        return AsyncCollection(self._client, model, embedding_function=None)


def _is_shelf(model: CollectionModel, placement: Placement) -> bool:
    facts = model.metadata or {}
    owner = facts.get("owner")
    if facts.get("kind") != "messages" or facts.get("layout") != placement.layout:
        return False
    return is_shelf(placement, model.name, None if owner is None else str(owner))


async def _read(get: Callable[[], Awaitable[GetResult]]) -> GetResult:
    try:
        return await asked(get)
    except StoreUnavailable as error:
        if isinstance(error.__cause__, IndexDamaged):
            raise UpkeepRefused(
                "an index of vectors is damaged: run `python -m memory heal`, then this again"
            ) from error
        raise


def _copied(found: GetResult) -> Copied:
    return Copied(_records(found), np.asarray(found["embeddings"], dtype=np.float32))


def _records(found: GetResult) -> list[Record]:
    return [
        Record(record_id, document or "", dict(metadata or {}))  # type: ignore[arg-type]  # ours
        for record_id, document, metadata in zip(
            found["ids"], found["documents"] or (), found["metadatas"] or (), strict=True
        )
    ]
