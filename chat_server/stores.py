"""The wiring of what is kept: embedder, long-term and short-term memory, their children."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
from anyio import create_task_group, to_thread
from anyio.abc import TaskGroup

from chat_server.metrics import Metrics
from chat_server.readiness import Part
from chat_server.settings import Settings
from chat_server.supervision import supervise
from memory.child_process import ChildProcess, ChildSpec
from memory.chroma import ChromaLongTermMemory
from memory.dual_memory import DualMemory
from memory.embedding import Embedder
from memory.embedding_fallback import EmbeddingFallback
from memory.errors import ChildFailed
from memory.hidden_users import GuardedLongTermMemory
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.journal import Journal
from memory.onnx_embedder import OnnxEmbedder
from memory.placement import Placement, make_placement
from memory.redis import RedisShortTermMemory
from memory.redis_process import RedisProcess
from memory.short_term import ShortTermPolicy
from memory.short_term_breaker import ShortTermBreaker
from memory.surroundings import Surroundings
from memory.torch_embedder import TorchEmbedder
from memory.upkeep.erasure import Erasures
from memory.upkeep.keeper import ChromaKeeper
from memory.upkeep.ledger import SqliteLedger
from memory.upkeep.scrubbing import Scrubber
from memory.warm import WarmMemories
from memory.warm_files import WARM

DEEP_MESSAGES = 100_000
"""So many of a user's messages are searched, if ``recall.hot_bytes`` has room for them."""


def model_folder(settings: Settings) -> Path:
    """Where the prepared embedding model lies."""
    return settings.data_dir / "models" / settings.embedding.model.rpartition("/")[2]


def placement(settings: Settings) -> Placement:
    """How users are placed, from ``[chroma]``."""
    return make_placement(
        settings.chroma.placement,
        prefix=settings.chroma.collection_prefix,
        shards=settings.chroma.shards,
    )


def short_term_policy(settings: Settings) -> ShortTermPolicy:
    """The numbers of short-term memory, from ``[limits]`` and ``[redis]``."""
    return ShortTermPolicy(
        user_limit=settings.limits.per_user,
        global_limit=settings.limits.global_,
        limit_window_s=settings.limits.window_s,
        ttl_active_s=settings.redis.ttl_active_s,
        ttl_inactive_s=settings.redis.ttl_inactive_s,
        active_within_s=settings.redis.active_within_s,
        window_messages=settings.redis.window_messages,
    )


@asynccontextmanager
async def cancelled_at_end() -> AsyncIterator[TaskGroup]:
    """A task group whose tasks end with the context."""
    async with create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


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


def open_embedder(settings: Settings) -> Embedder:
    """The embedder of ``[embedding]``; the heavy one is imported by its backend only."""
    if settings.embedding.backend == "torch":
        return TorchEmbedder.open(settings.embedding.model, threads=settings.embedding.threads)
    return OnnxEmbedder.open(model_folder(settings), threads=settings.embedding.threads)


async def open_keeper(
    settings: Settings, embedder: Embedder, metrics: Metrics, stack: AsyncExitStack
) -> ChromaKeeper:
    """The private Chroma of the data folder, looked after; it is stopped when *stack* closes."""
    keeper = ChromaKeeper(
        settings.data_dir,
        embedder,
        on_restart=metrics.child_restarted,
        on_healing=metrics.healing_began,
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


async def open_long_term(
    settings: Settings, embedder: Embedder, metrics: Metrics, stack: AsyncExitStack
) -> tuple[ChromaLongTermMemory, Part, ChromaKeeper | None]:
    """Chroma: the server of ``chroma.url``, else a child of this process and its keeper."""
    address: str | Callable[[], str] = settings.chroma.url
    surroundings = Surroundings(shared=True, on_batch=metrics.batch_written)
    keeper = None
    if not settings.chroma.url:
        keeper = await open_keeper(settings, embedder, metrics, stack)
        address = keeper.address
        surroundings = Surroundings(
            on_batch=metrics.batch_written,
            incomplete=keeper.healing,
            before_write=keeper.space.check,
            gate=keeper.gate,
            on_damage=keeper.suspect,
        )
    long_term = ChromaLongTermMemory(
        address,
        placement(settings),
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        timeout_s=settings.chroma.timeout_s,
        surroundings=surroundings,
    )
    stack.push_async_callback(long_term.aclose)
    writing = await stack.enter_async_context(cancelled_at_end())
    await writing.start(long_term.run)
    if keeper is not None:
        return long_term, kept_part(keeper, long_term.ping), keeper
    return long_term, part("chroma", None, long_term.ping, essential=True), None


async def open_short_term(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> tuple[ShortTermBreaker, Part]:
    """Redis: the server of ``redis.url``, else a child of this process."""
    url = settings.redis.url
    child = None
    if not url:
        own = RedisProcess(settings.data_dir)
        child = await start_child(own, metrics, stack)
        url = own.url
    short_term = RedisShortTermMemory.open(
        url,
        policy=short_term_policy(settings),
        prefix=settings.redis.key_prefix,
        timeout_s=settings.redis.timeout_s,
    )
    stack.push_async_callback(short_term.aclose)
    breaker = ShortTermBreaker(short_term, on_failure=metrics.short_term_degraded)
    return breaker, part("redis", child, breaker.ping, essential=False)


async def open_journal(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Journal:
    """The journal in the data folder, with what the last process left in it."""
    journal = await to_thread.run_sync(
        partial(Journal.open, settings.data_dir / "journal", on_failure=metrics.journal_failed)
    )
    writing = await stack.enter_async_context(cancelled_at_end())
    writing.start_soon(supervise, "journal", journal.run)
    return journal


async def open_memory(
    settings: Settings,
    long_term: GuardedLongTermMemory,
    short_term: ShortTermBreaker,
    embedder: Embedder,
    stack: AsyncExitStack,
) -> DualMemory:
    """Both memories in tandem, with what is kept in RAM and what is written behind."""
    hot = await stack.enter_async_context(
        open_hot_memories(
            long_term,
            HotLimits(
                messages=settings.recall.hot_messages,
                size_bytes=settings.recall.hot_bytes,
                deep_messages=DEEP_MESSAGES,
            ),
            warm=WarmMemories(
                settings.data_dir / WARM,
                fingerprint=embedder.fingerprint,
                exclusive=not settings.chroma.url,
            ),
            embed=EmbeddingFallback(embedder).embedded_many,
        )
    )
    memory = DualMemory(
        long_term, short_term, embedder, hot, window_messages=settings.redis.window_messages
    )
    writing_behind = await stack.enter_async_context(cancelled_at_end())
    writing_behind.start_soon(supervise, "conversations", memory.conversations.run)
    writing_behind.start_soon(supervise, "distrusted windows", memory.drop_distrusted)
    writing_behind.start_soon(supervise, "missing vectors", memory.backfill.run)
    return memory


async def open_erasures(
    settings: Settings,
    memory: DualMemory,
    guard: GuardedLongTermMemory,
    journal: Journal,
    keeper: ChromaKeeper | None,
    stack: AsyncExitStack,
) -> Erasures:
    """What carries out erasures, with the ledger of the data folder; resume and run it."""
    ledger = await to_thread.run_sync(SqliteLedger.open, settings.data_dir)
    stack.callback(ledger.close)
    scrubber = None
    if keeper is not None:
        scrubber = Scrubber(
            keeper.folder, held=keeper.held, writes_held=keeper.gate.closed_to_batches
        )
    return Erasures(ledger, memory, guard, scrubber, keepsakes=[journal, *memory.hot.keepsakes])
