"""How often Chroma writes a collection's index: a number that follows the collection's size.

Chroma writes the whole index after so many records, which holds up everybody for 0.6 ms a thousand
records of the collection; and every add reads what was added since, 0.008 CPU-ms a record. So
small collections are written often, and large ones seldom (decision 0009).
"""

from __future__ import annotations

import sqlite3
from typing import Final

import structlog

log = structlog.get_logger(__name__)

LEAST: Final = 200
MOST: Final = 1_000
SHARE: Final = 250
"""One in so many records is the threshold, between the two above."""

_CONFIG: Final = ".float_list.vector_index.config.hnsw.sync_threshold"
_PATHS: Final = ("$.defaults" + _CONFIG, '$.keys."#embedding"' + _CONFIG)
"""Where Chroma 1.5 keeps it in a collection's ``schema_str``; it follows the second."""

_KNOWN: Final = "SELECT 1 FROM pragma_table_info('collections') WHERE name = 'schema_str'"
_SIZES: Final = """
    SELECT collection, json_extract(schema_str, ?),
        (SELECT count(*) FROM embeddings WHERE segment_id = segments.id)
    FROM segments JOIN collections ON collections.id = collection
    WHERE scope = 'METADATA' AND json_type(schema_str, ?) = 'integer'
"""


def sync_threshold(records: int) -> int:
    """After how many records the index of a collection of *records* is to be written."""
    return min(max(records // SHARE, LEAST), MOST)


def set_sync_thresholds(connection: sqlite3.Connection) -> None:
    """Set every collection's threshold by its size; Chroma reads it when it starts.

    Nothing happens to a database of another version of Chroma.

    Raises:
        sqlite3.Error: the database cannot be read or written.
    """
    if connection.execute(_KNOWN).fetchone() is None:
        return
    changed = [
        (threshold, collection)
        for collection, present, records in connection.execute(_SIZES, (_PATHS[1], _PATHS[1]))
        if present != (threshold := sync_threshold(records))
    ]
    for threshold, collection in changed:
        connection.execute(
            "UPDATE collections SET schema_str = json_set(schema_str, ?, ?, ?, ?) WHERE id = ?",
            (_PATHS[0], threshold, _PATHS[1], threshold, collection),
        )
    if changed:
        log.info("sync_threshold.changed", collections=len(changed))
