"""Bytes of what was deleted, taken out of Chroma's database while Chroma uses it.

They stand in the log (words in the metadata, and vectors), in the full-text index (until its
parts are merged), in free pages and the gaps of used ones, and in the write-ahead log. All here
blocks, and is for a thread; each step holds SQLite's write lock for a moment only, but for
:func:`compact`. Every step may be done again.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from memory.messages import UserId
from memory.records import placeholder
from memory.upkeep.vector_segments import VectorSegment, topic_of, vector_segments

LOG_ROWS_PER_STEP: Final = 500
MERGED_PAGES: Final = 64
MOST_MERGES: Final = 10_000
FLOAT_BYTES: Final = 4
BUSY_S: Final = 1.0
"""Who is in the way for longer reads for long, as a backup does: nobody waits for that."""
LOOK_EVERY_S: Final = 0.05

_APPLIED: Final = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?"
_BLANK_WORDS: Final = """
    UPDATE embeddings_queue SET metadata = '{}'
    WHERE topic = ? AND seq_id <= ? AND metadata <> '{}'
"""
_DEAD_VECTORS: Final = """
    SELECT q.seq_id, length(q.vector) FROM embeddings_queue q
    LEFT JOIN embeddings e ON e.segment_id = ?1 AND e.embedding_id = q.id
    LEFT JOIN embedding_metadata s ON s.id = e.id AND s.key = 'status'
    WHERE q.topic = ?2 AND q.seq_id <= ?3 AND q.vector IS NOT NULL
    AND (e.id IS NULL OR s.string_value = 'deleted')
"""
_OTHER_TOPICS: Final = """
    UPDATE embeddings_queue SET metadata = '{}', vector = NULL
    WHERE seq_id IN (SELECT seq_id FROM embeddings_queue WHERE metadata <> '{}' OR vector NOT NULL)
    AND topic NOT IN (SELECT 'persistent://default/default/' || id FROM collections)
"""
_MERGE: Final = (
    "INSERT INTO embedding_fulltext_search (embedding_fulltext_search, rank) VALUES ('merge', ?)"
)
_OF_USER: Final = """
    SELECT 1 FROM embedding_metadata WHERE key = 'user_id' AND string_value = ? LIMIT 1
"""


def blank_log(connection: sqlite3.Connection) -> int:
    """Empty the log of what is no longer needed in it; how many vectors were blanked.

    Words are needed until the tables have them, vectors of records that are there until the
    index has them: a row stays and keeps its number, which Chroma counts by.
    """
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute(_OTHER_TOPICS)
    return sum(_blank_topic(connection, segment) for segment in vector_segments(connection))


def _blank_topic(connection: sqlite3.Connection, segment: VectorSegment) -> int:
    found = connection.execute(_APPLIED, (segment.records,)).fetchone()
    if found is None:
        return 0
    topic, applied = topic_of(segment), int(found[0])
    connection.execute(_BLANK_WORDS, (topic, applied))
    dead = connection.execute(_DEAD_VECTORS, (segment.records, topic, applied)).fetchall()
    for start in range(0, len(dead), LOG_ROWS_PER_STEP):
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.executemany(
                "UPDATE embeddings_queue SET vector = ? WHERE seq_id = ?",
                [
                    (placeholder(size // FLOAT_BYTES).tobytes(), place)
                    for place, size in dead[start : start + LOG_ROWS_PER_STEP]
                ],
            )
    return len(dead)


def merge_words(connection: sqlite3.Connection) -> int:
    """Merge the parts of the full-text index, until none holds words of what was deleted from
    another; how many steps that took. Rests after each as long as it took.
    """
    pages = -MERGED_PAGES  # negative: all parts are to become one
    for step in range(MOST_MERGES):
        before, begun = connection.total_changes, time.monotonic()
        connection.execute(_MERGE, (pages,))
        if connection.total_changes - before < 2:  # noqa: PLR2004  # FTS5: nothing was merged
            return step
        pages = MERGED_PAGES
        time.sleep(time.monotonic() - begun)
    return MOST_MERGES


def compact(connection: sqlite3.Connection) -> None:
    """Write the whole database anew, without gaps. Readers go on; writers wait: a second for
    some 100 MB.
    """
    connection.execute("VACUUM")


def written_back(connection: sqlite3.Connection) -> bool:
    """Bring the write-ahead log into the database; whether all of it came there within
    ``BUSY_S``. While one reads what was before, the log only grows: by the whole database with
    each :func:`compact`.
    """
    until = time.monotonic() + BUSY_S
    while True:
        busy, logged, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        is_done = not busy and bool(logged == done)
        if is_done or time.monotonic() > until:
            return is_done
        time.sleep(LOOK_EVERY_S)


def truncate_wal(connection: sqlite3.Connection) -> bool:
    """Bring the write-ahead log into the database and empty it; whether nobody was in the way for
    longer than ``BUSY_S``.
    """
    connection.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy


def holds_user(connection: sqlite3.Connection, user: UserId) -> bool:
    """Whether any record is *user*'s."""
    return connection.execute(_OF_USER, (user,)).fetchone() is not None
