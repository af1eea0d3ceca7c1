"""``python -m memory backup``, ``restore`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from memory.upkeep import manifest
from memory.upkeep.backup import back_up, back_up_into, database_of
from memory.upkeep.comparison import compare
from memory.upkeep.configured import configured
from memory.upkeep.manifest import Manifest
from memory.upkeep.store_file import DATABASE, StoreFile
from memory.upkeep.terminal import told

INSTEAD: Final = (
    "use that server's own means, or `python -m chat_server export` for one user's messages"
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="The server's data folder; by default the configured one.",
        show_default=False,
    ),
]
Backup = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's folder.")]


def backup_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new backup's folder.")],
    data_dir: DataDir = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Make the backup within DIR, named for the time, and keep the newest so many.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Back up the store, while the server runs or not.

    All messages and conversations as they are at one moment, in one SQLite file, with a manifest
    and checksums. A backup that was interrupted never looks whole. Not in it: the index of
    vectors (rebuilt from the words), secrets (`data/secrets`), the ledger of erasures
    (`data/control.sqlite`).

    Examples: python -m memory backup /backup/today; python -m memory backup /backup --keep 7
    """
    files = configured(data_dir=data_dir).files_for("no backup can be made", INSTEAD)
    with told() as report:
        if keep is None:
            found = back_up(files, folder, report)
        else:
            folder, found = back_up_into(files, folder, keep, report)
    typer.echo(f"{folder}: {_described(found)}")


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
        ):
            differences = compare(backup, store, lambda _user, _message: False, report)
    for example in differences.examples:
        typer.echo(example)
    typer.echo(
        f"{differences.compared:,} messages of {folder} compared with {against}: "
        f"{differences.missing:,} missing, {differences.changed:,} changed, "
        f"{differences.deleted:,} deleted since"
    )
    if differences.losses:
        raise typer.Exit(1)


def _described(found: Manifest) -> str:
    size_bytes = sum(it.bytes for it in found.files.values())
    return (
        f"{found.messages:,} messages of {found.users:,} users as of {found.when}, "
        f"{size_bytes / 1e6:,.1f} MB"
    )
