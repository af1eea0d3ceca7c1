"""The ledger of erasures: what was to be erased, when that was asked for, and when it was done.

It is control data: in a file of its own, not in Chroma and not in a backup of it, so that a
restored backup can be held against it. The contract is small; another database can keep it.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from memory.errors import UpkeepRefused
from memory.messages import MessageId, UserId
from memory.upkeep.synced_files import write_synced

FILE: Final = "control.sqlite"
KEY_FILE: Final = "erasure-key"
KEY_BYTES: Final = 32
OWNER_ONLY: Final = 0o600
LOCK_S: Final = 5.0

_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS erasures (
        id TEXT PRIMARY KEY,
        user_hash BLOB NOT NULL,
        user TEXT,
        requested_at REAL NOT NULL,
        finished_at REAL
    );
    CREATE TABLE IF NOT EXISTS erased_messages (
        message TEXT NOT NULL,
        erasure TEXT NOT NULL REFERENCES erasures (id),
        PRIMARY KEY (message, erasure)
    ) WITHOUT ROWID;
"""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One entry: all of a user, or those *messages* of a user.

    ``user`` is known while there is something to do, and ``None`` from then on: what stays is a
    keyed hash. Times in seconds since the epoch.
    """

    id: str
    user: UserId | None
    messages: tuple[MessageId, ...] = ()
    requested_at: float
    finished_at: float | None = None


class Ledger(Protocol):
    """Erasures, kept for good; every method is durable when it returns and blocks for a moment."""

    def begin(self, user: UserId, messages: Sequence[MessageId] = ()) -> Erasure:
        """Enter an erasure of *messages* of *user*, or of all of *user* where there are none.

        One of the same kind that is not finished is returned instead of a second one.
        """
        ...

    def finish(self, erasure: Erasure) -> None:
        """Enter the time at which *erasure* was finished, and forget the user's name."""
        ...

    def unfinished(self) -> list[Erasure]:
        """What is to be done still, oldest first."""
        ...

    def changes(self) -> int:
        """Another number than before once others, of any process, have entered something."""
        ...

    def find(self, erasure: str) -> Erasure | None:
        """The erasure of that id, without its messages."""
        ...

    def latest(self, limit: int) -> list[Erasure]:
        """The last ones, newest first, without their messages."""
        ...

    def erased_user(self, user: UserId, since: float) -> bool:
        """Whether an erasure of all of *user* was finished after *since*, or is not finished: so a
        store that was copied at *since* holds what must not come back.
        """
        ...

    def erased_messages(self, ids: Sequence[MessageId]) -> set[MessageId]:
        """Those of *ids* that were to be deleted, whenever: no id stands for two messages."""
        ...


