"""The collections of a Chroma server: opened, checked, read and written."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import structlog
from chromadb.api.models.AsyncCollection import AsyncCollection
from chromadb.types import Collection as CollectionModel

from memory.chroma_client import ChromaClient, CollectionGone
from memory.chroma_requests import Update, asked, repeated, sent, where
from memory.errors import IndexDamaged, StoreUnavailable
from memory.messages import Vector, Vectors
from memory.records import LISTED, Record, is_unembedded
from memory.sync_threshold import LEAST

log = structlog.get_logger(__name__)

SCHEMA_VERSION: Final = 1
MAX_OPEN: Final = 10_000
ROWS_PER_READ: Final = 1_000
"""Far below 32,766, above which a read fails, and few enough not to hold up the event loop."""
NAMES_PER_READ: Final = 100
MAX_COUNTED: Final = 100
"""Counting opens a collection's index, 2.6 MB each: not for thousands of users' own."""

Part = Literal["documents", "metadatas", "embeddings"]
_Answer = TypeVar("_Answer")


class CollectionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A collection and what must be true of it.

    ``layout``: how users are placed. ``fingerprint`` and ``dimension``: what makes its vectors.
    ``owner``: the one user whose it is, if it is one user's.
    """

    name: str
    kind: Literal["messages", "conversations"]
    layout: str
    fingerprint: str
    dimension: int
    owner: str | None = None

    def metadata(self) -> dict[str, str | int]:
        """What is written into the collection when it is made, and compared from then on."""
        facts: dict[str, str | int] = {
            "tandem_schema": SCHEMA_VERSION,
            "kind": self.kind,
            "layout": self.layout,
            "embedding": self.fingerprint,
            "dimension": self.dimension,
        }
        return facts if self.owner is None else facts | {"owner": self.owner}

    def customs(self) -> dict[str, str | int]:
        """What else is written when it is made: how its records are kept, which older ones lack."""
        return {LISTED: "month"} if self.kind == "conversations" else {}


class Select(msgspec.Struct, frozen=True, kw_only=True):
    """Which records of a collection, and what of them, in the order of their insertion.

    ``where`` is a key and the values it may have: a look-up in an index, unlike any range.
    """

    ids: Sequence[str] | None = None
    where: tuple[str, Sequence[str]] | None = None
    include: tuple[Part, ...] = ("documents", "metadatas")
    limit: int | None = None
    offset: int = 0


class Row(NamedTuple):
    """One record as it was read, nothing of it checked; ``None`` for what was not included."""

    id: str
    document: object
    metadata: Mapping[str, object] | None


class Rows(NamedTuple):
    """What was read; ``vectors``: float32, (n, dim), no rows where they were not included, zeros
    where a record has none.
    """

    rows: list[Row]
    vectors: Vectors


