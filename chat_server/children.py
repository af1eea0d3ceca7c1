"""The private children as parts of the server: started, watched, and looked after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from chat_server.metrics import Metrics
from chat_server.readiness import Part
from chat_server.settings import Settings
from chat_server.supervision import cancelled_at_end, supervise
from chat_server.worker_link import WorkerLink
from memory.child_process import ChildProcess, ChildSpec
from memory.embedding import Embedder
from memory.errors import ChildFailed
from memory.free_space import FreeSpace
from memory.store_gate import StoreGate
from memory.surroundings import Surroundings
from memory.upkeep.keeper import ChromaKeeper


async def start_child(spec: ChildSpec, metrics: Metrics, stack: AsyncExitStack) -> ChildProcess:
    """Start and watch a child; it is stopped when *stack* closes."""
    child = ChildProcess(spec, on_restart=metrics.child_restarted)
    tasks = await stack.enter_async_context(cancelled_at_end())
    tasks.start_soon(supervise, spec.name, child.run)
    return child


def part(
    name: str, child: ChildProcess | None, ping: Callable[[], Awaitable[None]], *, essential: bool
) -> Part:
    """A part that is ready when its child runs, if it has one, and its server answers."""

    async def check() -> None:
        if child is not None and child.state != "ready":
            raise ChildFailed(f"the private {name} is {child.state}: {child.reason}")
        await ping()

    return Part(name, check, essential=essential)


async def open_keeper(
    settings: Settings,
    embedder: Embedder,
    metrics: Metrics,
    stack: AsyncExitStack,
    gate: StoreGate | None = None,
) -> ChromaKeeper:
    """The private Chroma of the data folder, looked after; it is stopped when *stack* closes."""
    keeper = ChromaKeeper(
        settings.data_dir,
        embedder,
        on_restart=metrics.child_restarted,
        on_healing=metrics.healing_began,
        gate=gate,
    )
    metrics.watch_healing(keeper.remaining)
    stack.push_async_callback(keeper.aclose)
    tasks = await stack.enter_async_context(cancelled_at_end())
    tasks.start_soon(supervise, "chroma", keeper.child.run)
    tasks.start_soon(supervise, "keeper of chroma", keeper.run)
    return keeper


def kept_part(keeper: ChromaKeeper, ping: Callable[[], Awaitable[None]]) -> Part:
    """The private Chroma: while it is held for a moment requests wait, and it counts as ready."""

    async def check() -> None:
        keeper.space.check()
        if keeper.child.state == "held":
            return
        await part("chroma", keeper.child, ping, essential=True).check()

    def healing() -> dict[str, int] | None:
        progress = keeper.progress()
        return None if progress is None else msgspec.structs.asdict(progress)

    return Part("chroma", check, essential=True, healing=healing)


def looked_after_part(
    link: WorkerLink, space: FreeSpace, ping: Callable[[], Awaitable[None]]
) -> Part:
    """The private Chroma of another process, likewise."""

    async def check() -> None:
        space.check()
        if link.check_store():
            await ping()

    return Part("chroma", check, essential=True, healing=link.progress)


def surroundings_of(keeper: ChromaKeeper, metrics: Metrics, *, shared: bool) -> Surroundings:
    """What is around a client of the private Chroma, in the process that has it."""
    return Surroundings(
        shared=shared,
        on_batch=metrics.batch_written,
        incomplete=keeper.healing,
        before_write=keeper.space.check,
        gate=keeper.gate,
        on_damage=keeper.suspect,
    )
