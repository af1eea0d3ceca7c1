"""``python -m memory backup``, ``restore`` and ``verify``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from memory.messages import MessageId
from memory.upkeep import manifest
from memory.upkeep.backup import back_up, back_up_into, database_of
from memory.upkeep.comparison import Gone, compare
from memory.upkeep.configured import DataDir, configured
from memory.upkeep.layouts import setting_of
from memory.upkeep.ledger import FILE, SqliteLedger
from memory.upkeep.manifest import Manifest
from memory.upkeep.restore import restore
from memory.upkeep.store_file import StoreFile
from memory.upkeep.terminal import counted, told
from memory.upkeep.vector_segments import DATABASE

INSTEAD: Final = (
    "use that server's own means, or `python -m chat_server export` for one user's messages"
)

Backup = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's folder.")]


def backup_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new backup's folder.")],
    data_dir: DataDir = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Make the backup in DIR, named for the time; of those, the newest so many stay.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Back up the store, while the server runs or not.

    All messages and conversations as they are at one moment, in one SQLite file, with a manifest
    and checksums. A backup that was interrupted never looks whole. Not in it: the index of
    vectors (rebuilt from the words), secrets (`data/secrets`), the ledger of erasures
    (`data/control.sqlite`).

    Examples: python -m memory backup /backup/today; python -m memory backup /backup/daily --keep 7
    """
    files = configured(data_dir=data_dir).files_for("no backup can be made", INSTEAD)
    removed: list[Path] = []
    with told() as report:
        if keep is None:
            found = back_up(files, folder, report)
        else:
            folder, found, removed = back_up_into(files, folder, keep, report)
    typer.echo(f"{folder}: {_described(found)}")
    for old in removed:
        typer.echo(f"removed: {old}")


def restore_command(
    folder: Backup,
    data_dir: DataDir = None,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the store that is there.")
    ] = False,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The data folder (or a copy) whose ledger of erasures is applied as well.",
            show_default=False,
        ),
    ] = None,
    without_ledger: Annotated[
        bool,
        typer.Option(
            "--without-ledger", help="There is no ledger: who was erased since comes back."
        ),
    ] = False,
) -> None:
    """Make a backup the store of a data folder; its server must be stopped.

    Checks the backup first. Whoever was erased since it was made stays erased: the ledger of the
    data folder is applied, on a new machine the one that --ledger names. Killed at any moment, the
    folder holds the old store or the new one.

    The server can be started at once: history is complete, and recall as soon as the vectors are
    made again from the words, in the background (or now: python -m memory heal).

    Example: python -m memory restore /backup/today --replace
    """
    files = configured(data_dir=data_dir).files_for("nothing can be restored", INSTEAD)
    with told() as report:
        found = restore(
            folder,
            files,
            replace=replace,
            ledger_folder=ledger,
            without_ledger=without_ledger,
            report=report,
        )
    typer.echo(f"restored to {files}: {_described(found.manifest)}")
    if found.left_out.users or found.left_out.messages:
        typer.echo(
            "left out of the backup, because erased since: "
            f"{counted(found.left_out.users, 'user')}, "
            f"{counted(found.left_out.messages, 'single message')}"
        )
    typer.echo(f"config.toml, [chroma]: {setting_of(found.manifest.layout)}")


def verify_command(
    folder: Backup,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA_DIR",
            help="Compare with the store in this data folder, whose server may run.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check a backup: checksums, the database itself, the manifest's counts.

    With --against, every message of the backup must stand in that store, with the same words,
    owner and place, unless it was deleted since. Exits with 1 if anything is wrong.
    """
    with told() as report:
        found = manifest.checked(folder, report)
        if against is None:
            typer.echo(f"{folder} is whole: {_described(found)}")
            return
        with (
            StoreFile.opened(folder / DATABASE, still=True) as backup,
            StoreFile.opened(database_of(against), still=False) as store,
            _erased_since(against, found.created_at) as gone,
        ):
            differences = compare(backup, store, gone, report)
    for example in differences.examples:
        typer.echo(example)
    typer.echo(
        f"{counted(differences.compared, 'message')} of {folder} compared with {against}: "
        f"{differences.missing:,} missing, {differences.changed:,} changed, "
        f"{differences.deleted:,} deleted since"
    )
    if differences.losses:
        raise typer.Exit(1)


@contextmanager
def _erased_since(data_dir: Path, since: float) -> Iterator[Gone]:
    """What the ledger of *data_dir*, if it has one, says of a message."""
    if not (data_dir / FILE).is_file():
        yield lambda _user, _message: False
        return
    with closing(SqliteLedger.open(data_dir)) as ledger:
        yield (
            lambda user, message: (
                ledger.erased_user(user, since)
                or bool(ledger.erased_messages([MessageId(message)]))
            )
        )


def _described(found: Manifest) -> str:
    size_bytes = sum(it.bytes for it in found.files.values())
    return (
        f"{counted(found.messages, 'message')} of {counted(found.users, 'user')} "
        f"as of {found.when}, "
        f"{size_bytes / 1e6:,.1f} MB"
    )
