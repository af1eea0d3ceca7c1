"""What was erased since a backup was made is taken out of a copy of it, before that is served.

The copy lies still: no Chroma runs on it, and it has no index files, so the words and vectors of
what is taken out stand in the tables only. They leave no byte behind: the copy is written anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from memory.errors import CorruptRecord, UpkeepRefused, one_line
from memory.messages import MessageId, UserId, tombstone
from memory.records import Record, message_record, placeholder, stored_message
from memory.upkeep.ledger import Ledger
from memory.upkeep.store_file import DOCUMENT_KEY, StoreFile
from memory.upkeep.terminal import Report

IDS_PER_LOOKUP: Final = 1_000

_USERS: Final = """
    SELECT string_value FROM embedding_metadata WHERE key = 'user_id'
    UNION SELECT json_extract(metadata, '$.user_id') FROM embeddings_queue
    WHERE json_valid(metadata)
    UNION SELECT str_value FROM collection_metadata WHERE key = 'owner'
"""
_MARKS: Final = """
    CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY);
    CREATE TEMP TABLE dropped (id TEXT PRIMARY KEY);
"""
_MARK_RECORDS: Final = """
    INSERT OR IGNORE INTO gone
    SELECT id FROM embedding_metadata WHERE key = 'user_id' AND string_value = ?
"""
_MARK_COLLECTIONS: Final = """
    INSERT OR IGNORE INTO dropped
    SELECT collection_id FROM collection_metadata WHERE key = 'owner' AND str_value = ?
"""
_BLANK_LOGGED: Final = """
    UPDATE embeddings_queue
    SET operation = 3, id = 'erased', vector = NULL, encoding = NULL, metadata = '{}'
    WHERE json_valid(metadata) AND json_extract(metadata, '$.user_id') = ?
"""
"""A row of the log becomes the deletion of nothing. It must not go: the next row's number is one
more than the last one's, and what has a number that was given before Chroma takes for done."""

_MARK_RECORD: Final = """
    INSERT OR IGNORE INTO gone SELECT id FROM embeddings WHERE embedding_id = ?
"""
_BLANK_RECORD: Final = """
    UPDATE embeddings_queue
    SET operation = 3, id = 'erased', vector = NULL, encoding = NULL, metadata = '{}' WHERE id = ?
"""
_FORGET_MARKED: Final = """
    UPDATE embeddings_queue
    SET operation = 3, id = 'erased', vector = NULL, encoding = NULL, metadata = '{}'
    WHERE substr(topic, -36) IN (SELECT id FROM dropped) OR id IN (
        SELECT embedding_id FROM embeddings WHERE id IN (SELECT id FROM gone));
    DELETE FROM embedding_fulltext_search WHERE rowid IN (SELECT id FROM gone);
    DELETE FROM embedding_metadata WHERE id IN (SELECT id FROM gone);
    DELETE FROM embedding_metadata_array WHERE id IN (SELECT id FROM gone);
    DELETE FROM embeddings WHERE id IN (SELECT id FROM gone);

    DELETE FROM max_seq_id WHERE segment_id IN (
        SELECT id FROM segments WHERE collection IN (SELECT id FROM dropped));
    DELETE FROM segment_metadata WHERE segment_id IN (
        SELECT id FROM segments WHERE collection IN (SELECT id FROM dropped));
    DELETE FROM segments WHERE collection IN (SELECT id FROM dropped);
    DELETE FROM collection_metadata WHERE collection_id IN (SELECT id FROM dropped);
    DELETE FROM collections WHERE id IN (SELECT id FROM dropped);
"""
"""A topic of the log ends with its collection's id, a UUID in 36 characters."""

