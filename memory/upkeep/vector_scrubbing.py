"""Vectors of what was deleted, taken out of the index files while no Chroma runs on them.

Chroma marks an element as deleted and leaves its vector in the file for good. It stays an element
that searches walk over; what they compare with there is no longer anybody's.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np

from memory.records import placeholder
from memory.upkeep.index_files import (
    ELEMENTS,
    HEADER,
    LENGTHS,
    Elements,
    Labels,
    read_header,
    read_labels,
)
from memory.upkeep.synced_files import sync
from memory.upkeep.vector_segments import VectorSegment, all_ids, vector_segments

ELEMENTS_PER_STEP: Final = 8_192
"""Some 14 MB at a time."""
LENGTH_BYTES: Final = 4

_TOMBSTONES: Final = """
    SELECT e.embedding_id FROM embedding_metadata s JOIN embeddings e ON e.id = s.id
    WHERE s.key = 'status' AND s.string_value = 'deleted' AND e.segment_id = ?
"""


def blank_vectors(folder: Path, connection: sqlite3.Connection) -> int:
    """Blank, in all indexes below Chroma's *folder*, the vectors of elements whose record is not
    in the database or is a tombstone; how many were. Synced when it returns.

    Raises:
        IndexFault: an index cannot be read; nothing more was done.
    """
    segments = [it for it in vector_segments(connection) if (folder / it.id / HEADER).exists()]
    return sum(_blank(folder / segment.id, connection, segment) for segment in segments)


def remove_orphans(folder: Path, connection: sqlite3.Connection) -> int:
    """Remove the folders of indexes that the database does not know; how many there were."""
    known = {segment.id for segment in vector_segments(connection)}
    orphans = [
        path
        for path in folder.iterdir()
        if path.is_dir() and _is_uuid(path.name) and path.name not in known
    ]
    for orphan in orphans:
        shutil.rmtree(orphan)
    if orphans:
        sync(folder)
    return len(orphans)


def _blank(folder: Path, connection: sqlite3.Connection, segment: VectorSegment) -> int:
    header = read_header(folder)
    _zero_tail(folder / ELEMENTS, header.elements * header.element_bytes)
    _zero_tail(folder / LENGTHS, header.elements * LENGTH_BYTES)
    found = read_labels(folder)
    if found is None:
        return 0
    kept = set(all_ids(connection, segment))
    kept.difference_update(row[0] for row in connection.execute(_TOMBSTONES, (segment.records,)))
    labels = np.array(
        [label for record, label in found.labels.items() if record in kept], dtype=np.uint64
    )
    elements = Elements(folder, header, writable=True)
    blanked = 0
    for start in range(0, len(elements), ELEMENTS_PER_STEP):
        blanked += _blank_part(elements, start, labels, header.dimension)
    elements.flush()
    return blanked


def _blank_part(elements: Elements, start: int, kept: Labels, dimension: int) -> int:
    """Blank those from *start* on, ``ELEMENTS_PER_STEP`` of them, whose labels are not *kept*."""
    part = slice(start, start + ELEMENTS_PER_STEP)
    dead = np.flatnonzero(~np.isin(elements.labels(part), kept)).astype(np.uint64) + np.uint64(
        start
    )
    blank = placeholder(dimension)
    full = dead[(elements.vectors(dead) != blank).any(axis=1)]
    elements.set_vectors(full, blank)
    return len(full)


def _zero_tail(path: Path, end: int) -> None:
    """Zero what lies behind the last element, from byte *end* on.

    Chroma writes the files of a new index with room for 100 elements, and what is in that room is
    whatever its memory held before: words, too.
    """
    size = path.stat().st_size
    if size > end:
        with path.open("r+b") as file:
            file.seek(end)
            file.write(bytes(size - end))
            file.flush()
            os.fsync(file.fileno())


def _is_uuid(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
