"""The wiring of what is kept: embedder, long-term and short-term memory, their children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from functools import partial

from anyio import to_thread

from chat_server.children import (
    kept_part,
    looked_after_part,
    open_keeper,
    part,
    start_child,
    surroundings_of,
)
from chat_server.metrics import Metrics
from chat_server.readiness import Part
from chat_server.settings import Settings
from chat_server.supervision import cancelled_at_end, supervise
from chat_server.worker_link import WorkerLink
from memory.chroma import ChromaLongTermMemory
from memory.chroma_client import Address
from memory.dual_memory import DualMemory
from memory.embedding import Embedder
from memory.embedding_fallback import EmbeddingFallback
from memory.free_space import FreeSpace
from memory.hidden_users import GuardedLongTermMemory
from memory.hot import open_hot_memories
from memory.hot_entries import HotLimits
from memory.journal import Journal
from memory.journal_folders import journal_folder
from memory.messages import MessageId, UserId
from memory.placement import Placement, make_placement
from memory.redis import RedisShortTermMemory
from memory.redis_process import RedisProcess
from memory.short_term import ShortTermPolicy
from memory.short_term_breaker import ShortTermBreaker
from memory.surroundings import Surroundings
from memory.upkeep.erasure import Erasures
from memory.upkeep.erasure_door import ErasureDoor, Keepsake
from memory.upkeep.keeper import ChromaKeeper
from memory.upkeep.ledger import SqliteLedger
from memory.upkeep.scrubbing import Scrubber
from memory.warm import WarmMemories
from memory.warm_files import WARM

DEEP_MESSAGES = 100_000
"""So many of a user's messages are searched, if ``recall.hot_bytes`` has room for them."""


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


async def open_chroma(
    settings: Settings,
    embedder: Embedder,
    address: Address,
    surroundings: Surroundings,
    stack: AsyncExitStack,
) -> ChromaLongTermMemory:
    """Long-term memory on the Chroma at *address*; it writes until *stack* closes."""
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
    return long_term


async def open_long_term(
    settings: Settings,
    embedder: Embedder,
    metrics: Metrics,
    stack: AsyncExitStack,
    link: WorkerLink | None = None,
) -> tuple[ChromaLongTermMemory, Part, ChromaKeeper | None]:
    """Chroma: the server of ``chroma.url``, else the supervisor's at the other end of *link*, else
    a child of this process and its keeper.
    """
    if settings.chroma.url:
        around = Surroundings(shared=True, on_batch=metrics.batch_written)
        remote = await open_chroma(settings, embedder, settings.chroma.url, around, stack)
        return remote, part("chroma", None, remote.ping, essential=True), None
    if link is not None:
        space = FreeSpace(settings.data_dir)
        around = Surroundings(
            shared=True,
            on_batch=metrics.batch_written,
            incomplete=link.incomplete,
            before_write=space.check,
            gate=link.gate,
            on_damage=link.suspect,
        )
        shared = await open_chroma(settings, embedder, link.address, around, stack)
        return shared, looked_after_part(link, space, shared.ping), None
    keeper = await open_keeper(settings, embedder, metrics, stack)
    around = surroundings_of(keeper, metrics, shared=False)
    own = await open_chroma(settings, embedder, keeper.address, around, stack)
    return own, kept_part(keeper, own.ping), keeper


async def open_short_term(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack, *, has_child: bool = True
) -> tuple[ShortTermBreaker, Part]:
    """Redis: the server of ``redis.url``, else a child of this process, or of the supervisor."""
    url = settings.redis.url
    child = None
    if not url:
        own = RedisProcess(settings.data_dir)
        child = await start_child(own, metrics, stack) if has_child else None
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


