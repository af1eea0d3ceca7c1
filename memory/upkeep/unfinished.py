"""What an interrupted command left in a data folder, seen to before a server uses it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from memory.errors import UpkeepRefused
from memory.placement import Placement
from memory.upkeep.layouts import setting_of
from memory.upkeep.migration import GOING, LEFT, SWAP
from memory.upkeep.restore import STORE, finish_restore
from memory.upkeep.vector_segments import DATABASE

LOCK_TIMEOUT_S: Final = 5.0


def see_to_unfinished(data_dir: Path, placement: Placement) -> None:
    """Bring a restore in *data_dir* to its end; refuse a store in the middle of a migration, or
    laid out otherwise than for *placement*.

    Half a migration holds messages twice, and an erasure would miss the copies. Nothing runs on
    *data_dir*; blocks for a moment.

    Raises:
        UpkeepRefused: the configuration or the store is to be changed first, or the folder cannot
            be written; says what to do.
    """
    try:
        finish_restore(data_dir)
    except OSError as error:
        raise UpkeepRefused(
            f"a restore cannot be brought to its end: {data_dir}: {error.strerror}"
        ) from error
    facts = _facts(data_dir / STORE / DATABASE, placement.conversations)
    refuse_half_a_migration(facts)
    layout = facts.get("layout", placement.layout)
    if layout != placement.layout:
        raise UpkeepRefused(
            f"the store in {data_dir} is laid out with {setting_of(layout)}: set that in "
            "config.toml, [chroma], or lay the store out anew (python -m memory migrate --help)"
        )


def refuse_half_a_migration(facts: Mapping[str, str | int]) -> None:
    """*facts* are what a store's collection of conversations says of the store.

    Raises:
        UpkeepRefused: a migration was begun and is not at its end; says what to do.
    """
    going = _going(facts)
    if going is not None:
        raise UpkeepRefused(
            f"a migration to {setting_of(going)} was interrupted: run it again, or undo it with "
            "the old placement (python -m memory migrate --help)"
        )


def _going(facts: Mapping[str, str | int]) -> str | None:
    """The layout to which a store is on its way, if it is."""
    layout = str(facts.get("layout", ""))
    if SWAP in layout:
        return layout.partition(SWAP)[2]
    if LEFT in facts:
        return layout
    return str(facts[GOING]) if GOING in facts else None


def _facts(database: Path, directory: str) -> Mapping[str, str]:
    """What the collection *directory* says of the store; nothing where *database* cannot be read,
    which is for others to tell.
    """
    try:
        uri = f"file:{quote(str(database.resolve()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as connection:
            rows = connection.execute(
                "SELECT f.key, f.str_value FROM collection_metadata f "
                "JOIN collections c ON c.id = f.collection_id "
                "WHERE c.name = ? AND f.str_value NOT NULL",
                (directory,),
            )
            return dict(rows.fetchall())
    except sqlite3.Error:
        return {}
