"""Files of warm copies, one for each user; blocking, for any thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from memory.messages import UserId, sha256_of_parts

WARM: Final = "warm"
"""The folder's name in the data folder."""
MOST_BYTES: Final = 2_000_000_000
_SUFFIX: Final = ".warm"
_UNFINISHED: Final = ".tmp"


class Ticket:
    """Leave to write one file; void once its user is forgotten, or another is given out."""


class WarmFiles:
    """Files in *folder* (mode 700, files 600), together at most *most_bytes*.

    Their names say nothing of whose they are. Any of them may be deleted at any time. When they
    are too large together, those that were written first go. Several processes may use the same
    folder: of two that write a user's file the later one's stands, whole.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._tickets: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    def read(self, user: UserId) -> bytes | None:
        """What was written last for *user*.

        Raises:
            OSError: it is there and cannot be read.
        """
        try:
            return self._path(_name(user)).read_bytes()
        except FileNotFoundError:
            return None

    def ticket(self, user: UserId) -> Ticket:
        """Leave to :meth:`write` what *user* has said so far."""
        ticket = Ticket()
        with self._lock:
            self._tickets[_name(user)] = ticket
        return ticket

    def write(self, user: UserId, ticket: Ticket, data: bytes) -> bool:
        """Replace *user*'s file by one with *data*; whether *ticket* still allowed it.

        Raises:
            OSError: it could not be written; the former one may stand.
        """
        name = _name(user)
        unfinished = self._folder / f"{name}.{os.getpid()}{_UNFINISHED}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock:
                if self._tickets.get(name) is not ticket:
                    return False
                unfinished.unlink(missing_ok=True)
                file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as opened:
                opened.write(data)
            with self._lock:
                allowed = self._tickets.get(name) is ticket
                if allowed:
                    unfinished.rename(self._path(name))
                    del self._tickets[name]
        finally:
            unfinished.unlink(missing_ok=True)
        self._trim()
        return allowed

    def void(self, user: UserId) -> None:
        """Let nothing of what *user* has said so far be written; does not touch the disk."""
        with self._lock:
            self._tickets.pop(_name(user), None)

    def forget(self, user: UserId) -> None:
        """Leave nothing of *user*, also of what is being written.

        Raises:
            OSError: something may be left.
        """
        name = _name(user)
        with self._lock:
            self._tickets.pop(name, None)
            for path in (*self._folder.glob(f"{name}*{_UNFINISHED}"), self._path(name)):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Leave nothing of anybody.

        Raises:
            OSError: something may be left.
        """
        with self._lock:
            self._tickets.clear()
            for path in self._files():
                path.unlink(missing_ok=True)

    def _trim(self) -> None:
        with self._lock:
            stats = list(self._stats())
            size = sum(stat.st_size for _, stat in stats)
            for path, stat in sorted(stats, key=lambda each: each[1].st_mtime_ns):
                if size <= self._most_bytes:
                    return
                path.unlink(missing_ok=True)
                size -= stat.st_size

    def _stats(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._files(_SUFFIX):
            with suppress(FileNotFoundError):  # another process was faster
                yield path, path.stat()

    def _files(self, *suffixes: str) -> list[Path]:
        wanted = suffixes or (_SUFFIX, _UNFINISHED)
        return [path for path in self._folder.glob("*") if path.suffix in wanted]

    def _path(self, name: str) -> Path:
        return self._folder / (name + _SUFFIX)


def _name(user: UserId) -> str:
    return sha256_of_parts("warm", user).hex()
