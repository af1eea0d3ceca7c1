"""Collections in RAM: what the walks over conversations and months read, without a Chroma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import anyio.lowlevel
import numpy as np

from memory.chroma_collections import ChromaCollections, CollectionSpec, Row, Rows, Select
from memory.messages import Message
from memory.records import Record, message_record
from tests.contracts.long_term_world import DIMENSION, vector_of

SPEC = CollectionSpec(
    name="user_00", kind="messages", layout="sharded/1", fingerprint="test", dimension=DIMENSION
)


class ShelfTwin:
    """One collection; ``reads`` counts the requests it would have taken, ``rows`` what they read
    with its metadata.
    """

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self.records: list[tuple[Record, Message]] = []
        self.reads = 0
        self.rows = 0
        for message in messages:
            self.add(message)

    def add(self, message: Message) -> None:
        self.records.append((message_record(message), message))

    @property
    def collections(self) -> ChromaCollections:
        """This, in the place of the real ones: nothing but ``read`` and ``read_all`` is used."""
        return cast("ChromaCollections", self)

    async def read(self, spec: CollectionSpec, select: Select) -> Rows:
        assert spec == SPEC
        self.reads += 1
        await anyio.lowlevel.checkpoint()
        found = [each for each in self.records if _is_selected(each[0], select)]
        end = None if select.limit is None else select.offset + select.limit
        found = found[select.offset : end]
        self.rows += len(found) if "metadatas" in select.include else 0
        rows = [
            Row(
                record.id,
                record.document if "documents" in select.include else None,
                record.metadata if "metadatas" in select.include else None,
            )
            for record, _ in found
        ]
        vectors = [vector_of(message) for _, message in found if "embeddings" in select.include]
        return Rows(rows, np.array(vectors, np.float32).reshape(len(vectors), DIMENSION))

    async def read_all(self, spec: CollectionSpec, select: Select) -> list[Row]:
        return (await self.read(spec, select)).rows


def _is_selected(record: Record, select: Select) -> bool:
    if select.ids is not None and record.id not in select.ids:
        return False
    return select.where is None or record.metadata.get(select.where[0]) in select.where[1]
