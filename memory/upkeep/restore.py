"""A backup becomes the store of a data folder: all of it, or the store stays what it was.

The new store is made beside the old one and gets its final name only when it is whole. From then
on it is the store: a restore that was killed later is brought to its end at the next start, of
the server or of this command. Index files are not restored; they are rebuilt from the words.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import msgspec

from memory.data_folder import hold
from memory.errors import UpkeepRefused
from memory.journal_folders import journal_folders
from memory.upkeep import ledger as ledgers_module
from memory.upkeep import manifest
from memory.upkeep.ledger import Ledger, SqliteLedger
from memory.upkeep.left_out import LeftOut, leave_out_erased
from memory.upkeep.manifest import Manifest
from memory.upkeep.schema_guard import check_database
from memory.upkeep.store_file import StoreFile
from memory.upkeep.synced_files import sync
from memory.upkeep.terminal import Report
from memory.upkeep.vector_segments import DATABASE
from memory.warm_files import WARM

STORE: Final = "chroma"
COPYING: Final = "chroma.restoring"
RESTORED: Final = "chroma.restored"
"""Whole, and from the moment it has this name the store; a rename from its place."""
REPLACED: Final = "chroma.replaced"
OF_THE_OLD_STORE: Final = ("healing.json", WARM)
"""What speaks of the store that is replaced, and would be held against the new one; so do the
journals."""

SPARE_BYTES: Final = 64 << 20


class Restored(msgspec.Struct, frozen=True):
    """What stands in the restored store, told as a backup of it would, and what was left out."""

    manifest: Manifest
    left_out: LeftOut


def restore(
    backup: Path,
    data_dir: Path,
    *,
    replace: bool,
    ledger_folder: Path | None,
    without_ledger: bool,
    report: Report,
) -> Restored:
    """Make the backup in *backup* the store of *data_dir*, whose server is stopped.

    What was erased since stays erased: by the ledger of *data_dir*, and by the one in
    *ledger_folder*, which becomes that of a data folder that has none. Blocks.

    Raises:
        DataFolderInUse: a server runs on *data_dir*.
        UpkeepRefused: the backup is not sound, there is a store and not *replace*, there is no
            ledger and not *without_ledger*, or it cannot be written. The old store stands.
    """
    with ExitStack() as stack:
        stack.enter_context(hold(data_dir))
        finish_restore(data_dir)
        if (data_dir / STORE / DATABASE).exists() and not replace:
            raise UpkeepRefused(
                f"{data_dir} holds a store already; to put the backup in its place, and lose it, "
                "give --replace"
            )
        found = manifest.checked(backup, report)
        ledgers = _ledgers(data_dir, ledger_folder, stack, without=without_ledger)
        try:
            folder = _fresh(data_dir / COPYING)
            _copy(backup, folder, found, report)
            check_database(folder / DATABASE)
            left_out = leave_out_erased(folder / DATABASE, ledgers, found.created_at, report)
            sync(folder / DATABASE)
            sync(folder)
            stands = _described(folder / DATABASE, found.created_at)
            folder.rename(data_dir / RESTORED)
            sync(data_dir)
            finish_restore(data_dir)
        except OSError as error:
            raise UpkeepRefused(f"{data_dir} cannot be written: {error.strerror}") from error
    return Restored(stands, left_out)


def finish_restore(data_dir: Path) -> bool:
    """Bring a restore that is whole to its end; whether there was one. Nothing runs on *data_dir*.

    Safe at any time and after any interruption; to be called before a store is opened.

    Raises:
        OSError: the folder cannot be written.
    """
    store, restored, replaced = (data_dir / name for name in (STORE, RESTORED, REPLACED))
    begun = restored.exists()
    if begun:
        if store.exists():
            _remove(replaced)
            store.rename(replaced)
        for path in (*journal_folders(data_dir), *(data_dir / name for name in OF_THE_OLD_STORE)):
            _remove(path)
        sync(data_dir)
        restored.rename(store)
        sync(data_dir)
    if store.exists():
        _remove(replaced)
    _remove(data_dir / COPYING)
    return begun


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fresh(folder: Path) -> Path:
    _remove(folder)
    folder.mkdir(mode=0o700)
    return folder


def _copy(backup: Path, folder: Path, found: Manifest, report: Report) -> None:
    """Copy the database, and see that what was copied is what was checked."""
    facts = found.files.get(DATABASE)
    if facts is None:
        raise UpkeepRefused(f"{backup / manifest.MANIFEST} names no {DATABASE}")
    if shutil.disk_usage(folder).free < 2 * facts.bytes + SPARE_BYTES:
        raise UpkeepRefused(
            f"restoring needs {2 * facts.bytes / 1e6:,.0f} MB free in {folder.parent}"
        )
    digest = hashlib.sha256()
    target = os.open(folder / DATABASE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (backup / DATABASE).open("rb") as source, os.fdopen(target, "wb") as file:
        copied = 0
        while chunk := source.read(manifest.CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
            copied += len(chunk)
            report("copying", copied / max(1, facts.bytes))
    if digest.hexdigest() != facts.sha256:
        raise UpkeepRefused(f"{backup / DATABASE} was altered while it was copied")


def _described(database: Path, created_at: float) -> Manifest:
    with StoreFile.opened(database, still=True) as store:
        return manifest.describe(store, {DATABASE: manifest.file_facts(database)}, created_at)


def _ledgers(
    data_dir: Path, given: Path | None, stack: ExitStack, *, without: bool
) -> Sequence[Ledger]:
    own = ledgers_module.holds_ledger(data_dir)
    if given is not None:
        _check_ledger(given)
        if not own:
            _adopt_ledger(given, data_dir)
            own, given = True, None
    elif not own and not without:
        raise UpkeepRefused(
            f"{data_dir} has no ledger of erasures ({ledgers_module.FILE}): users who were erased "
            "since the backup would come back. Give --ledger FOLDER, the data folder that the "
            "ledger was copied from, or --without-ledger if there is none"
        )
    folders = [data_dir] if own else []
    folders += [given] if given is not None else []
    ledgers = [SqliteLedger.open(folder) for folder in folders]
    for ledger in ledgers:
        stack.callback(ledger.close)
    return ledgers


def _check_ledger(folder: Path) -> None:
    for name in (ledgers_module.FILE, ledgers_module.KEY_FILE):
        if not (folder / name).is_file():
            raise UpkeepRefused(
                f"{folder} holds no ledger: {name} is not there; {ledgers_module.FILE} and "
                f"{ledgers_module.KEY_FILE} belong together"
            )


def _adopt_ledger(given: Path, data_dir: Path) -> None:
    """Make the ledger in *given* that of *data_dir*; the key first, without which it is none."""
    for name in (ledgers_module.KEY_FILE, ledgers_module.FILE):
        partial = data_dir / f"{name}.partial"
        _remove(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600))
        if name == ledgers_module.KEY_FILE:
            partial.write_bytes((given / name).read_bytes())
        else:
            with (
                closing(sqlite3.connect(given / name)) as source,
                closing(sqlite3.connect(partial)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
        sync(partial)
        partial.replace(data_dir / name)
    sync(data_dir)
