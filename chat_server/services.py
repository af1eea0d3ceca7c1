"""The wiring, read from top to bottom; what is kept is opened by :mod:`chat_server.stores`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from anyio.abc import TaskGroup

from chat_server.authentication import AdminGuard, Authenticator
from chat_server.connections import Connections
from chat_server.desk import Desk
from chat_server.embedders import open_embedder
from chat_server.errors import ChatError
from chat_server.fanout import Fanout
from chat_server.late_replies import LateReplies
from chat_server.log_config import Pseudonyms
from chat_server.metrics import Metrics
from chat_server.model_server import model_server
from chat_server.neighbourhood import open_neighbourhood
from chat_server.offline_responder import OfflineResponder
from chat_server.openai_model import OpenAIReplyModel
from chat_server.rate_limit import RateLimiter
from chat_server.readiness import Readiness
from chat_server.reply_model import ReplyModel
from chat_server.runs import Runs
from chat_server.secrets_file import load_or_make, secret_path
from chat_server.settings import Settings
from chat_server.state import State
from chat_server.stores import (
    PendingWrites,
    open_erasures,
    open_journal,
    open_long_term,
    open_memory,
    open_short_term,
    short_term_policy,
)
from chat_server.supervision import cancelled_at_end, supervise
from chat_server.switchboard import Switchboard
from chat_server.turn import Turns
from chat_server.worker_link import WorkerLink
from chat_server.workforce import Workforce
from memory.dual_memory import DualMemory
from memory.hidden_users import GuardedLongTermMemory
from memory.messages import UserId
from memory.upkeep.erasure_door import Keepsake
from memory.upkeep.keeper import ChromaKeeper

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_services(
    settings: Settings, pseudonyms: Pseudonyms | None = None, link: WorkerLink | None = None
) -> AsyncIterator[State]:
    """Open everything in the order of need; it is closed in reverse.

    Returns before the children serve: ``/readyz`` and the log say when they do. What goes on at
    the end of the context is cancelled, turns first, stores last. *pseudonyms* are the ones of
    the log, so that figures and log lines of a user can be told to belong together. With a *link*
    this process is one of several: the supervisor at its other end has the children, and carries
    out erasures.
    """
    metrics = Metrics(pseudonyms or Pseudonyms())
    async with AsyncExitStack() as stack:
        embedder = open_embedder(settings)
        stack.push_async_callback(embedder.aclose)
        long_term, chroma, keeper = await open_long_term(settings, embedder, metrics, stack, link)
        short_term, redis = await open_short_term(settings, metrics, stack, has_child=link is None)
        readiness = Readiness([chroma, redis])
        background = await stack.enter_async_context(cancelled_at_end())
        for part in readiness.parts:
            background.start_soon(supervise, f"watch {part.name}", partial(readiness.watch, part))
        background.start_soon(supervise, "event loop lag", metrics.watch_event_loop)

        guard = GuardedLongTermMemory(long_term)
        memory = await open_memory(settings, guard, short_term, embedder, stack)
        watch_memory(memory, metrics, keeper or link)
        connections = open_connections(settings, metrics, background)
        runs, fanout = Runs(), Fanout(on_return=metrics.live.returned)
        background.start_soon(supervise, "fanout", fanout.run)
        model, fallback = open_model(settings)
        stack.push_async_callback(model.aclose)
        slot = None if link is None else link.slot
        neighbourhood = await open_neighbourhood(settings, slot, fanout, runs, stack)
        journal = await open_journal(settings, metrics, stack, slot=slot or 0)
        late = LateReplies(memory, runs, fanout, journal, metrics)
        late.take_over(journal.kept)
        keepsakes: list[Keepsake] = [journal, PendingWrites(long_term), *memory.hot.keepsakes]
        erasures, erasing = await open_erasures(
            settings, memory, guard, keepsakes, stack, link or keeper
        )
        background.start_soon(supervise, "erasures", erasing)
        erasures.on_begin(partial(sign_out_erased, runs, late, fanout))
        erasures.on_messages(fanout.forget)
        await erasures.resume()
        workforce = Workforce(metrics, runs, fanout, memory.hot)
        if link is not None:
            link.serve(workforce, erasures, readiness)
        storing = await stack.enter_async_context(cancelled_at_end())
        storing.start_soon(supervise, "late replies", late.run)
        desk = Desk(
            memory=memory,
            model=model,
            fallback=fallback,
            runs=runs,
            fanout=fanout,
            journal=journal,
            late=late,
            metrics=metrics,
            system_prompt=settings.model.system_prompt,
            context_tokens=settings.recall.context_tokens,
            max_results=settings.recall.max_results,
        )
        limiter = RateLimiter(
            short_term, short_term_policy(settings), workers=settings.server.workers
        )
        turns = Turns(
            desk,
            limiter,
            tasks=await stack.enter_async_context(cancelled_at_end()),
            max_text_bytes=settings.server.max_text_bytes,
        )
        switchboard = Switchboard(
            turns,
            runs,
            memory,
            neighbourhood.neighbours if neighbourhood else None,
            is_busy=late.waits_in,
        )
        state = State(
            settings=settings,
            model_name=model.name,
            authenticator=open_authenticator(settings),
            admin=open_admin(settings),
            memory=memory,
            limiter=limiter,
            turns=turns,
            switchboard=switchboard,
            runs=runs,
            late=late,
            erasures=erasures,
            fanout=fanout,
            connections=connections,
            readiness=readiness,
            metrics=metrics,
            workforce=workforce,
        )
        if neighbourhood is not None:
            await neighbourhood.serve(state, desk)
        yield state


def open_connections(settings: Settings, metrics: Metrics, background: TaskGroup) -> Connections:
    """The connections of this process, none yet, and the clock that wakes them."""
    connections = Connections(
        metrics,
        most=settings.server.max_connections,
        most_per_user=settings.server.max_connections_per_user,
    )
    background.start_soon(supervise, "clock of connections", connections.clock.run)
    return connections


def watch_memory(
    memory: DualMemory, metrics: Metrics, healer: ChromaKeeper | WorkerLink | None
) -> None:
    """Count what goes wrong in *memory*, and read anew what was healed."""
    memory.embedding.on_failure = metrics.embedding_failed
    metrics.watch_unembedded(lambda: memory.backfill.left)
    if healer is not None:
        healer.on_healed(lambda _collection: memory.hot.forget_all())


def sign_out_erased(runs: Runs, late: LateReplies, fanout: Fanout, user: UserId) -> None:
    """End what goes on for *user*, who is being erased: replies and connections."""
    runs.abandon_user(user)
    late.forget_user(user)
    reason = ChatError("not_authenticated", "all that you said is being erased; you are signed out")
    fanout.close_user(user, reason)


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
