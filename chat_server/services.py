"""The wiring: the only module that names concrete back ends. Read from top to bottom."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from anyio import create_task_group
from anyio.abc import TaskGroup

from chat_server.authentication import AdminGuard, Authenticator
from chat_server.connections import Connections
from chat_server.desk import Desk
from chat_server.fanout import Fanout
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from chat_server.offline_responder import OfflineResponder
from chat_server.openai_model import OpenAIReplyModel
from chat_server.rate_limit import RateLimiter
from chat_server.readiness import Part, Readiness
from chat_server.reply_model import ReplyModel
from chat_server.runs import Runs
from chat_server.secrets_file import load_or_make, secret_path
from chat_server.settings import ConfigError, Settings
from chat_server.state import State
from chat_server.supervision import supervise
from chat_server.turn import Turns
from memory.child_process import ChildProcess, ChildSpec
from memory.chroma import ChromaLongTermMemory
from memory.chroma_process import ChromaProcess
from memory.dual_memory import DualMemory
from memory.embedding import Embedder
from memory.errors import ChildFailed
from memory.hot import open_hot_memories
from memory.onnx_embedder import OnnxEmbedder
from memory.placement import make_placement
from memory.redis import RedisShortTermMemory
from memory.redis_process import RedisProcess
from memory.short_term import ShortTermPolicy
from memory.short_term_breaker import ShortTermBreaker
from memory.torch_embedder import TorchEmbedder

log = structlog.get_logger(__name__)


def model_folder(settings: Settings) -> Path:
    """Where the prepared embedding model lies."""
    return settings.data_dir / "models" / settings.embedding.model.rpartition("/")[2]


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
async def open_services(
    settings: Settings, pseudonyms: Pseudonyms | None = None
) -> AsyncIterator[State]:
    """Open everything in the order of need; it is closed in reverse.

    Returns before the children serve: ``/readyz`` and the log say when they do. What goes on at
    the end of the context is cancelled, turns first, stores last. *pseudonyms* are the ones of
    the log, so that figures and log lines of a user can be told to belong together.
    """
    metrics = Metrics(pseudonyms or Pseudonyms())
    async with AsyncExitStack() as stack:
        embedder = open_embedder(settings)
        stack.push_async_callback(embedder.aclose)
        long_term, chroma = await open_long_term(settings, embedder, metrics, stack)
        short_term, redis = await open_short_term(settings, metrics, stack)
        readiness = Readiness([chroma, redis])
        background = await stack.enter_async_context(cancelled_at_end())
        for part in readiness.parts:
            background.start_soon(supervise, f"watch {part.name}", partial(readiness.watch, part))
        background.start_soon(supervise, "event loop lag", metrics.watch_event_loop)

        memory = await open_memory(settings, long_term, short_term, embedder, stack)
        model, fallback = open_model(settings)
        stack.push_async_callback(model.aclose)
        desk = Desk(
            memory=memory,
            model=model,
            fallback=fallback,
            runs=Runs(),
            fanout=Fanout(),
            metrics=metrics,
            system_prompt=settings.model.system_prompt,
            context_tokens=settings.recall.context_tokens,
            max_results=settings.recall.max_results,
        )
        limiter = RateLimiter(short_term, short_term_policy(settings))
        turns = Turns(
            desk,
            limiter,
            tasks=await stack.enter_async_context(cancelled_at_end()),
            max_text_bytes=settings.server.max_text_bytes,
        )
        yield State(
            settings=settings,
            model_name=model.name,
            authenticator=open_authenticator(settings),
            admin=open_admin(settings),
            memory=memory,
            limiter=limiter,
            turns=turns,
            runs=desk.runs,
            fanout=desk.fanout,
            connections=Connections(metrics),
            readiness=readiness,
            metrics=metrics,
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


async def open_long_term(
    settings: Settings, embedder: Embedder, metrics: Metrics, stack: AsyncExitStack
) -> tuple[ChromaLongTermMemory, Part]:
    """Chroma: the server of ``chroma.url``, else a child of this process."""
    address: str | Callable[[], str] = settings.chroma.url
    child = None
    if not settings.chroma.url:
        own = ChromaProcess(settings.data_dir)
        child = await start_child(own, metrics, stack)
        address = lambda: own.url  # noqa: E731  # it may come back on another port
    long_term = ChromaLongTermMemory(
        address,
        make_placement(
            settings.chroma.placement,
            prefix=settings.chroma.collection_prefix,
            shards=settings.chroma.shards,
        ),
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        timeout_s=settings.chroma.timeout_s,
        on_batch=metrics.batch_written,
    )
    stack.push_async_callback(long_term.aclose)
    writing = await stack.enter_async_context(cancelled_at_end())
    await writing.start(long_term.run)
    return long_term, part("chroma", child, long_term.ping, essential=True)


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


async def open_memory(
    settings: Settings,
    long_term: ChromaLongTermMemory,
    short_term: ShortTermBreaker,
    embedder: Embedder,
    stack: AsyncExitStack,
) -> DualMemory:
    """Both memories in tandem, with what is kept in RAM and what is written behind."""
    hot = await stack.enter_async_context(
        open_hot_memories(
            long_term,
            hot_messages=settings.recall.hot_messages,
            hot_bytes=settings.recall.hot_bytes,
        )
    )
    memory = DualMemory(
        long_term, short_term, embedder, hot, window_messages=settings.redis.window_messages
    )
    writing_behind = await stack.enter_async_context(cancelled_at_end())
    writing_behind.start_soon(supervise, "conversations", memory.conversations.run)
    writing_behind.start_soon(supervise, "distrusted windows", memory.drop_distrusted)
    return memory


def model_server(settings: Settings) -> tuple[str | None, str | None]:
    """Key and address of the language model's server, each ``None`` where it is not given.

    Raises:
        ConfigError: the address is none; names the variable.
    """
    named = os.environ.get("OPENAI_BASE_URL") or None
    if named is not None and not named.lower().startswith(("http://", "https://")):
        raise ConfigError("OPENAI_BASE_URL: an address begins with http:// or https://")
    return os.environ.get("OPENAI_API_KEY") or None, settings.model.base_url or named


def open_model(settings: Settings) -> tuple[ReplyModel, ReplyModel]:
    """What writes replies, and what answers when that fails."""
    key, base_url = model_server(settings)
    if key is None and base_url is None:
        log.warning(
            "model.not_configured", answer="from memory; set OPENAI_API_KEY or OPENAI_BASE_URL"
        )
        offline = OfflineResponder("not_configured")
        return offline, offline
    model = OpenAIReplyModel.open(settings.model, api_key=key, base_url=base_url)
    return model, OfflineResponder("unreachable")


def open_authenticator(settings: Settings) -> Authenticator:
    """Signs sessions with ``auth.secret``, made at first start where none is given."""
    secret = load_or_make(settings.data_dir, "session-secret", settings.auth.secret)
    return Authenticator(secret, guests=settings.auth.guests)


def open_admin(settings: Settings) -> AdminGuard:
    """Guards the admin routes with ``auth.admin_token``, made likewise; its place is printed."""
    token = load_or_make(settings.data_dir, "admin-token", settings.auth.admin_token)
    if not settings.auth.admin_token.get_secret_value():
        log.info("admin.token_kept", file=str(secret_path(settings.data_dir, "admin-token")))
    return AdminGuard(token)
