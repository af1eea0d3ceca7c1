"""One server for one data folder, whose workers hold a slot in it each."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from memory.errors import DataFolderInUse, DataFolderUnusable

SLOTS: Final = "run"
"""The folder's name in the data folder, for what only the processes of now need."""
ENDING_S: Final = 30.0
"""What workers whose supervisor was killed may take to end."""
LOOK_EVERY_S: Final = 0.05


@contextmanager
def hold(folder: Path, *, ending_s: float = ENDING_S) -> Iterator[None]:
    """Make *folder* (mode 700) if it is not there, and hold it for this process alone.

    The lock is the kernel's and ends with the process, however that ends: a ``lock`` file left
    behind means nothing. Children do not inherit it. Workers of a server that was killed are
    waited for, for at most *ending_s*; blocks.

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
        _sign(lock)
        deadline = time.monotonic() + ending_s
        for slot in sorted((folder / SLOTS).glob("worker-*")):
            os.close(_waited_for(folder, slot, deadline))
        yield
    finally:
        os.close(lock)


@contextmanager
def hold_slot(folder: Path, slot: int, *, ending_s: float = ENDING_S) -> Iterator[None]:
    """Hold the slot of a worker in *folder*, likewise, while another process holds the folder.

    Raises:
        DataFolderInUse: another process holds the slot and does not end.
        DataFolderUnusable: the folder cannot be written to.
    """
    path = slot_path(folder, slot)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        lock = _waited_for(folder, path, time.monotonic() + ending_s)
    except OSError as fault:
        raise DataFolderUnusable(folder, fault.strerror or str(fault)) from fault
    try:
        _sign(lock)
        yield
    finally:
        os.close(lock)


def slot_path(folder: Path, slot: int) -> Path:
    """The file that the worker of that *slot* has locked."""
    return folder / SLOTS / f"worker-{slot}"


def _waited_for(folder: Path, path: Path, deadline: float) -> int:
    """The open file *path*, locked as soon as nobody else holds it."""
    lock = os.open(path, os.O_RDWR)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = _holder(lock)
                os.close(lock)
                raise DataFolderInUse(folder, holder) from None
            time.sleep(LOOK_EVERY_S)
        else:
            return lock


def _sign(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _holder(lock: int) -> int | None:
    """The process id in the lock file; ``None`` while its holder is still writing it."""
    written = os.pread(lock, 32, 0).strip()
    return int(written) if written.isdigit() else None