class ChromaCollections:
    """Reads and writes collections by their specification.

    A collection that is gone is opened again, once. Reading one that does not exist finds
    nothing and does not make it. *first* is opened before any other: it exists wherever
    anything does, so that no user can be looked for in a layout that is not the store's.
    *incomplete* says of a collection's name whether vectors are missing in its index.

    Raises (all methods):
        StoreUnavailable: Chroma is away, or what it holds was laid out or embedded otherwise.
    """

    def __init__(
        self,
        client: ChromaClient,
        *,
        first: CollectionSpec,
        incomplete: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self._client = client
        self._first = first
        self._incomplete = incomplete
        self._open: OrderedDict[str, AsyncCollection] = OrderedDict()

    async def read(self, spec: CollectionSpec, select: Select) -> Rows:
        """What *select* says, in one request.

        A vector is zeros where the record is marked as unembedded, and while the index of the
        collection is incomplete or cannot be read: the words are there all the same.
        """
        if "embeddings" not in select.include:
            return await self._read(spec, select)
        if not self._incomplete(spec.name):
            include: tuple[Part, ...] = ("documents", "metadatas", "embeddings")
            try:
                found = await self._read(spec, msgspec.structs.replace(select, include=include))
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, IndexDamaged):
                    raise
                log.warning("vectors.not_read", reason=str(error))
            else:
                found.vectors[[is_unembedded(row.metadata) for row in found.rows]] = 0
                return found
        words = msgspec.structs.replace(select, include=("documents", "metadatas"))
        rows = (await self._read(spec, words)).rows
        return Rows(rows, np.zeros((len(rows), spec.dimension), dtype=np.float32))

    async def _read(self, spec: CollectionSpec, select: Select) -> Rows:
        nothing = Rows([], np.empty((0, spec.dimension), dtype=np.float32))
        if select.limit == 0 or (select.ids is not None and not select.ids):
            return nothing

        async def get(collection: AsyncCollection) -> Rows:
            found = await asked(
                lambda: collection.get(
                    ids=None if select.ids is None else list(select.ids),
                    where=where(*select.where) if select.where else None,
                    limit=select.limit,
                    offset=select.offset,
                    include=list(select.include),
                )
            )
            blank = [None] * len(found["ids"])
            parts = zip(
                found["ids"], found["documents"] or blank, found["metadatas"] or blank, strict=True
            )
            vectors = nothing.vectors
            if "embeddings" in select.include and found["ids"]:
                vectors = np.asarray(found["embeddings"], dtype=np.float32)
            return Rows([Row(*part) for part in parts], vectors)

        return await self._with(spec, get, make=False) or nothing

    async def read_all(self, spec: CollectionSpec, select: Select) -> list[Row]:
        """What *select* says without its limit and offset, in as many requests as it takes."""
        found: list[Row] = []
        while True:
            part = msgspec.structs.replace(select, limit=ROWS_PER_READ, offset=len(found))
            rows = (await self.read(spec, part)).rows
            found += rows
            if len(rows) < ROWS_PER_READ:
                return found

    async def facts(self, spec: CollectionSpec) -> Mapping[str, object]:
        """What is written into the collection; nothing if there is none."""
        collection = await self._opened(spec, make=False)
        return (collection.metadata or {}) if collection is not None else {}

    async def usage(self, prefix: str) -> dict[str, int]:
        """``collections`` whose names begin with *prefix*, and the ``records`` of messages in
        them, where they are few enough to be counted.
        """
        models: list[CollectionModel] = []
        for offset in itertools.count(0, NAMES_PER_READ):
            page = await asked(partial(self._client.list_collections, NAMES_PER_READ, offset))
            models += page
            if len(page) < NAMES_PER_READ:
                break
        own = [model for model in models if model.name.startswith(prefix)]
        if len(own) > MAX_COUNTED:
            return {"collections": len(own)}
        records = 0
        for model in own:
            if (model.metadata or {}).get("kind") == "messages":
                collection = AsyncCollection(self._client, model, embedding_function=None)
                records += await asked(collection.count)
        return {"collections": len(own), "records": records}

    async def add(
        self, spec: CollectionSpec, records: Sequence[Record], vectors: Sequence[Vector]
    ) -> None:
        """Store *records*, whose ids are distinct; one that stands already is left as it is.

        Raises:
            StoreRefused: Chroma will not have them; nothing was written.
            StoreUnknown: they may have been written.
        """
        await self._with(spec, lambda it: sent(it.add, records, vectors), make=True)

    async def upsert(
        self, spec: CollectionSpec, records: Sequence[Record], vectors: Sequence[Vector]
    ) -> None:
        """Store *records*, each in the place of what stood under its id; raises as ``add``."""
        await self._with(
            spec, lambda it: repeated(partial(sent, it.upsert, records, vectors)), make=True
        )

    async def update(
        self, spec: CollectionSpec, change: Callable[[Update], Awaitable[None]]
    ) -> None:
        """Let *change* update records, which may be done twice; those that are gone stay gone.

        Raises:
            StoreUnknown: it may have been done.
        """
        await self._with(spec, lambda it: repeated(partial(change, it.update)), make=False)

    async def _with(
        self,
        spec: CollectionSpec,
        use: Callable[[AsyncCollection], Awaitable[_Answer]],
        *,
        make: bool,
    ) -> _Answer | None:
        """*use* of the open collection; ``None`` if there is none and it was not to be made."""
        collection = await self._opened(spec, make=make)
        if collection is None:
            return None
        try:
            return await use(collection)
        except CollectionGone:
            log.warning("collection.lost", kind=spec.kind)
            self._open.clear()  # another folder, or a reset: no handle is worth anything
            collection = await self._opened(spec, make=make)
            return None if collection is None else await use(collection)

    async def _opened(self, spec: CollectionSpec, *, make: bool) -> AsyncCollection | None:
        known = self._open.get(spec.name)
        if known is not None:
            self._open.move_to_end(spec.name)
            return known
        if spec != self._first and await self._opened(self._first, make=make) is None:
            return None
        try:
            model = await asked(lambda: self._client.get_collection(spec.name))
        except CollectionGone:
            if not make:
                return None
            model = await asked(
                lambda: self._client.create_collection(
                    spec.name,
                    configuration={"hnsw": {"space": "cosine", "sync_threshold": LEAST}},
                    metadata=spec.metadata() | spec.customs(),
                    get_or_create=True,  # another worker may have been faster
                )
            )
        _check(spec, model.metadata or {})
        # embedding_function=None: no model is loaded, and none that Chroma names is trusted.
        collection = AsyncCollection(self._client, model, embedding_function=None)
        self._open[spec.name] = collection
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return collection


def _check(spec: CollectionSpec, found: Mapping[str, object]) -> None:
    wanted = spec.metadata()
    wrong = [name for name, value in wanted.items() if found.get(name) != value]
    if not wrong:
        return
    if "owner" in wrong:
        raise StoreUnavailable("a user's collection in Chroma is marked as another's")
    facts = ", ".join(f"{name} is {found.get(name)!r}, not {wanted[name]!r}" for name in wrong)
    raise StoreUnavailable(
        f"Chroma's collection of {spec.kind} was made otherwise than configured: {facts}. "
        "Vectors and layouts are never mixed: set the configuration back, or lay the store out "
        "anew (python -m memory migrate)."
    )
