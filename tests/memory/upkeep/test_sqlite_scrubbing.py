from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from memory.upkeep.sqlite_scrubbing import (
    blank_log,
    compact,
    holds_user,
    merge_words,
    truncate_wal,
)
from memory.upkeep.vector_segments import DATABASE
from memory.upkeep.vector_segments import opened as database
from tests.contracts.long_term_world import line, somebody, vectors_of
from tests.memory.chroma_world import opened, serving
from tests.memory.upkeep.test_scrubbing import CANARY, canaries

pytestmark = pytest.mark.chroma


def log_rows(connection: sqlite3.Connection) -> list[tuple[int, str, bytes | None, str]]:
    return connection.execute(
        "SELECT seq_id, id, vector, metadata FROM embeddings_queue ORDER BY seq_id"
    ).fetchall()


async def test_the_log_keeps_its_rows_and_the_vectors_of_what_is_there_and_no_words(
    tmp_path: Path,
) -> None:
    user, other = somebody(), somebody("ben")
    mine, theirs = canaries(user, 10), line(other, 10)
    async with serving(tmp_path) as (process, _), opened(process.url) as memory:
        for messages in (mine, theirs):
            await memory.append_many(messages, vectors_of(messages))
        await memory.forget_user(user)
        with database(tmp_path / "chroma" / DATABASE, writable=True) as connection:
            before = log_rows(connection)
            assert any(CANARY in row[3] for row in before)
            assert blank_log(connection) == 10
            after = log_rows(connection)
            assert [row[:2] for row in after] == [row[:2] for row in before]
            assert {row[3] for row in after} == {"{}"}
            left = {row[1]: row[2] for row in after if row[2] is not None}
            for message, vector in zip(theirs, vectors_of(theirs), strict=True):
                assert left[message.id] == vector.tobytes()
            assert len({left[message.id] for message in mine}) == 1
            assert blank_log(connection) == 10
    async with serving(tmp_path) as (process, _), opened(process.url) as memory:
        assert await memory.by_ids(other, [it.id for it in theirs]) == theirs
        assert len((await memory.newest(other, limit=20)).vectors) == 10


async def test_the_log_of_a_collection_that_is_gone_is_emptied(tmp_path: Path) -> None:
    async with serving(tmp_path) as (process, _), opened(process.url) as memory:
        messages = line(somebody(), 2)
        await memory.append_many(messages, vectors_of(messages))
        with database(tmp_path / "chroma" / DATABASE, writable=True) as connection:
            connection.execute(
                "INSERT INTO embeddings_queue (operation, topic, id, vector, encoding, metadata) "
                "VALUES (0, 'persistent://default/default/gone', 'm', x'00', 'FLOAT32', ?)",
                (f'{{"chroma:document": "{CANARY}"}}',),
            )
            blank_log(connection)
            assert log_rows(connection)[-1][1:] == ("m", None, "{}")


async def test_users_are_found_by_their_records(tmp_path: Path) -> None:
    user = somebody()
    async with serving(tmp_path) as (process, _), opened(process.url) as memory:
        messages = line(user, 2)
        await memory.append_many(messages, vectors_of(messages))
        with database(tmp_path / "chroma" / DATABASE) as connection:
            assert holds_user(connection, user)
            assert not holds_user(connection, somebody("eve"))


async def test_words_are_merged_and_the_file_rewritten_while_chroma_serves(
    tmp_path: Path,
) -> None:
    user = somebody()
    async with serving(tmp_path) as (process, _), opened(process.url) as memory:
        for _ in range(12):
            messages = canaries(user, 20)
            await memory.append_many(messages, vectors_of(messages))
        with database(tmp_path / "chroma" / DATABASE, writable=True) as connection:
            parts = "SELECT COUNT(DISTINCT segid) FROM embedding_fulltext_search_idx"
            assert connection.execute(parts).fetchone()[0] > 1
            assert merge_words(connection) > 0
            assert connection.execute(parts).fetchone()[0] == 1
            assert merge_words(connection) == 0
            compact(connection)
            assert truncate_wal(connection)
            assert connection.execute("PRAGMA freelist_count").fetchone()[0] == 0
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        await memory.append_many(line(user, 1), vectors_of(line(user, 1)))


def test_a_log_that_somebody_reads_is_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / "some.sqlite3"
    writer, reader = sqlite3.connect(path), sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA busy_timeout=10")
    writer.execute("CREATE TABLE t (x)")
    writer.commit()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    writer.execute("INSERT INTO t VALUES (1)")
    writer.commit()
    assert not truncate_wal(writer)
    reader.close()
    assert truncate_wal(writer)
    writer.close()
