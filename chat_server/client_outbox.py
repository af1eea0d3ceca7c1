"""Messages on disk until they are accepted: a bot that is killed sends them when it comes back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
import msgspec
import structlog
from anyio import CancelScope, to_thread

from chat_server.client_errors import OutboxFailed
from chat_server.client_runs import Frame

log = structlog.get_logger(__name__)

MAX_KEPT: Final = 1_000
"""Messages that may wait to be accepted."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS message (place INTEGER PRIMARY KEY, id TEXT UNIQUE, frame BLOB);
CREATE TABLE IF NOT EXISTS owner (user TEXT);
"""


class OutboxFile:
    """The file; for one process at a time, readable by its owner alone. All methods block, for the
    time of an fsync where they write, and raise ``OutboxFailed`` where the file cannot be used.

    It is a SQLite database whose write-ahead log is synced at each change: what was written before
    the process or the machine died is there, and a half-written end is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            self._base = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as fault:
            raise self._failed(fault) from fault
        try:
            for pragma in (
                "locking_mode=EXCLUSIVE",  # nobody else sends what stands here
                "journal_mode=WAL",
                "synchronous=FULL",
                "secure_delete=ON",  # what was accepted is not left lying about
            ):
                self._base.execute(f"PRAGMA {pragma}")
            self._base.executescript(_SCHEMA)
            owner = self._base.execute("SELECT user FROM owner").fetchone()
            self.user: str | None = owner[0] if owner else None
            """Whose messages these are, once that is known."""
        except sqlite3.Error as fault:
            self._base.close()
            raise self._failed(fault) from fault

    def frames(self) -> list[Frame]:
        """The messages that were not accepted, in the order in which they were said."""
        try:
            rows = self._base.execute("SELECT frame FROM message ORDER BY place").fetchall()
            return [msgspec.json.decode(frame, type=Frame) for (frame,) in rows]
        except (sqlite3.Error, msgspec.DecodeError) as fault:
            raise self._failed(fault) from fault

    def change(self, kept: list[Frame], settled: list[str]) -> None:
        """Add the messages *kept* and remove those *settled*, all of it or nothing."""
        try:
            with self._base:
                self._base.execute("BEGIN")
                self._base.executemany(
                    "INSERT OR IGNORE INTO message (id, frame) VALUES (?, ?)",
                    [(frame["id"], msgspec.json.encode(frame)) for frame in kept],
                )
                self._base.executemany(
                    "DELETE FROM message WHERE id = ?", [(id_,) for id_ in settled]
                )
        except sqlite3.Error as fault:
            raise self._failed(fault) from fault

    def claim(self, user: str) -> None:
        """Say whose messages these are: only that user's client will send them."""
        try:
            with self._base:
                self._base.execute("BEGIN")
                self._base.execute("DELETE FROM owner")
                self._base.execute("INSERT INTO owner VALUES (?)", (user,))
        except sqlite3.Error as fault:
            raise self._failed(fault) from fault
        self.user = user

    def close(self) -> None:
        """Let others have the file."""
        self._base.close()

    def _failed(self, fault: Exception) -> OutboxFailed:
        return OutboxFailed(f"{self._path}: {fault}")


Written = Callable[[OutboxFailed | None], None]
"""Told when a message is on the disk, or why it is not; must not block."""


class Outbox:
    """Writes to the file at *path* beside the event loop, in order, whatever waits in one go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: OutboxFile | None = None
        self._kept: list[tuple[Frame, Written]] = []
        self._settled: list[str] = []
        self._owner: str | None = None
        self._changed = anyio.Event()

    async def open(self) -> list[Frame]:
        """Open the file; what was not accepted the last time, in its order.

        Raises:
            OutboxFailed: it cannot be used, or another process has it.
        """
        self._file = await to_thread.run_sync(OutboxFile, self._path)
        return await to_thread.run_sync(self._file.frames)

    def keep(self, frame: Frame, written: Written) -> None:
        """Write *frame* down, soon."""
        if frame["id"] in self._settled:  # said once more: it is not settled any longer
            self._settled.remove(str(frame["id"]))
        self._kept.append((frame, written))
        self._changed.set()

    def settle(self, id_: str) -> None:
        """The message *id_* was accepted, or never will be: forget it, soon. If the process dies
        before, it is sent once more, which is harmless.
        """
        self._settled.append(id_)
        self._changed.set()

    def belongs_to(self, user: str) -> bool:
        """Whether these are messages of *user*; nobody's become theirs."""
        if self._opened.user is None and self._owner is None:
            self._owner = user
            self._changed.set()
        return user in {self._opened.user, self._owner}

    async def run(self) -> None:
        """Write until cancelled; what is asked for until then is written."""
        try:
            while True:
                await self._changed.wait()
                self._changed = anyio.Event()
                await self._write()
        finally:
            await self._write()

    @property
    def _opened(self) -> OutboxFile:
        if self._file is None:
            raise OutboxFailed(f"{self._path}: not open")
        return self._file

    async def close(self) -> None:
        """Let other processes have the file."""
        if self._file is not None:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._file.close)
            self._file = None

    async def _write(self) -> None:
        """One change of the file. What fails is told, and what was settled is kept for the next."""
        kept, self._kept = self._kept, []
        settled, self._settled = self._settled, []
        owner, file = self._owner, self._opened
        frames = [frame for frame, _written in kept]
        failure: OutboxFailed | None = None
        try:
            with CancelScope(shield=True):  # as long as the disk takes
                if owner is not None and file.user is None:
                    await to_thread.run_sync(file.claim, owner)
                if kept or settled:
                    await to_thread.run_sync(file.change, frames, settled)
        except OutboxFailed as fault:
            log.warning("outbox.not_written", messages=len(kept), reason=str(fault))
            failure = fault
            self._settled = settled + self._settled
        for _frame, written in kept:
            written(failure)
