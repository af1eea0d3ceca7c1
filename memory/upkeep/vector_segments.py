"""The vector side of Chroma's database: which collection has which index, and what is in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from memory.errors import UpkeepRefused, one_line

DATABASE: Final = "chroma.sqlite3"
LOCK_TIMEOUT_S: Final = 10.0
HNSW: Final = "urn:chroma:segment/vector/hnsw-local-persisted"
DELETE: Final = 3
"""The number of a deletion in Chroma's log."""
END: Final = "\U0010ffff"
"""After every id: a cursor that stands at the end."""

_SEGMENTS: Final = """
    SELECT c.id, c.name, c.dimension, v.id, m.id FROM collections c
    JOIN segments v ON v.collection = c.id AND v.type = ?
    JOIN segments m ON m.collection = c.id AND m.scope = 'METADATA' ORDER BY c.name
"""
_PERSISTED_IDS: Final = """
    SELECT embedding_id FROM embeddings WHERE segment_id = ? AND seq_id <= ? AND embedding_id <= ?
"""
_HOLLOW_IDS: Final = """
    SELECT embedding_id FROM embeddings
    WHERE segment_id = ? AND NOT EXISTS (
        SELECT 1 FROM embedding_metadata m WHERE m.id = embeddings.id)
"""


class VectorSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A collection with its index: ``id`` is the index's folder, ``records`` the segment of the
    ids and words.
    """

    id: str
    collection: str
    name: str
    dimension: int | None
    records: str
    facts: dict[str, str | int]

    @property
    def kind(self) -> str:
        """``messages``, ``conversations``, or nothing for what is not ours."""
        return str(self.facts.get("kind", ""))


@contextmanager
def opened(database: Path, *, writable: bool = False) -> Iterator[sqlite3.Connection]:
    """*database* in autocommit, to be used in this thread.

    Raises:
        UpkeepRefused: it is not there or cannot be read, now or within the block.
    """
    uri = f"file:{quote(str(database.resolve()))}?mode={'rw' if writable else 'ro'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
            connection.isolation_level = None
            yield connection
    except sqlite3.Error as error:
        raise UpkeepRefused(f"{database} cannot be read: {one_line(error)}") from error


def vector_segments(connection: sqlite3.Connection) -> list[VectorSegment]:
    """All collections that have an index, by name; none where Chroma has not been yet."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'segments'").fetchone():
        return []
    facts = collection_facts(connection)
    return [
        VectorSegment(
            id=segment,
            collection=collection,
            name=name,
            dimension=dimension,
            records=records,
            facts=facts.get(collection, {}),
        )
        for collection, name, dimension, segment, records in connection.execute(_SEGMENTS, (HNSW,))
    ]


def collection_facts(connection: sqlite3.Connection) -> dict[str, dict[str, str | int]]:
    """What is written in each collection about itself, by its id."""
    facts: dict[str, dict[str, str | int]] = {}
    for collection, key, text, number in connection.execute(
        "SELECT collection_id, key, str_value, int_value FROM collection_metadata"
    ):
        value = text if text is not None else number
        if value is not None:
            facts.setdefault(collection, {})[key] = value
    return facts


def topic_of(segment: VectorSegment) -> str:
    """What the log calls the collection."""
    return f"persistent://default/default/{segment.collection}"


def persisted_up_to(connection: sqlite3.Connection, segment: VectorSegment) -> int | None:
    """The place in the log up to which the index claims to be written; ``None``: never."""
    found = connection.execute(
        "SELECT seq_id FROM max_seq_id WHERE segment_id = ?", (segment.id,)
    ).fetchone()
    return int(found[0]) if found else None


def persisted_ids(
    connection: sqlite3.Connection, segment: VectorSegment, up_to: str
) -> Iterator[str]:
    """The records up to the id *up_to* that must be in the index's files, and not in the log."""
    persisted = persisted_up_to(connection, segment)
    if persisted is not None and up_to:
        for (record,) in connection.execute(_PERSISTED_IDS, (segment.records, persisted, up_to)):
            yield record


def all_ids(connection: sqlite3.Connection, segment: VectorSegment) -> Iterator[str]:
    """The ids of all records."""
    for (record,) in connection.execute(
        "SELECT embedding_id FROM embeddings WHERE segment_id = ?", (segment.records,)
    ):
        yield record


def ids_and_places(
    connection: sqlite3.Connection, segment: VectorSegment
) -> Iterator[tuple[str, int]]:
    """All records, each with its last place in the log."""
    yield from connection.execute(
        # +: the table is read from one end to the other, faster than row by row by its index
        "SELECT embedding_id, seq_id FROM embeddings WHERE +segment_id = ?",
        (segment.records,),
    )


def logged_deletions(connection: sqlite3.Connection, segment: VectorSegment) -> Iterator[str]:
    """The ids of records whose deletion the index will learn from the log."""
    persisted = persisted_up_to(connection, segment) or 0
    for (record,) in connection.execute(
        "SELECT id FROM embeddings_queue WHERE topic = ? AND seq_id > ? AND operation = ?",
        (topic_of(segment), persisted, DELETE),
    ):
        yield record


def ids_after(
    connection: sqlite3.Connection, segment: VectorSegment, cursor: str, limit: int
) -> list[str]:
    """At most *limit* ids that come after *cursor*, in their order."""
    rows = connection.execute(
        "SELECT embedding_id FROM embeddings WHERE segment_id = ? AND embedding_id > ? "
        "ORDER BY embedding_id LIMIT ?",
        (segment.records, cursor, limit),
    )
    return [record for (record,) in rows]


def count_after(connection: sqlite3.Connection, segment: VectorSegment, cursor: str) -> int:
    """How many records come after *cursor*."""
    return int(
        connection.execute(
            "SELECT COUNT(*) FROM embeddings WHERE segment_id = ? AND embedding_id > ?",
            (segment.records, cursor),
        ).fetchone()[0]
    )


def hollow_ids(connection: sqlite3.Connection, segment: VectorSegment) -> list[str]:
    """Records without words or metadata: what a vector made whose record was gone."""
    return [record for (record,) in connection.execute(_HOLLOW_IDS, (segment.records,))]


def newest_id(connection: sqlite3.Connection, segment: VectorSegment) -> str | None:
    """The record that was added last."""
    found = connection.execute(
        # +: not by the index over all of the segment's ids, but backwards from the last row
        "SELECT embedding_id FROM embeddings WHERE +segment_id = ? ORDER BY id DESC LIMIT 1",
        (segment.records,),
    ).fetchone()
    return found[0] if found else None
