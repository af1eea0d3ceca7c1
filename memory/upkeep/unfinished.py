"""What an interrupted command left in a data folder, seen to before a server uses it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from memory.errors import UpkeepRefused
from memory.upkeep.layouts import setting_of
from memory.upkeep.migration import GOING, LEFT, SWAP
from memory.upkeep.restore import STORE, finish_restore
from memory.upkeep.store_file import DATABASE

LOCK_TIMEOUT_S: Final = 5.0


def see_to_unfinished(data_dir: Path) -> None:
    """Bring a restore in *data_dir* to its end; refuse a store in the middle of a migration.

    Half a migration holds messages twice, and an erasure would miss the copies. Nothing runs on
    *data_dir*; blocks for a moment.

    Raises:
        UpkeepRefused: a migration is to be finished or undone first, or the folder cannot be
            written.
    """
    try:
        finish_restore(data_dir)
    except OSError as error:
        raise UpkeepRefused(
            f"a restore cannot be brought to its end: {data_dir}: {error.strerror}"
        ) from error
    going = unfinished_migration(data_dir / STORE / DATABASE)
    if going is not None:
        raise UpkeepRefused(
            f"a migration to {setting_of(going)} was interrupted: run it again, or undo it with "
            "the old placement (python -m memory migrate --help)"
        )


def unfinished_migration(database: Path) -> str | None:
    """The layout to which the store in *database* is on its way, if it is.

    A database that is not there or cannot be read is nobody's migration.
    """
    try:
        uri = f"file:{quote(str(database.resolve()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
            rows = connection.execute(
                "SELECT f.key, f.str_value FROM collection_metadata f "
                "JOIN collection_metadata k USING (collection_id) "
                "WHERE k.key = 'kind' AND k.str_value = 'conversations'"
            )
            facts: dict[str, str] = dict(rows.fetchall())
    except sqlite3.Error:
        return None
    layout = facts.get("layout", "")
    if SWAP in layout:
        return layout.partition(SWAP)[2]
    return layout if LEFT in facts else facts.get(GOING)
