"""Erasing a user while no server runs: the same steps, without a server's memory around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from memory.child_process import ChildProcess
from memory.chroma_client import ChromaClient
from memory.chroma_erasure import ChromaErasure
from memory.chroma_process import ChromaProcess
from memory.errors import StoreUnavailable
from memory.journal import forget_offline
from memory.journal_folders import journal_folders
from memory.messages import UserId
from memory.store_gate import StoreGate
from memory.upkeep.configured import StorePlace
from memory.upkeep.ledger import SqliteLedger
from memory.upkeep.schema_guard import check_database
from memory.upkeep.scrubbing import Scrubber
from memory.upkeep.terminal import Report
from memory.upkeep.vector_segments import DATABASE
from memory.warm import WarmMemories
from memory.warm_files import WARM

START_S: Final = 60.0
REQUEST_S: Final = 30.0
NAMES_PER_READ: Final = 100


async def erase_user(place: StorePlace, user: UserId, report: Report) -> int:
    """Erase all of *user* from the store at *place*, whose data folder is held by the caller; how
    many records there were, messages and conversations.

    It stands in the ledger first: what is not finished here is finished by the server. Where the
    store is on another server its records are deleted, and its files are left to that.

    Raises:
        MemoryFault: something was in the way; again is safe.
    """
    with closing(await anyio.to_thread.run_sync(SqliteLedger.open, place.data_dir)) as ledger:
        erasure, records = ledger.begin(user), 0
        for journal in journal_folders(place.data_dir):
            records += await anyio.to_thread.run_sync(forget_offline, journal, user)
        await WarmMemories(place.data_dir / WARM, fingerprint="", exclusive=True).forget_user(user)
        async with AsyncExitStack() as stack:
            address, scrubber = place.url, None
            if not place.url:
                address, scrubber = await stack.enter_async_context(_private(place.data_dir))
            client = ChromaClient(address, timeout_s=REQUEST_S)
            stack.push_async_callback(client.aclose)
            records += await _delete(client, place.prefix, user, report)
            if scrubber is not None:
                report("scrubbing the files", 0.5)
                await scrubber.scrub()
                if await scrubber.holds_user(user):
                    raise StoreUnavailable("records of the user are in the store still")
        ledger.finish(erasure)
        return records


@asynccontextmanager
async def _private(data_dir: Path) -> AsyncIterator[tuple[str, Scrubber]]:
    """The private Chroma of *data_dir*, and what scrubs its files."""
    process = ChromaProcess(data_dir)
    await anyio.to_thread.run_sync(check_database, process.folder / DATABASE)
    child, gate = ChildProcess(process), StoreGate()

    @asynccontextmanager
    async def held(_reason: str) -> AsyncIterator[None]:
        async with child.stopped():
            yield
        await child.wait_ready(START_S)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.run)
        await child.wait_ready(START_S)
        yield (
            process.url,
            Scrubber(process.folder, held=held, writes_held=gate.closed_to_batches),
        )
        tasks.cancel_scope.cancel()


async def _delete(client: ChromaClient, prefix: str, user: UserId, report: Report) -> int:
    """Delete *user*'s records and own collections, however users are placed; how many records
    there were.
    """
    names: list[tuple[str, str | None]] = []
    while True:
        page = await client.list_collections(NAMES_PER_READ, len(names))
        names += [(model.name, (model.metadata or {}).get("owner")) for model in page]
        if len(page) < NAMES_PER_READ:
            break
    erasure = ChromaErasure(client, dimension=1)  # nothing is put in the place of what is deleted
    own = [(name, owner) for name, owner in names if name.startswith(prefix)]
    deleted = 0
    for number, (name, owner) in enumerate(own):
        report("deleting records", 0.5 * number / len(own))
        if owner == user:
            deleted += await erasure.drop(name, user)
        elif owner is None:
            deleted += await erasure.delete_user(name, user)
    return deleted
