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
LOCKED_S: Final = 30.0


def read_files(data_dir: Path) -> list[StoredMessage]:
    """All messages of all users in the private Chroma of *data_dir*."""
    return read_records(data_dir / "chroma" / "chroma.sqlite3")


def read_records(database: Path) -> list[StoredMessage]:
    """All messages in *database*; each row is a record, copies too."""
    uri = f"file:{database}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=LOCKED_S)) as connection:
        rows: dict[tuple[int, str], dict[str, object]] = defaultdict(dict)
        for row, record_id, key, value in connection.execute(RECORDS):
            rows[row, record_id][key] = value
    return [_message(record_id, fields) for (_, record_id), fields in rows.items()]


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
