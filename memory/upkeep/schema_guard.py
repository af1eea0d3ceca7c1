"""Whether this program may let Chroma open a database: the right schema, and whole."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from memory.errors import UpkeepRefused, one_line

KNOWN: Final[Mapping[str, int]] = {"sysdb": 10, "metadb": 6, "embeddings_queue": 2}
"""The last migration of each kind in the pinned Chroma, 1.5.9."""
OLDEST: Final[Mapping[str, int]] = {"sysdb": 9, "metadb": 5, "embeddings_queue": 2}
"""Chroma 1.0. It brings its own folders up to date; older ones it opens, and damages."""

QUICK_CHECK_S: Final = 0.5
"""So long the pages of a database are looked at before each start; all of a small one's."""
STEPS_PER_LOOK: Final = 10_000
LOCK_TIMEOUT_S: Final = 5.0


def check_database(database: Path, *, within_s: float = QUICK_CHECK_S) -> None:
    """See that *database* is whole, as far as that can be told *within_s*, and that the pinned
    Chroma knows its schema. One that is not there, or empty, is fine.

    Raises:
        UpkeepRefused: it must not be opened; says what to do.
    """
    if not database.exists() or database.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(database, timeout=LOCK_TIMEOUT_S)) as connection:
            _check_schema(database, connection)
            _check_pages(database, connection, within_s)
    except sqlite3.Error as error:
        raise UpkeepRefused(
            f"{database} cannot be opened: {one_line(error)}; restore a backup "
            "(python -m memory restore)"
        ) from error


def _check_schema(database: Path, connection: sqlite3.Connection) -> None:
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
    if not tables:
        return
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone():
        raise UpkeepRefused(f"{database} is not Chroma's: move it away")
    found: dict[str, int] = dict(
        connection.execute("SELECT dir, MAX(version) FROM migrations GROUP BY dir")
    )
    newer = sorted(kind for kind, version in found.items() if version > KNOWN.get(kind, 0))
    if newer:
        raise UpkeepRefused(
            f"{database} was written by a newer Chroma than 1.5.9 ({', '.join(newer)}): install "
            "the version of Tandem that wrote it, or restore a backup (python -m memory restore)"
        )
    older = sorted(kind for kind, version in OLDEST.items() if found.get(kind, 0) < version)
    if older:
        raise UpkeepRefused(
            f"{database} was written by a Chroma before 1.0 ({', '.join(older)}), which 1.5.9 "
            "would damage: bring it up to date with Chroma's own tools, or use another data_dir"
        )


def _check_pages(database: Path, connection: sqlite3.Connection, within_s: float) -> None:
    ends_at = time.monotonic() + within_s
    connection.set_progress_handler(lambda: time.monotonic() > ends_at, STEPS_PER_LOOK)
    try:
        rows = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if rows != [("ok",)]:
        raise UpkeepRefused(
            f"{database} is damaged: {one_line(Exception(rows[0][0]))}; look closer with "
            "`python -m memory check`, and restore a backup (python -m memory restore)"
        )