class SqliteLedger:
    """A ledger in *data_dir*: WAL, each entry synced, for its owner alone (mode 600).

    Users are hashed with a key that lies beside it. To recognise a restored user's records both
    files are needed; neither tells a name.
    """

    def __init__(self, connection: sqlite3.Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key
        self._lock = threading.RLock()
        """Worker threads take turns: a transaction is the connection's, not a thread's."""

    @classmethod
    def open(cls, data_dir: Path) -> Self:
        """The ledger of *data_dir*, made if there is none.

        Raises:
            UpkeepRefused: it cannot be opened or made.
        """
        path = data_dir / FILE
        try:
            key = _load_or_make_key(data_dir / KEY_FILE, has_ledger=holds_ledger(data_dir))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY))
            path.chmod(OWNER_ONLY)
            connection = sqlite3.connect(
                path, timeout=LOCK_S, isolation_level=None, check_same_thread=False
            )
            connection.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
            )
            connection.executescript(_TABLES)
            # A kill after a name was taken out and before that left the log is made good here.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (OSError, sqlite3.Error) as error:
            raise UpkeepRefused(
                f"{path}: the ledger of erasures cannot be used: {error}"
            ) from error
        return cls(connection, key)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin(self, user: UserId, messages: Sequence[MessageId] = ()) -> Erasure:
        wanted = tuple(dict.fromkeys(messages))
        with self._used():
            # Before the look, so that two processes do not enter the same.
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                for known in self.unfinished():
                    if known.user == user and set(known.messages) == set(wanted):
                        return known
                erasure = Erasure(
                    id=secrets.token_hex(16), user=user, messages=wanted, requested_at=time.time()
                )
                self._connection.execute(
                    "INSERT INTO erasures VALUES (?, ?, ?, ?, NULL)",
                    (erasure.id, self._hash(user), user, erasure.requested_at),
                )
                self._connection.executemany(
                    "INSERT INTO erased_messages VALUES (?, ?)",
                    [(message, erasure.id) for message in wanted],
                )
            return erasure

    def finish(self, erasure: Erasure) -> None:
        with self._used():
            self._connection.execute(
                "UPDATE erasures SET finished_at = ?, user = NULL WHERE id = ?",
                (time.time(), erasure.id),
            )
            # The name is gone from the file only once the log was written back over it, for which
            # SQLite waits for readers; one that reads for longer leaves it to the next opening.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def changes(self) -> int:
        with self._used():
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def unfinished(self) -> list[Erasure]:
        with self._used():
            rows = self._connection.execute(
                "SELECT id, user, requested_at FROM erasures"
                " WHERE finished_at IS NULL ORDER BY requested_at"
            )
            return [
                Erasure(
                    id=row[0], user=row[1], messages=self._messages(row[0]), requested_at=row[2]
                )
                for row in rows.fetchall()
            ]

    def find(self, erasure: str) -> Erasure | None:
        return next(iter(self._entries("WHERE id = ?", erasure)), None)

    def latest(self, limit: int) -> list[Erasure]:
        return self._entries("ORDER BY requested_at DESC LIMIT ?", limit)

    def _entries(self, which: str, value: str | int) -> list[Erasure]:
        query = f"SELECT id, user, requested_at, finished_at FROM erasures {which}"  # noqa: S608  # ours
        with self._used():
            rows = self._connection.execute(query, (value,)).fetchall()
        return [
            Erasure(id=row[0], user=row[1], requested_at=row[2], finished_at=row[3]) for row in rows
        ]

    def erased_user(self, user: UserId, since: float) -> bool:
        with self._used():
            found = self._connection.execute(
                "SELECT 1 FROM erasures WHERE user_hash = ? AND (finished_at IS NULL OR"
                " finished_at > ?) AND id NOT IN (SELECT erasure FROM erased_messages) LIMIT 1",
                (self._hash(user), since),
            )
            return found.fetchone() is not None

    def erased_messages(self, ids: Sequence[MessageId]) -> set[MessageId]:
        find = "SELECT 1 FROM erased_messages WHERE message = ? LIMIT 1"
        with self._used():
            return {it for it in ids if self._connection.execute(find, (it,)).fetchone()}

    def _messages(self, erasure: str) -> tuple[MessageId, ...]:
        rows = self._connection.execute(
            "SELECT message FROM erased_messages WHERE erasure = ? ORDER BY message", (erasure,)
        )
        return tuple(MessageId(row[0]) for row in rows)

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Within the block the file is this thread's.

        Raises:
            UpkeepRefused: it cannot be read or written.
        """
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise UpkeepRefused(f"the ledger of erasures cannot be used: {error}") from error

    def _hash(self, user: UserId) -> bytes:
        return hmac.digest(self._key, user.encode(), "sha256")


def holds_ledger(data_dir: Path) -> bool:
    """Whether *data_dir* has a ledger; an empty file, as a damaged disk may leave it, is none."""
    path = data_dir / FILE
    return path.is_file() and path.stat().st_size > 0


def _load_or_make_key(path: Path, *, has_ledger: bool) -> bytes:
    """The key in *path*, which is made, whole and synced, for its owner alone, if there is none.

    Raises:
        UpkeepRefused: it is not a key, or not there while there is a ledger: without it nobody who
            was erased can be recognised.
    """
    if not path.exists():
        if has_ledger:
            raise UpkeepRefused(
                f"{path} is missing: restore it from where it was copied to, together with {FILE}"
            )
        write_synced(path, secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise UpkeepRefused(f"{path} is damaged: restore it from where it was copied to")
    return key