_NO_WAY_BACK: Final = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA temp_store = MEMORY;
"""
_OPTIMIZE: Final = (
    "INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('optimize')"
)


class LeftOut(msgspec.Struct, frozen=True):
    """How many users and single messages were taken out."""

    users: int
    messages: int


def leave_out_erased(
    database: Path, ledgers: Sequence[Ledger], since: float, report: Report
) -> LeftOut:
    """Take out of *database*, a copy made at *since*, what *ledgers* say was erased since.

    Users vanish with all they own; a single message becomes its tombstone, so that what follows
    it keeps its parent; so do those of a deleted conversation, which is in no list any more.

    Raises:
        UpkeepRefused: the database cannot be read or written; it is not to be served then.
    """
    report("leaving out what was erased", 0.0)
    clean = database.with_name(f"{database.name}.clean")
    messages = _erased_messages(database, ledgers)
    unlisted = _erased_conversations(database, ledgers)
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as copy:
            # The copy becomes a store only once all of this is done.
            copy.executescript(_NO_WAY_BACK)
            users = [
                UserId(user)
                for (user,) in copy.execute(_USERS)
                if user is not None
                and any(ledger.erased_user(UserId(user), since) for ledger in ledgers)
            ]
            _forget(copy, users, unlisted)
            _bury(copy, messages)
            # Always: an erasure that was under way left bytes that no table holds any more.
            report("leaving no bytes behind", 0.5)
            copy.execute(_OPTIMIZE)
            copy.execute("VACUUM INTO ?", (str(clean),))
        clean.replace(database)
    except sqlite3.Error as error:
        raise UpkeepRefused(f"{database} cannot be changed: {one_line(error)}") from error
    return LeftOut(len(users), len(messages))


def _erased_messages(database: Path, ledgers: Sequence[Ledger]) -> list[Record]:
    """Those of *database* that were deleted since, as tombstones."""
    found: list[Record] = []
    with StoreFile.opened(database, still=True) as store:
        shelves = {it.segment for it in store.collections() if it.kind == "messages"}
        records = (record for segment, record in store.records() if segment in shelves)
        for part in _parts(records):
            ids = [MessageId(record.id) for record in part]
            erased = set().union(*(ledger.erased_messages(ids) for ledger in ledgers))
            found += [
                _tombstone(record)
                for record in part
                if record.id in erased and record.metadata.get("status") != "deleted"
            ]
    return found


def _erased_conversations(database: Path, ledgers: Sequence[Ledger]) -> list[str]:
    """The records of those that were deleted since."""
    with StoreFile.opened(database, still=True) as store:
        lists = {it.segment for it in store.collections() if it.kind == "conversations"}
        ids = [MessageId(record.id) for segment, record in store.records() if segment in lists]
    return sorted(set().union(*(ledger.erased_messages(ids) for ledger in ledgers)))


def _parts(records: Iterator[Record]) -> Iterator[list[Record]]:
    while part := list(islice(records, IDS_PER_LOOKUP)):
        yield part


def _tombstone(record: Record) -> Record:
    user = UserId(str(record.metadata.get("user_id", "")))
    try:
        message = stored_message(user, record.id, record.document, record.metadata)
    except CorruptRecord as error:
        raise UpkeepRefused(f"the backup holds what this program did not write: {error}") from error
    return message_record(tombstone(message))


def _forget(copy: sqlite3.Connection, users: Sequence[UserId], records: Sequence[str]) -> None:
    """Take out all of *users*, and those *records*."""
    copy.executescript(_MARKS)
    for record in records:
        copy.execute(_MARK_RECORD, (record,))
        copy.execute(_BLANK_RECORD, (record,))
    for user in users:
        for statement in (_MARK_RECORDS, _MARK_COLLECTIONS, _BLANK_LOGGED):
            copy.execute(statement, (user,))
    copy.executescript(_FORGET_MARKED)


def _bury(copy: sqlite3.Connection, tombstones: Sequence[Record]) -> None:
    """Put *tombstones* in the places of the messages of their ids, in the log as well."""
    values = {it.id: {DOCUMENT_KEY: it.document, **it.metadata} for it in tombstones}
    log = copy.execute("SELECT seq_id, id, vector FROM embeddings_queue")
    logged = [(place, it, vector) for place, it, vector in log if it in values]
    for place, record_id, vector in logged:
        blank = None if vector is None else placeholder(len(vector) // 4).tobytes()
        metadata = {} if blank is None else values[record_id]
        copy.execute(
            "UPDATE embeddings_queue SET vector = ?, metadata = ? WHERE seq_id = ?",
            (blank, msgspec.json.encode(metadata).decode(), place),
        )
    for record in tombstones:
        find = "SELECT id FROM embeddings WHERE embedding_id = ?"
        for row in copy.execute(find, (record.id,)).fetchall():
            copy.execute("DELETE FROM embedding_metadata WHERE id = ?", row)
            copy.executemany(
                "INSERT INTO embedding_metadata (id, key, string_value, int_value, float_value)"
                " VALUES (?, ?, ?, ?, ?)",
                [(*row, key, *_columns(value)) for key, value in values[record.id].items()],
            )
            copy.execute(
                "UPDATE embedding_fulltext_search SET string_value = ? WHERE rowid = ?",
                (record.document, *row),
            )


def _columns(value: str | float) -> tuple[str | None, int | None, float | None]:
    if isinstance(value, str):
        return value, None, None
    return (None, value, None) if isinstance(value, int) else (None, None, value)