async def open_journal(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack, *, slot: int = 0
) -> Journal:
    """The journal of *slot* in the data folder, with what the last process left in it."""
    folder = journal_folder(settings.data_dir, slot)
    journal = await to_thread.run_sync(
        partial(Journal.open, folder, on_failure=metrics.journal_failed)
    )
    writing = await stack.enter_async_context(cancelled_at_end())
    writing.start_soon(supervise, "journal", journal.run)
    return journal


async def make_memory(
    settings: Settings,
    long_term: GuardedLongTermMemory,
    short_term: ShortTermBreaker,
    embedder: Embedder,
    stack: AsyncExitStack,
) -> DualMemory:
    """Both memories in tandem, with what is kept in RAM; that is for all processes together."""
    workers = settings.server.workers
    hot = await stack.enter_async_context(
        open_hot_memories(
            long_term,
            HotLimits(
                messages=settings.recall.hot_messages,
                size_bytes=settings.recall.hot_bytes // workers,
                deep_messages=DEEP_MESSAGES,
            ),
            warm=WarmMemories(
                settings.data_dir / WARM,
                fingerprint=embedder.fingerprint,
                exclusive=not settings.chroma.url and workers == 1,
            ),
            embed=EmbeddingFallback(embedder).embedded_many,
        )
    )
    memory = DualMemory(
        long_term, short_term, embedder, hot, window_messages=settings.redis.window_messages
    )
    memory.conversations.shared = workers > 1 or bool(settings.chroma.url)
    return memory


async def open_memory(
    settings: Settings,
    long_term: GuardedLongTermMemory,
    short_term: ShortTermBreaker,
    embedder: Embedder,
    stack: AsyncExitStack,
) -> DualMemory:
    """The same, with what is written behind."""
    memory = await make_memory(settings, long_term, short_term, embedder, stack)
    writing_behind = await stack.enter_async_context(cancelled_at_end())
    writing_behind.start_soon(supervise, "conversations", memory.conversations.run)
    writing_behind.start_soon(supervise, "distrusted windows", memory.drop_distrusted)
    writing_behind.start_soon(supervise, "missing vectors", memory.backfill.run)
    return memory


async def open_ledger(settings: Settings, stack: AsyncExitStack) -> SqliteLedger:
    """The ledger of erasures of the data folder."""
    ledger = await to_thread.run_sync(SqliteLedger.open, settings.data_dir)
    stack.callback(ledger.close)
    return ledger


def scrubber_of(keeper: ChromaKeeper | None) -> Scrubber | None:
    """What scrubs the files of the private Chroma, where there is one."""
    if keeper is None:
        return None
    return Scrubber(keeper.folder, held=keeper.held, writes_held=keeper.gate.closed_to_batches)


async def open_erasures(
    settings: Settings,
    memory: DualMemory,
    guard: GuardedLongTermMemory,
    keepsakes: Sequence[Keepsake],
    stack: AsyncExitStack,
    beside: ChromaKeeper | WorkerLink | None,
) -> tuple[ErasureDoor, Callable[[], Awaitable[None]]]:
    """Where erasures are asked for, and what is to be run for it: that carries them out, unless
    the supervisor *beside* this process does.
    """
    ledger = await open_ledger(settings, stack)
    if isinstance(beside, WorkerLink):
        door = ErasureDoor(
            ledger, memory, guard, keepsakes=keepsakes, scrubs=not settings.chroma.url
        )
        door.tell_others = beside.tell_erased
        return door, door.watch
    erasures = Erasures(ledger, memory, guard, scrubber_of(beside), keepsakes=keepsakes)
    return erasures, erasures.run


class PendingWrites:
    """What waits to be written to the store, as a place that keeps words."""

    def __init__(self, long_term: ChromaLongTermMemory) -> None:
        self._long_term = long_term

    async def forget_user(self, user: UserId) -> None:
        """Let nothing of *user*'s be written that was asked for before this returns."""
        await self._long_term.end_writes(user)

    async def forget_messages(self, ids: Collection[MessageId]) -> None:
        """Nothing: messages that are deleted were written."""
