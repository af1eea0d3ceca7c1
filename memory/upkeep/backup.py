"""Backups of a private Chroma, taken while it works.

A backup is a folder: one SQLite file with every message and conversation, and ``manifest.json``.
Index files are not in it, they are rebuilt from the words; nor are secrets and the ledger of
erasures, which must not travel back in time with the rest.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from memory.errors import UpkeepRefused
from memory.upkeep import manifest
from memory.upkeep.manifest import Manifest, describe, file_facts
from memory.upkeep.store_file import StoreFile
from memory.upkeep.synced_files import sync
from memory.upkeep.terminal import Report
from memory.upkeep.vector_segments import DATABASE

PAGES_PER_STEP: Final = 2_048
"""8 MB: some hundred steps a second, and a bar that moves."""

SPARE_BYTES: Final = 64 << 20
COPIED: Final = 0.7
"""The part of the time that copying takes; the rest is checking the copy."""


NAME: Final = "%Y-%m-%dT%H%M%S.%fZ"
"""How a backup that is one of many is called: for the time, UTC."""


def back_up(data_dir: Path, to: Path, report: Report) -> Manifest:
    """Copy the store in *data_dir* to the new folder *to*, as it is at one moment.

    Whatever was accepted before the call is in it. Servers go on reading and writing; what they
    write meanwhile waits in SQLite's log and makes it longer. Until it is whole and on the disk
    the backup is called ``.<name>.partial``; one that was killed is overwritten by the next.
    Blocks; belongs into a thread where there is an event loop.

    Raises:
        UpkeepRefused: there is no store, *to* exists or is in *data_dir*, the disk is too small,
            or the copy is damaged; nothing is left behind.
    """
    source = database_of(data_dir)
    if to.exists() or to.is_symlink():
        raise UpkeepRefused(f"{to} exists; a backup is never written over")
    _check_outside(data_dir, to)
    try:
        with _partial(to) as partial:
            found = _copy(source, partial, report)
            manifest.write(partial, found)
            sync(partial)
            partial.rename(to)
            sync(to.parent)
    except OSError as error:
        raise UpkeepRefused(f"the backup {to} cannot be written: {error.strerror}") from error
    return found


def back_up_into(
    data_dir: Path, folder: Path, keep: int, report: Report
) -> tuple[Path, Manifest, list[Path]]:
    """Make a backup in *folder*, named for the time, and remove all but the newest *keep* of
    those that were made so; the last are the removed ones, oldest first.

    Only a whole backup that is named for a time is counted and removed, and only after the new
    one is whole: what was put there under a name of its own is for somebody else to remove.
    Raises as :func:`back_up`.
    """
    database_of(data_dir)
    _check_outside(data_dir, folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UpkeepRefused(f"{folder} cannot be made: {error.strerror}") from error
    to = folder / datetime.now(UTC).strftime(NAME)
    found = back_up(data_dir, to, report)
    removed = [old for _, old in _backups_named_for_times(folder)[:-keep]]
    for old in removed:
        shutil.rmtree(old)
    return to, found, removed


def database_of(data_dir: Path) -> Path:
    """The database of the store in *data_dir*.

    Raises:
        UpkeepRefused: there is none.
    """
    path = data_dir / "chroma" / DATABASE
    if not path.is_file():
        raise UpkeepRefused(
            f"{data_dir} holds no store: {path} is not there; name the server's data folder"
        )
    return path


def _check_outside(data_dir: Path, to: Path) -> None:
    """Raises ``UpkeepRefused`` where *to* is in *data_dir*, whatever links lead there."""
    if to.resolve().is_relative_to(data_dir.resolve()):
        raise UpkeepRefused(
            f"{to} is in the data folder {data_dir}: whoever is erased would stay in that backup, "
            "and it would be lost with the store; name a folder outside of it"
        )


@contextmanager
def _partial(to: Path) -> Iterator[Path]:
    """An empty folder beside *to*, ours alone, that is gone at the end unless it was renamed."""
    folder = to.with_name(f".{to.name}.partial")
    to.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpkeepRefused(f"another backup to {to} is being made") from None
        for left in folder.iterdir():
            left.unlink()
        try:
            yield folder
        finally:
            if folder.exists():
                shutil.rmtree(folder)
    finally:
        os.close(lock)


def _copy(source: Path, folder: Path, report: Report) -> Manifest:
    target = folder / DATABASE
    target.touch(mode=0o600)
    with StoreFile.opened(source, still=False) as store:
        created_at = time.time()
        store.freeze()
        _check_space(folder, store.size_bytes())
        store.copy_to(
            target,
            PAGES_PER_STEP,
            lambda remaining, total: report("copying", COPIED * (1 - remaining / max(1, total))),
        )
    sync(target)
    report("checking the copy", COPIED)
    with StoreFile.opened(target, still=True) as copy:
        if faults := copy.faults(thorough=False):
            raise UpkeepRefused(
                f"the store itself is damaged, so there is no backup: {faults[0]}; run "
                "`python -m memory check`"
            )
        return describe(copy, {DATABASE: file_facts(target)}, created_at)


def _check_space(folder: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < wanted_bytes + SPARE_BYTES:
        raise UpkeepRefused(
            f"the backup needs {wanted_bytes / 1e6:,.0f} MB and {folder.parent} has "
            f"{free_bytes / 1e6:,.0f} MB free"
        )


def _backups_named_for_times(folder: Path) -> list[tuple[float, Path]]:
    """The whole backups in *folder* that :func:`back_up_into` has made, oldest first."""
    found: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and _is_named_for_a_time(path.name):
            try:
                found.append((manifest.read(path).created_at, path))
            except UpkeepRefused:
                continue  # whatever it is, it is not ours to remove
    return sorted(found)


def _is_named_for_a_time(name: str) -> bool:
    try:
        return datetime.strptime(name, NAME).replace(tzinfo=UTC).strftime(NAME) == name
    except ValueError:
        return False
