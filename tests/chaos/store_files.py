"""The messages in a private Chroma's files, read beside the server or without it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.chaos.logbook import StoredMessage

RECORDS: Final = """
    SELECT e.id, e.embedding_id, m.key, coalesce(m.string_value, m.int_value, m.float_value)
    FROM embeddings e
    JOIN segments s ON s.id = e.segment_id
    JOIN collection_metadata k ON k.collection_id = s.collection
        AND k.key = 'kind' AND k.str_value = 'messages'
    JOIN embedding_metadata m ON m.id = e.id
"""
UNAPPLIED: Final = """
    SELECT count(*) FROM embeddings_queue q
    JOIN segments s ON q.topic LIKE '%' || s.collection AND s.scope = 'METADATA'
    LEFT JOIN max_seq_id x ON x.segment_id = s.id
    WHERE q.seq_id > coalesce(x.seq_id, 0)
"""
LOCKED_S: Final = 30.0


def read_files(data_dir: Path) -> list[StoredMessage]:
    """All messages of all users; each row of the database is a record, copies too."""
    with closing(_open(data_dir)) as connection:
        rows: dict[tuple[int, str], dict[str, object]] = defaultdict(dict)
        for row, record_id, key, value in connection.execute(RECORDS):
            rows[row, record_id][key] = value
    return [_message(record_id, fields) for (_, record_id), fields in rows.items()]


def unapplied(data_dir: Path) -> int:
    """Records of Chroma's log that its tables do not hold yet: after a crash, until the
    collection is opened.
    """
    with closing(_open(data_dir)) as connection:
        (rows,) = connection.execute(UNAPPLIED).fetchone()
    return int(rows)


def _open(data_dir: Path) -> sqlite3.Connection:
    file = data_dir / "chroma" / "chroma.sqlite3"
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=LOCKED_S)


def _message(record_id: str, fields: Mapping[str, object]) -> StoredMessage:
    def text(name: str) -> str | None:
        value = fields.get(name)
        return str(value) if value else None

    return StoredMessage(
        id=record_id,
        user=text("user_id") or "",
        conversation=text("conversation_id") or "",
        role=text("type") or "",
        text=text("chroma:document") or "",
        depth=int(str(fields.get("depth", -1))),
        parent=text("parent"),
        client_id=text("client_id"),
        reply_to=text("reply_to"),
        status=text("status") or "completed",
    )
