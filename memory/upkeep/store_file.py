"""Chroma's database read as what this program stored in it, without Chroma.

Only SQLite's side: ids, words and metadata. The vectors lie in index files and are rebuilt from
the words. The tables are those of the pinned Chroma; another version's are refused before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import msgspec

from memory.errors import UpkeepRefused, one_line
from memory.records import MetadataValue, Record
from memory.upkeep.vector_segments import LOCK_TIMEOUT_S, collection_facts

DOCUMENT_KEY: Final = "chroma:document"
RECORDS_PER_READ: Final = 500

_COLLECTIONS: Final = """
    SELECT c.id, c.name, c.dimension, s.id FROM collections c
    JOIN segments s ON s.collection = c.id AND s.scope = 'METADATA' ORDER BY c.name
"""
_RECORDS: Final = """
    SELECT e.id, e.segment_id, e.embedding_id, m.key, m.string_value, m.int_value, m.float_value
    FROM (SELECT id, segment_id, embedding_id FROM embeddings WHERE id > ? ORDER BY id LIMIT ?) e
    LEFT JOIN embedding_metadata m ON m.id = e.id ORDER BY e.id
"""
_RECORD: Final = """
    SELECT e.id, e.segment_id, e.embedding_id, m.key, m.string_value, m.int_value, m.float_value
    FROM embeddings e LEFT JOIN embedding_metadata m ON m.id = e.id
    WHERE e.segment_id = ? AND e.embedding_id = ?
"""
_USERS: Final = """
    SELECT COUNT(*) FROM (
        SELECT DISTINCT string_value FROM embedding_metadata
        WHERE key = 'user_id' AND string_value IS NOT NULL)
"""


class StoredCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection as it stands in the database; ``segment`` is the id of its records."""

    id: str
    name: str
    dimension: int | None
    segment: str
    facts: dict[str, str | int]

    @property
    def kind(self) -> str:
        """``messages``, ``conversations``, or nothing for what is not ours."""
        return str(self.facts.get("kind", ""))

    @property
    def layout(self) -> str:
        return str(self.facts.get("layout", ""))


class StoreFile:
    """An open database; reads only, and to be used in the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def opened(cls, path: Path, *, still: bool) -> Iterator[Self]:
        """Read *path*; *still* if nobody writes to it and it may lie where nobody can.

        Raises:
            UpkeepRefused: it is not there, or not such a database, now or while it is read.
        """
        if not path.is_file():
            raise UpkeepRefused(f"{path} is not there")
        options = "mode=ro&immutable=1" if still else "mode=ro"
        uri = f"file:{quote(str(path.resolve()))}?{options}"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
                connection.isolation_level = None
                yield cls(path, connection)
        except sqlite3.Error as error:
            raise UpkeepRefused(f"{path} cannot be read: {one_line(error)}") from error

    def freeze(self) -> None:
        """From now on everything is read as it is now, whatever is written meanwhile.

        The log that holds what is written meanwhile cannot be folded in until this is closed.
        """
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()

    def copy_to(self, target: Path, pages: int, progress: Callable[[int, int], None]) -> None:
        """Copy it page by page to *target*, one file that needs no other.

        *progress* is told the pages that remain and all of them, after each *pages*.
        """
        with closing(sqlite3.connect(target, timeout=LOCK_TIMEOUT_S)) as copy:
            self._connection.backup(
                copy,
                pages=pages,
                progress=lambda _status, remaining, total: progress(remaining, total),
            )
            copy.execute("PRAGMA journal_mode=DELETE")

    def size_bytes(self) -> int:
        pages = self._number("PRAGMA page_count")
        return pages * self._number("PRAGMA page_size")

    def faults(self, *, thorough: bool) -> list[str]:
        """What SQLite finds wrong with it; with *thorough* the indexes are compared too."""
        check = "integrity_check" if thorough else "quick_check"
        try:
            rows = self._connection.execute(f"PRAGMA {check}(10)").fetchall()
        except sqlite3.DatabaseError as error:
            return [one_line(error)]
        return [str(found) for (found,) in rows if found != "ok"]

    def schema(self) -> list[str]:
        """Chroma's migrations that were applied to it, each with its hash."""
        rows = self._connection.execute(
            "SELECT dir, version, hash FROM migrations ORDER BY dir, version"
        )
        return [f"{folder}/{version}:{digest}" for folder, version, digest in rows]

    def collections(self) -> list[StoredCollection]:
        """All collections, by name."""
        facts = collection_facts(self._connection)
        return [
            StoredCollection(
                id=key, name=name, dimension=dimension, segment=segment, facts=facts.get(key, {})
            )
            for key, name, dimension, segment in self._connection.execute(_COLLECTIONS)
        ]

    def counts(self) -> dict[str, int]:
        """The number of records in each segment."""
        return dict(
            self._connection.execute("SELECT segment_id, COUNT(*) FROM embeddings GROUP BY 1")
        )

    def users(self) -> int:
        """How many users own anything in it."""
        return self._number(_USERS)

    def records(self) -> Iterator[tuple[str, Record]]:
        """Every record with its segment, in the order of insertion; few in memory at a time."""
        last = 0
        while True:
            rows = self._connection.execute(_RECORDS, (last, RECORDS_PER_READ)).fetchall()
            if not rows:
                return
            yield from _records(rows)
            last = rows[-1][0]

    def record(self, segment: str, record_id: str) -> Record | None:
        """The record of that id, if it is there."""
        rows = self._connection.execute(_RECORD, (segment, record_id)).fetchall()
        return next((record for _, record in _records(rows)), None)

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])


_Cells = tuple[int, str, str, str | None, str | None, int | None, float | None]


def _records(rows: list[_Cells]) -> Iterator[tuple[str, Record]]:
    """The records of *rows*, one row for each key of each record, those of one together."""
    current: int | None = None
    segment, record_id, document = "", "", ""
    metadata: dict[str, MetadataValue] = {}
    for row, its_segment, its_id, key, text, whole, number in rows:
        if row != current:
            if current is not None:
                yield segment, Record(record_id, document, metadata)
            current, segment, record_id, document, metadata = row, its_segment, its_id, "", {}
        if key == DOCUMENT_KEY:
            document = text or ""
            continue
        value = next((it for it in (text, whole, number) if it is not None), None)
        if key is not None and value is not None:
            metadata[key] = value
    if current is not None:
        yield segment, Record(record_id, document, metadata)
