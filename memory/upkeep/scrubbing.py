"""Taking the bytes of what was deleted out of the files of the private Chroma.

As much as possible is done while Chroma serves: the log, the full-text index, and the rewriting
of the database, for which writers wait at a gate and readers do not. For the vectors and the
write-ahead log Chroma is stopped for a moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog

from memory.errors import StoreUnavailable, one_line
from memory.free_space import NEEDED_BYTES
from memory.messages import UserId
from memory.upkeep.index_files import IndexFault
from memory.upkeep.sqlite_scrubbing import (
    blank_log,
    compact,
    holds_user,
    merge_words,
    truncate_wal,
    written_back,
)
from memory.upkeep.vector_scrubbing import blank_vectors, remove_orphans
from memory.upkeep.vector_segments import DATABASE, opened

log = structlog.get_logger(__name__)

IN_USE: Final = "the write-ahead log is in use by another program"

T = TypeVar("T")

Held = Callable[[str], AbstractAsyncContextManager[None]]
"""Within the block Chroma is stopped and nothing asks for it; told why. It serves again after."""
WritesHeld = Callable[[], AbstractAsyncContextManager[None]]
"""Within the block nothing is written; what comes waits."""


class Scrubbed(msgspec.Struct, frozen=True):
    """What a scrub did: how long writers waited (``rewrite_s``) and Chroma was stopped."""

    rewrite_s: float
    held_s: float
    vectors: int


class Scrubber:
    """Scrubs the *folder* of a private Chroma."""

    def __init__(self, folder: Path, *, held: Held, writes_held: WritesHeld) -> None:
        self._folder = folder
        self._held = held
        self._writes_held = writes_held

    async def holds_user(self, user: UserId) -> bool:
        """Whether any record in the tables is *user*'s."""
        return await _in_thread(lambda: _holds_user(self._folder / DATABASE, user))

    async def scrub(self) -> Scrubbed:
        """Take out of the files what Chroma deleted before; durable when it returns.

        Cancelling leaves some of it, and the files whole.

        Raises:
            StoreUnavailable: something was in the way; again is safe.
        """
        begun = anyio.current_time()
        await _in_thread(lambda: _while_serving(self._folder / DATABASE))
        async with self._writes_held():
            rewriting = anyio.current_time()
            await _in_thread(lambda: _rewrite(self._folder / DATABASE))
            rewrite_s = anyio.current_time() - rewriting
        holding = anyio.current_time()
        async with self._held("scrubbing"):
            vectors = await _in_thread(lambda: _while_stopped(self._folder))
        done = anyio.current_time()
        log.info(
            "store.scrubbed",
            took_s=round(done - begun, 2),
            rewrite_s=round(rewrite_s, 2),
            held_s=round(done - holding, 2),
            vectors=vectors,
        )
        return Scrubbed(rewrite_s, done - holding, vectors)


def _while_serving(database: Path) -> None:
    with opened(database, writable=True) as connection:
        blank_log(connection)
        merge_words(connection)


def _rewrite(database: Path) -> None:
    _check_room(database)
    with opened(database, writable=True) as connection:
        if not written_back(connection):
            raise StoreUnavailable(IN_USE)
        compact(connection)


def _check_room(database: Path) -> None:
    """Begin nothing that fills the disk: others would not be able to write meanwhile.

    Raises:
        StoreUnavailable: a copy and a log as large as *database* do not fit.
    """
    needed_bytes = 2 * database.stat().st_size + NEEDED_BYTES
    free_bytes = shutil.disk_usage(database.parent).free
    if free_bytes < needed_bytes:
        raise StoreUnavailable(
            f"writing {database} anew needs {needed_bytes // 1_000_000} MB, and "
            f"{free_bytes // 1_000_000} MB are free"
        )


def _while_stopped(folder: Path) -> int:
    with opened(folder / DATABASE, writable=True) as connection:
        vectors = blank_vectors(folder, connection)
        remove_orphans(folder, connection)
        if not truncate_wal(connection):
            raise StoreUnavailable(IN_USE)
        return vectors


def _holds_user(database: Path, user: UserId) -> bool:
    with opened(database) as connection:
        return holds_user(connection, user)


async def _in_thread(work: Callable[[], T]) -> T:
    """*work*, in a thread and to its end, cancelled or not.

    Raises:
        StoreUnavailable: an index is damaged, or a file cannot be written.
    """
    try:
        return await anyio.to_thread.run_sync(work)
    except (IndexFault, OSError) as error:
        raise StoreUnavailable(f"Chroma's files cannot be scrubbed: {one_line(error)}") from error
