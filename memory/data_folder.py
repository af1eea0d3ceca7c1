"""One server for one data folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memory.errors import DataFolderInUse, DataFolderUnusable


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make *folder* (mode 700) if it is not there, and hold it for this process alone.

    The lock is the kernel's and ends with the process, however that ends: a ``lock`` file left
    behind means nothing. Children do not inherit it.

    Raises:
        DataFolderInUse: another process holds it; names the folder and that process.
        DataFolderUnusable: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as fault:
        raise DataFolderUnusable(folder, fault.strerror or str(fault)) from fault
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderInUse(folder, _holder(lock)) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(lock: int) -> int | None:
    """The process id in the lock file; ``None`` while its holder is still writing it."""
    written = os.pread(lock, 32, 0).strip()
    return int(written) if written.isdigit() else None
