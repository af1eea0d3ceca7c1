"""Another embedder: collections become its own while Chroma does not run.

Vectors of two embedders are never in one index: the old index is removed first, and what the log
would put back into the new one is replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

import structlog

from memory.errors import UpkeepRefused, one_line
from memory.records import placeholder
from memory.upkeep.vector_segments import VectorSegment, topic_of

log = structlog.get_logger(__name__)


class EmbeddingFacts(NamedTuple):
    """What made a collection's vectors."""

    fingerprint: str
    dimension: int


def is_of_another(segment: VectorSegment, embedding: EmbeddingFacts | None) -> bool:
    """Whether the vectors of *segment* were made by something else."""
    if embedding is None:
        return False
    found = (segment.facts.get("embedding"), segment.facts.get("dimension"))
    return found != (embedding.fingerprint, embedding.dimension)


def adopt(
    connection: sqlite3.Connection, segments: Collection[VectorSegment], embedding: EmbeddingFacts
) -> None:
    """Make *segments*, whose indexes are gone, the *embedding*'s, all or none.

    What the log still holds of them is given to the index again: with placeholders now.
    """
    vector = placeholder(embedding.dimension).tobytes()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for segment in segments:
            _set_facts(connection, segment, embedding)
            if segment.kind == "messages":
                connection.execute(
                    "UPDATE collections SET dimension = ? WHERE id = ? AND dimension NOT NULL",
                    (embedding.dimension, segment.collection),
                )
                connection.execute(
                    "UPDATE embeddings_queue SET vector = ?, encoding = 'FLOAT32' "
                    "WHERE topic = ? AND vector NOT NULL",
                    (vector, topic_of(segment)),
                )
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.execute("ROLLBACK")
        raise UpkeepRefused(f"the change of embedder failed: {one_line(error)}") from error
    log.warning("embedder.changed", collections=len(segments))


def _set_facts(
    connection: sqlite3.Connection, segment: VectorSegment, embedding: EmbeddingFacts
) -> None:
    facts: tuple[tuple[str, str, str | int], ...] = (
        ("embedding", "str_value", embedding.fingerprint),
        ("dimension", "int_value", embedding.dimension),
    )
    for key, column, value in facts:
        connection.execute(
            f"UPDATE collection_metadata SET {column} = ? WHERE collection_id = ? AND key = ?",  # noqa: S608  # the column is one of the two above
            (value, segment.collection, key),
        )
