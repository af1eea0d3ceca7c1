"""``python -m memory migrate``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import anyio
import anyio.to_thread
import typer

from memory.child_process import ChildProcess
from memory.chroma_client import Address, ChromaClient
from memory.chroma_process import ChromaProcess
from memory.data_folder import hold
from memory.errors import MemoryFault, UpkeepRefused
from memory.placement import Placement, make_placement
from memory.upkeep.backup import database_of
from memory.upkeep.configured import DataDir, StorePlace, configured
from memory.upkeep.inspection import Inspection, Inspector
from memory.upkeep.keeper import IN_USE, this_boot
from memory.upkeep.layouts import setting_of
from memory.upkeep.migration import Migrated, Migration, at_ease
from memory.upkeep.migration_store import MigrationStore
from memory.upkeep.rebuilds import Rebuilds
from memory.upkeep.restore import finish_restore
from memory.upkeep.synced_files import write_synced
from memory.upkeep.terminal import Report, told

TIMEOUT_S: Final = 60.0
START_S: Final = 60.0

Relieve = Callable[[], Awaitable[None]]


class PlacementChoice(StrEnum):
    """The placements there are."""

    SHARDED = "sharded"
    PER_USER = "per_user"


def migrate_command(
    to: Annotated[PlacementChoice, typer.Option("--to", help="How users are to be placed.")],
    shards: Annotated[
        int, typer.Option(min=1, max=64, help="How many collections, with sharded.")
    ] = 1,
    data_dir: DataDir = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A Chroma server; by default the configured chroma.url.", show_default=False
        ),
    ] = None,
    *,
    switch: Annotated[
        bool,
        typer.Option(
            "--switch", help="On a Chroma server: change over. No Tandem may be using it then."
        ),
    ] = False,
) -> None:
    """Lay the store out anew: a few collections for all users, one for each, other shards.

    All messages are copied into new collections, compared, and only then changed over in one
    step; until then the old ones stay as they are. Interrupted at any moment, run it again; with
    the old placement it undoes what was copied.

    The private Chroma of a data folder: stop the server first. A Chroma server (chroma.url):
    copies while the Tandems that use it go on; stop them, run it again with --switch, and start
    them with the new placement.

    Example: python -m memory migrate --to per_user
    """
    place = configured(data_dir=data_dir, url=url)
    target = make_placement(to.value, prefix=place.prefix, shards=shards)
    with told() as report:
        if place.url:
            found = anyio.run(partial(_migrate, place.url, target, report, switch=switch))
        else:
            with hold(place.data_dir):
                finish_restore(place.data_dir)
                database_of(place.data_dir)
                found = anyio.run(_on_files, place, target, report)
    typer.echo(_told(found, target))


async def _on_files(place: StorePlace, target: Placement, report: Report) -> Migrated:
    """Migrate the store of a data folder, with a Chroma for as long as it takes."""
    marker = place.data_dir / IN_USE

    async def mark() -> None:
        await anyio.to_thread.run_sync(write_synced, marker, this_boot().encode())

    def unmark(status: int) -> None:
        if status == 0:
            marker.unlink(missing_ok=True)

    process = ChromaProcess(place.data_dir, before_start=mark)
    await anyio.to_thread.run_sync(_check_indexes, place.data_dir, process.folder)
    child = ChildProcess(process, on_exit=unmark)
    outcome: Migrated | MemoryFault

    async def restart() -> None:
        async with child.stopped():
            pass
        await child.wait_ready(START_S)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        try:
            await child.wait_ready(START_S)
            outcome = await _migrate(
                lambda: process.url, target, report, switch=True, relieve=restart
            )
        except MemoryFault as fault:  # told as it is, not as a part of a group
            outcome = fault
        tasks.cancel_scope.cancel()
    if isinstance(outcome, MemoryFault):
        raise outcome
    return outcome


def _check_indexes(data_dir: Path, chroma: Path) -> None:
    rebuilds = Rebuilds(data_dir)
    Inspector(chroma, rebuilds).inspect(Inspection(deep=True))
    if len(rebuilds):
        raise UpkeepRefused(
            "vectors are missing, because an index was damaged or a backup restored: run "
            "`python -m memory heal`, then this again"
        )


async def _migrate(
    address: Address,
    target: Placement,
    report: Report,
    *,
    switch: bool,
    relieve: Relieve = at_ease,
) -> Migrated:
    client = ChromaClient(address, timeout_s=TIMEOUT_S)
    try:
        store = MigrationStore(client, target.prefix)
        return await Migration(store, target, report, relieve=relieve).run(switch=switch)
    finally:
        await client.aclose()


def _told(found: Migrated, target: Placement) -> str:
    setting = setting_of(target.layout)
    counts = f"{found.records:,} messages in {found.collections:,} collections"
    match found.ending:
        case "done":
            return f"{counts}; now set in config.toml, [chroma]: {setting}"
        case "copied":
            return (
                f"{counts} were copied; the store is still laid out as before. Stop all servers "
                "that use this Chroma, run this again with --switch, and start them with "
                f"{setting} in config.toml, [chroma]"
            )
        case "undone":
            return f"what was copied was removed; the store keeps {setting}"
        case "nothing":
            return f"the store is laid out so already: {setting}"
